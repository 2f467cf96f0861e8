// `BankJob`, `PoolJob`, `ProductJob` and `MixJob` in plain loops, in the order of the vector
// instruction sets, so that outputs agree bit for bit.
#pragma once

#include "isa/filter_bank.h"
#include "isa/pooling.h"

namespace edgesparse {
namespace {

float bank_response(const BankJob& job, int64_t l, int64_t k, int64_t step) {
  const int64_t panel = l * bank_panels(job.kernels) + k / kPanelKeys;
  float sum = 0.0f;
  for (int64_t c = 0; c < job.channels; ++c)
    for (int tap = 0; tap < kBankLength; ++tap)
      sum = std::fma(
          job.weight[((panel * job.channels + c) * kBankLength + tap) * kPanelKeys + k % kPanelKeys],
          job.window[c * job.window_stride + step + (tap - job.before) * job.dilations[l]], sum);
  return sum * job.slope[panel * kPanelKeys + k % kPanelKeys];
}

void bank(const BankJob& job) {
  for (int64_t i = 0; i < job.tokens; ++i)
    for (int64_t f = 0; f < bank_features(job); ++f) {
      const int64_t q = f % job.thresholds, k = f / job.thresholds % job.kernels,
                    l = f / job.thresholds / job.kernels;
      const int64_t panel = l * bank_panels(job.kernels) + k / kPanelKeys;
      const float offset = job.offset[(panel * job.thresholds + q) * kPanelKeys + k % kPanelKeys];
      float sum = 0.0f;
      int64_t count = 0;
      for (int64_t step = (job.first_token + i) * job.patch; step < (job.first_token + i + 1) * job.patch; ++step) {
        if (!job.real[step]) continue;
        const float above = bank_response(job, l, k, step) + offset;
        sum += above < 0.0f ? 0.0f : above > 1.0f ? 1.0f : above;
        ++count;
      }
      job.output[i * bank_features(job) + f] =
          (sum * (1.0f / static_cast<float>(count ? count : 1)) - job.center[f]) * job.inverse[f];
    }
}

void pool(const PoolJob& job) {
  for (int64_t c = 0; c < job.width; ++c) {
    float sum = 0.0f, most = 0.0f, least = 0.0f;
    int64_t count = 0;
    for (int64_t t = 0; t < job.tokens; ++t) {
      if (!job.real[t]) continue;
      const float x = job.rows[t * job.width + c];
      sum += x;
      most = count && most > x ? most : x;
      least = count && least < x ? least : x;
      ++count;
    }
    job.mean[c] = sum / static_cast<float>(count ? count : 1);
    if (!job.largest) continue;
    job.largest[c] = most;
    job.smallest[c] = least;
  }
}

void product(const ProductJob& job) {
  for (int64_t m = 0; m < job.rows; ++m)
    for (int64_t n = 0; n < job.columns; ++n) {
      float sum = 0.0f;
      for (int64_t k = 0; k < job.depth; ++k)
        sum = std::fma(job.a[m * job.a_stride + k], job.b[k * job.b_stride + n], sum);
      job.c[m * job.c_stride + n] = sum;
    }
}

void mix(const MixJob& job) {
  for (int64_t t = job.first_token; t < job.end_token; ++t)
    for (int64_t c = 0; c < job.width; ++c) {
      float sum = job.mixed[t * job.width + c];
      for (int64_t tap = 0; tap < job.taps; ++tap) {
        const int64_t from = t + tap - job.before;
        if (from >= 0 && from < job.all_tokens)
          sum = std::fma(job.weight[tap * job.width + c], job.value[from * job.width + c], sum);
      }
      job.output[t * job.width + c] = sum;
    }
}

}  // namespace
}  // namespace edgesparse
