// `BankJob` in plain loops, in the order of the vector instruction sets, so that outputs agree bit for bit.
#pragma once

#include <cmath>

#include "isa/filter_bank.h"

namespace edgesparse {
namespace {

float bank_response(const BankJob& job, int64_t l, int64_t k, int64_t step) {
  const int64_t panel = l * bank_panels(job.filters) + k / kPanelKeys;
  float sum = 0.0f;
  for (int64_t c = 0; c < job.channels; ++c)
    for (int tap = 0; tap < kBankLength; ++tap)
      sum =
          std::fma(job.weight[((panel * job.channels + c) * kBankLength + tap) * kPanelKeys + k % kPanelKeys],
                   job.window[c * job.window_stride + step + (tap - job.before) * job.dilations[l]], sum);
  return sum * job.slope[panel * kPanelKeys + k % kPanelKeys];
}

void bank(const BankJob& job) {
  for (int64_t i = 0; i < job.tokens; ++i)
    for (int64_t f = 0; f < bank_features(job); ++f) {
      const int64_t q = f % job.thresholds, k = f / job.thresholds % job.filters,
                    l = f / job.thresholds / job.filters;
      const int64_t panel = l * bank_panels(job.filters) + k / kPanelKeys;
      const float offset = job.offset[(panel * job.thresholds + q) * kPanelKeys + k % kPanelKeys];
      float sum = 0.0f;
      int64_t count = 0;
      for (int64_t step = (job.first_token + i) * job.patch; step < (job.first_token + i + 1) * job.patch;
           ++step) {
        if (!job.real[step]) continue;
        const float above = bank_response(job, l, k, step) + offset;
        sum += above < 0.0f ? 0.0f : above > 1.0f ? 1.0f : above;
        ++count;
      }
      job.output[i * bank_features(job) + f] =
          (sum * (1.0f / static_cast<float>(count ? count : 1)) - job.center[f]) * job.inverse[f];
    }
}

}  // namespace
}  // namespace edgesparse
