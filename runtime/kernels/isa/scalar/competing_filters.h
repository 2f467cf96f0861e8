// `CompeteJob` in plain loops, in the order of the vector instruction sets, so that outputs agree bit for
// bit.
#pragma once

#include <cmath>

#include "isa/competing_filters.h"
#include "isa/filter_bank.h"

namespace edgesparse {
namespace {

void compete_responses(const CompeteJob& job, int lane, int64_t step, float (&response)[kGroup]) {
  for (int k = 0; k < kGroup; ++k) {
    float sum = 0.0f;
    for (int64_t c = 0; c < job.channels; ++c)
      for (int tap = 0; tap < kBankLength; ++tap)
        sum =
            std::fma(job.weight[((c * kBankLength + tap) * kGroup + k) * kPanelKeys + lane],
                     job.window[c * job.window_stride + step + (tap - kBankLength / 2) * job.dilation], sum);
    response[k] = sum * job.sharpness[lane];
  }
}

void compete_steps(const CompeteJob& job, int lane, int64_t first, int64_t end) {
  float sums[3][kGroup] = {};
  for (int64_t step = first; step < end; ++step) {
    if (!job.real[step]) continue;
    float response[kGroup];
    compete_responses(job, lane, step, response);
    float most = response[0], least = response[0];
    for (int k = 1; k < kGroup; ++k) {
      most = most > response[k] ? most : response[k];
      least = least < response[k] ? least : response[k];
    }
    for (int k = 0; k < kGroup; ++k) {
      const float wins = response[k] - most + 1.0f, loses = least - response[k] + 1.0f;
      const float won = 0.0f > wins ? 0.0f : wins;
      sums[0][k] = std::fma(won, most, sums[0][k]);
      sums[1][k] += won;
      sums[2][k] += 0.0f > loses ? 0.0f : loses;
    }
  }
  for (int part = 0; part < 3; ++part)
    for (int k = 0; k < kGroup; ++k) job.sums[(part * kGroup + k) * kPanelKeys + lane] += sums[part][k];
}

void compete(const CompeteJob& job) {
  for (int64_t i = 0; i < kCompeteSums; ++i) job.sums[i] = 0.0f;
  for (int lane = 0; lane < kPanelKeys; ++lane)
    for (int64_t first = 0; first < job.steps; first += kStepsPerSum)
      compete_steps(job, lane, first, first + kStepsPerSum < job.steps ? first + kStepsPerSum : job.steps);
}

}  // namespace
}  // namespace edgesparse
