// Packing and attention in floats, in plain loops.
#pragma once

#include <cmath>

#include "isa/exponential.h"
#include "isa/table.h"

namespace edgesparse {
namespace {

void pack_keys(Rows16 rows, int64_t head_size, float* panel) {
  for (int64_t d = 0; d < head_size; ++d)
    for (int lane = 0; lane < kPanelKeys; ++lane)
      panel[d * kPanelKeys + lane] = rows[lane] ? rows[lane][d] : 0.0f;
}

void pack_values(Rows16 rows, int64_t value_size, float* panel) {
  const int64_t stride = padded_values(value_size);
  for (int lane = 0; lane < kPanelKeys; ++lane)
    for (int64_t d = 0; d < stride; ++d)
      panel[lane * stride + d] = rows[lane] && d < value_size ? rows[lane][d] : 0.0f;
}

void add_rows(Rows16 rows, int64_t size, float* sum) {
  for (int lane = 0; lane < kPanelKeys; ++lane)
    for (int64_t d = 0; rows[lane] && d < size; ++d) sum[d] += rows[lane][d];
}

// One query row against all panels: a running maximum, as the other instruction sets keep one per unit. The
// row is copied first: the output may lie where it stood.
void attend_row(const Job& job, int64_t r) {
  float* const q = job.scratch;
  for (int64_t d = 0; d < job.head_size; ++d) q[d] = job.query[r * job.query_stride + d] * job.scale;
  float* out = job.output + r * job.output_stride;
  const int64_t stride = padded_values(job.value_size);
  float maximum = kLowest, sum = 0.0f;
  for (int64_t d = 0; d < job.value_size; ++d) out[d] = 0.0f;
  for (int64_t i = 0; i < job.panel_count; ++i) {
    const Panel& panel = job.panels[i];
    const float* keys = static_cast<const float*>(panel.keys);
    const float* values = static_cast<const float*>(panel.values);
    float score[kPanelKeys];
    float most = maximum;
    for (int lane = 0; lane < kPanelKeys; ++lane) {
      float dot = 0.0f;
      for (int64_t d = 0; d < job.head_size; ++d) dot += q[d] * keys[d * kPanelKeys + lane];
      const bool future = panel.last_for_row_0 != kNotDiagonal && lane > panel.last_for_row_0 + r;
      const bool outside = job.first_key && panel.token != kSeenByAll &&
                           (panel.token + lane < job.first_key[r] || panel.token + lane > job.last_key[r]);
      score[lane] = future || outside ? -HUGE_VALF : dot + panel.bias[lane];
      if (score[lane] > most) most = score[lane];
    }
    const float correction = std::exp2(maximum - most);
    maximum = most;
    sum *= correction;
    for (int64_t d = 0; d < job.value_size; ++d) out[d] *= correction;
    for (int lane = 0; lane < kPanelKeys; ++lane) {
      const float weight = std::exp2(score[lane] - maximum);
      sum += weight;
      for (int64_t d = 0; d < job.value_size; ++d) out[d] += weight * values[lane * stride + d];
    }
  }
  for (int64_t d = 0; d < job.value_size; ++d) out[d] = sum == 0.0f ? 0.0f : out[d] / sum;
}

void attend(const Job& job) {
  for (int64_t r = 0; r < job.rows; ++r) attend_row(job, r);
}

}  // namespace
}  // namespace edgesparse
