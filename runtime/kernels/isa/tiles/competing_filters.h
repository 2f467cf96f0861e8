// `CompeteJob` of every vector instruction set: lanes are groups, so the filters of a group stand in as many
// registers, and the largest of them is found without a shuffle.
#pragma once

#include "isa/competing_filters.h"
#include "isa/filter_bank.h"
#include "isa/tiles/math.h"

namespace edgesparse {
namespace {

// Responses of W groups at one step, times their sharpness.
EDGESPARSE_INLINE void compete_responses(const CompeteJob& job, int64_t step, const float* weight,
                                         F sharpness, F (&response)[kGroup]) {
  EDGESPARSE_UNROLL
  for (int k = 0; k < kGroup; ++k) response[k] = Vector::Set(0.0f);
  for (int64_t c = 0; c < job.channels; ++c) {
    const float* const x = job.window + c * job.window_stride + step - kBankLength / 2 * job.dilation;
    const float* const w = weight + c * kBankLength * kGroup * kPanelKeys;
    EDGESPARSE_UNROLL
    for (int tap = 0; tap < kBankLength; ++tap) {
      const F value = Vector::Set(x[tap * job.dilation]);
      EDGESPARSE_UNROLL
      for (int k = 0; k < kGroup; ++k)
        response[k] = Vector::MulAdd(Vector::LoadU(w + (tap * kGroup + k) * kPanelKeys), value, response[k]);
    }
  }
  EDGESPARSE_UNROLL
  for (int k = 0; k < kGroup; ++k) response[k] = response[k] * sharpness;
}

// Adds what steps `first` to `end` of W groups give to sums that are `kPanelKeys` apart.
EDGESPARSE_INLINE void compete_steps(const CompeteJob& job, int64_t first, int64_t end, const float* weight,
                                     F sharpness, float* sums) {
  const F zero = Vector::Set(0.0f), one = Vector::Set(1.0f);
  F strength[kGroup] = {}, won[kGroup] = {}, lost[kGroup] = {};
  for (int64_t step = first; step < end; ++step) {
    if (!job.real[step]) continue;
    F response[kGroup];
    compete_responses(job, step, weight, sharpness, response);
    F most = response[0], least = -response[0];
    EDGESPARSE_UNROLL
    for (int k = 1; k < kGroup; ++k) {
      most = Vector::Max(most, response[k]);
      least = Vector::Max(least, -response[k]);
    }
    least = -least;
    EDGESPARSE_UNROLL
    for (int k = 0; k < kGroup; ++k) {
      // Max gives its second operand where one is NaN: NaN stays NaN.
      const F wins = Vector::Max(zero, response[k] - most + one);
      const F loses = Vector::Max(zero, least - response[k] + one);
      strength[k] = Vector::MulAdd(wins, most, strength[k]);
      won[k] = won[k] + wins;
      lost[k] = lost[k] + loses;
    }
  }
  EDGESPARSE_UNROLL
  for (int k = 0; k < kGroup; ++k) {
    float* const to = sums + k * kPanelKeys;
    constexpr int64_t part = kGroup * kPanelKeys;
    Vector::StoreU(to, Vector::LoadU(to) + strength[k]);
    Vector::StoreU(to + part, Vector::LoadU(to + part) + won[k]);
    Vector::StoreU(to + 2 * part, Vector::LoadU(to + 2 * part) + lost[k]);
  }
}

void compete(const CompeteJob& job) {
  for (int64_t i = 0; i < kCompeteSums; ++i) job.sums[i] = 0.0f;
  for (int lane = 0; lane < kPanelKeys; lane += W) {
    const F sharpness = Vector::LoadU(job.sharpness + lane);
    for (int64_t first = 0; first < job.steps; first += kStepsPerSum) {
      const int64_t end = first + kStepsPerSum < job.steps ? first + kStepsPerSum : job.steps;
      compete_steps(job, first, end, job.weight + lane, sharpness, job.sums + lane);
    }
  }
}

}  // namespace
}  // namespace edgesparse
