// `BankJob` of every vector instruction set: lanes are filters, so a step of the window is one broadcast.
#pragma once

#include "isa/filter_bank.h"
#include "isa/tiles/math.h"

namespace edgesparse {
namespace {

// Thresholds `first` to `first + Q` of W filters at one token: the sums over its real steps.
template <int Q>
EDGESPARSE_INLINE void bank_sums(const BankJob& job, int64_t token, int64_t dilation, const float* weight,
                                 F slope, const float* offset, F (&sum)[Q]) {
  const F zero = Vector::Set(0.0f), one = Vector::Set(1.0f);
  for (int64_t step = token * job.patch; step < (token + 1) * job.patch; ++step) {
    if (!job.real[step]) continue;
    F response = zero;
    for (int64_t c = 0; c < job.channels; ++c) {
      const float* x = job.window + c * job.window_stride + step - job.before * dilation;
      const float* w = weight + c * kBankLength * kPanelKeys;
      EDGESPARSE_UNROLL
      for (int tap = 0; tap < kBankLength; ++tap)
        response =
            Vector::MulAdd(Vector::LoadU(w + tap * kPanelKeys), Vector::Set(x[tap * dilation]), response);
    }
    response = response * slope;
    EDGESPARSE_UNROLL
    for (int q = 0; q < Q; ++q) {
      const F above = response + Vector::LoadU(offset + q * kPanelKeys);
      // Max gives its second operand where one is NaN: NaN stays NaN.
      sum[q] = sum[q] + -Vector::Max(-one, -Vector::Max(zero, above));
    }
  }
}

// Features of W filters at one token. With four thresholds in all, the features of a filter lie side by side
// and two rounds of interleaving put the lanes in their order.
template <int Q>
EDGESPARSE_INLINE void bank_lanes(const BankJob& job, int64_t token, int64_t l, int64_t lane, int64_t first,
                                  float share, float* to) {
  const int64_t panel = l * bank_panels(job.filters) + lane / kPanelKeys, within = lane % kPanelKeys;
  F sum[Q] = {};
  bank_sums<Q>(job, token, job.dilations[l],
               job.weight + panel * job.channels * kBankLength * kPanelKeys + within,
               Vector::LoadU(job.slope + panel * kPanelKeys + within),
               job.offset + (panel * job.thresholds + first) * kPanelKeys + within, sum);
  const int64_t count = job.filters - lane < W ? job.filters - lane : W;
  const int64_t feature = (l * job.filters + lane) * job.thresholds + first;
  float lanes[Q * W] = {};
  if (Q == 4 && job.thresholds == 4) {
    const F low_02 = Vector::InterleaveWholeLower(sum[0], sum[2 % Q]),
            high_02 = Vector::InterleaveWholeUpper(sum[0], sum[2 % Q]);
    const F low_13 = Vector::InterleaveWholeLower(sum[1 % Q], sum[3 % Q]),
            high_13 = Vector::InterleaveWholeUpper(sum[1 % Q], sum[3 % Q]);
    const F ordered[4] = {
        Vector::InterleaveWholeLower(low_02, low_13), Vector::InterleaveWholeUpper(low_02, low_13),
        Vector::InterleaveWholeLower(high_02, high_13), Vector::InterleaveWholeUpper(high_02, high_13)};
    const F factor = Vector::Set(share);
    int64_t i = 0;
    for (; i < 4 && (i + 1) * W <= count * 4; ++i)
      Vector::StoreU(to + feature + i * W,
                     (ordered[i] * factor - Vector::LoadU(job.center + feature + i * W)) *
                         Vector::LoadU(job.inverse + feature + i * W));
    if (i * W >= count * 4) return;
    Vector::StoreU(lanes, ordered[i]);
    for (int64_t j = i * W; j < count * 4; ++j)
      to[feature + j] = (lanes[j - i * W] * share - job.center[feature + j]) * job.inverse[feature + j];
    return;
  }
  for (int q = 0; q < Q; ++q) Vector::StoreU(lanes + q * W, sum[q]);
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
    for (int64_t step = token * job.patch; step < (token + 1) * job.patch; ++step)
      count += job.real[step] != 0;
    const float share = 1.0f / (float)(count ? count : 1);
    float* const to = job.output + i * bank_features(job);
    for (int64_t l = 0; l < job.dilation_count; ++l)
      for (int64_t lane = 0; lane < job.filters; lane += W) {
        int64_t first = 0;
        for (; first + 4 <= job.thresholds; first += 4) bank_lanes<4>(job, token, l, lane, first, share, to);
        for (; first < job.thresholds; ++first) bank_lanes<1>(job, token, l, lane, first, share, to);
      }
  }
}

}  // namespace
}  // namespace edgesparse
