// `BankJob` of every vector instruction set: lanes are kernels, so a step of the window is one broadcast.
#pragma once

#include "isa/filter_bank.h"

namespace edgesparse {
namespace {

// Thresholds `first` to `first + Q` of W kernels at one token: the sums over its real steps.
template <int Q>
EDGESPARSE_INLINE void bank_sums(const BankJob& job, int64_t token, int64_t dilation, const float* weight, F slope,
                                 const float* offset, F (&sum)[Q]) {
  const F zero = Vector::broadcast(0.0f), one = Vector::broadcast(1.0f);
  for (int64_t step = token * job.patch; step < (token + 1) * job.patch; ++step) {
    if (!job.real[step]) continue;
    F response = zero;
    for (int64_t c = 0; c < job.channels; ++c) {
      const float* x = job.window + c * job.window_stride + step - job.before * dilation;
      const float* w = weight + c * kBankLength * kPanelKeys;
#pragma GCC unroll 9
      for (int tap = 0; tap < kBankLength; ++tap)
        response = Vector::fma(Vector::load(w + tap * kPanelKeys), Vector::broadcast(x[tap * dilation]), response);
    }
    response = response * slope;
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) {
      const F above = response + Vector::load(offset + q * kPanelKeys);
      sum[q] = sum[q] + -Vector::max(-Vector::max(above, zero), -one);
    }
  }
}

// Features of W kernels at one token. With four thresholds in all, the features of a kernel lie side by side
// and two rounds of interleaving put the lanes in their order.
template <int Q>
EDGESPARSE_INLINE void bank_lanes(const BankJob& job, int64_t token, int64_t l, int64_t lane, int64_t first,
                                  float share, float* to) {
  const int64_t panel = l * bank_panels(job.kernels) + lane / kPanelKeys, within = lane % kPanelKeys;
  F sum[Q] = {};
  bank_sums<Q>(job, token, job.dilations[l], job.weight + panel * job.channels * kBankLength * kPanelKeys + within,
               Vector::load(job.slope + panel * kPanelKeys + within),
               job.offset + (panel * job.thresholds + first) * kPanelKeys + within, sum);
  const int64_t count = job.kernels - lane < W ? job.kernels - lane : W;
  const int64_t feature = (l * job.kernels + lane) * job.thresholds + first;
  float lanes[Q * W] = {};
  if (Q == 4 && job.thresholds == 4) {
    const F low_02 = Vector::interleave_low(sum[0], sum[2 % Q]), high_02 = Vector::interleave_high(sum[0], sum[2 % Q]);
    const F low_13 = Vector::interleave_low(sum[1 % Q], sum[3 % Q]),
            high_13 = Vector::interleave_high(sum[1 % Q], sum[3 % Q]);
    const F ordered[4] = {Vector::interleave_low(low_02, low_13), Vector::interleave_high(low_02, low_13),
                          Vector::interleave_low(high_02, high_13), Vector::interleave_high(high_02, high_13)};
    const F factor = Vector::broadcast(share);
    int64_t i = 0;
    for (; i < 4 && (i + 1) * W <= count * 4; ++i)
      Vector::store(to + feature + i * W, (ordered[i] * factor - Vector::load(job.center + feature + i * W)) *
                                              Vector::load(job.inverse + feature + i * W));
    if (i * W >= count * 4) return;
    Vector::store(lanes, ordered[i]);
    for (int64_t j = i * W; j < count * 4; ++j)
      to[feature + j] = (lanes[j - i * W] * share - job.center[feature + j]) * job.inverse[feature + j];
    return;
  }
  for (int q = 0; q < Q; ++q) Vector::store(lanes + q * W, sum[q]);
  for (int64_t k = 0; k < count; ++k)
    for (int q = 0; q < Q; ++q) {
      const int64_t f = feature + k * job.thresholds + q;
      to[f] = (lanes[q * W + k] * share - job.center[f]) * job.inverse[f];
    }
}

void bank(const BankJob& job) {
  for (int64_t i = 0; i < job.tokens; ++i) {
    const int64_t token = job.first_token + i;
    int64_t count = 0;
    for (int64_t step = token * job.patch; step < (token + 1) * job.patch; ++step) count += job.real[step] != 0;
    const float share = 1.0f / (float)(count ? count : 1);
    float* const to = job.output + i * bank_features(job);
    for (int64_t l = 0; l < job.dilation_count; ++l)
      for (int64_t lane = 0; lane < job.kernels; lane += W) {
        int64_t first = 0;
        for (; first + 4 <= job.thresholds; first += 4) bank_lanes<4>(job, token, l, lane, first, share, to);
        for (; first < job.thresholds; ++first) bank_lanes<1>(job, token, l, lane, first, share, to);
      }
  }
}

}  // namespace
}  // namespace edgesparse
