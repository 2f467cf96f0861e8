// `MassJob` in plain loops.
#pragma once

#include <cmath>

#include "isa/mass.h"

namespace edgesparse {
namespace {

// The base-2 score of a row for a key; minus infinity where there is none that it sees.
float score_of(const MassJob& job, int64_t r, const Panel& panel, int lane) {
  if (lane >= panel.lanes || panel.token + lane > job.last_key[r]) return -HUGE_VALF;
  float dot = panel.bias[lane];
  for (int64_t d = 0; d < job.head_size; ++d)
    dot += job.query[r * job.head_size + d] * static_cast<const float*>(panel.keys)[d * kPanelKeys + lane];
  return dot;
}

void mass(const MassJob& job) {
  for (int64_t r = 0; r < job.rows; ++r) {
    float most = kLowest, total = 0.0f;
    for (int64_t j = 0; j < job.blocks; ++j) {
      float sum = 0.0f, before = most;
      for (int64_t i = j * job.panels_per_block; i < (j + 1) * job.panels_per_block; ++i)
        for (int lane = 0; lane < kPanelKeys; ++lane) {
          const float score = score_of(job, r, job.panels[i], lane);
          if (score > most) sum *= std::exp2(most - score), most = score;
          sum += std::exp2(score - most);
        }
      for (int64_t earlier = 0; most > before && earlier < j; ++earlier)
        job.mass[earlier * kRows + r] *= std::exp2(before - most);
      total = total * std::exp2(before - most) + sum;
      job.mass[j * kRows + r] = sum;
    }
    for (int64_t j = 0; j < job.blocks && total != 0.0f; ++j) job.mass[j * kRows + r] /= total;
  }
}

}  // namespace
}  // namespace edgesparse
