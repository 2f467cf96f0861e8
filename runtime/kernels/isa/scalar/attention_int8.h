// The int8 reference in plain loops: element by element the operations of isa/tiles/pack_int8.h and
// attention_int8.h, in their order, so that every bit of the output agrees with the vector instruction sets.
#pragma once

#include "isa/scalar/math.h"

namespace edgesparse {
namespace {

bool quantize_keys(Rows16 rows, int64_t head_size, const float* shift, void* panel) {
  const int64_t quads = (head_size + 3) / 4;
  auto* const bytes = static_cast<uint8_t*>(panel);
  auto* const start = reinterpret_cast<int32_t*>(bytes + quads * 64);
  auto* const scale = reinterpret_cast<float*>(bytes + quads * 64 + 64);
  std::memset(bytes, 0, static_cast<size_t>(quads) * 64);
  bool finite = true;
  for (int key = 0; key < kPanelKeys; ++key) {
    float most = 0.0f;
    for (int64_t d = 0; rows[key] && d < head_size; ++d) {
      const float x = rows[key][d] - shift[d];
      most = larger(most, magnitude(x));
      finite &= std::isfinite(x);
    }
    const float largest = larger(most, 1e-35f), factor = 127.0f / largest;
    scale[key] = largest / 127.0f;
    uint32_t sum = 0;
    for (int64_t d = 0; rows[key] && d < head_size; ++d) {
      const uint8_t byte = low_byte(nearest((rows[key][d] - shift[d]) * factor));
      bytes[d / 4 * 64 + key * 4 + d % 4] = byte;
      sum += static_cast<uint32_t>(static_cast<int8_t>(byte));
    }
    start[key] = static_cast<int32_t>(sum * static_cast<uint32_t>(-128));
  }
  return finite;
}

bool quantize_values(Rows16 rows, int panels, int64_t value_size, void* values, float* scales) {
  const int64_t padded = padded_values(value_size);
  auto* const bytes = static_cast<uint8_t*>(values);
  bool finite = true;
  for (int64_t d = 0; d < padded; ++d) {
    float most = 0.0f;
    for (int key = 0; key < panels * kPanelKeys; ++key) {
      const float x = rows[key] && d < value_size ? rows[key][d] : 0.0f;
      most = larger(most, magnitude(x));
      finite &= std::isfinite(x);
    }
    const float largest = larger(most, 1e-35f), factor = 127.0f / largest;
    scales[d] = largest / 127.0f;
    for (int key = 0; key < panels * kPanelKeys; ++key) {
      const float x = rows[key] && d < value_size ? rows[key][d] : 0.0f;
      bytes[(key / 4 * padded + d) * 4 + key % 4] = low_byte(nearest(x * factor));
    }
  }
  return finite;
}

struct ScalarRow {
  uint8_t* q;  // biased by 128
  float scale, maximum, sum;
  float* out;
};

// One unit of up to four panels against one row.
void attend_unit(const Job& job, int64_t first, int panels, int64_t r, ScalarRow& row) {
  const int64_t quads = (job.head_size + 3) / 4, padded = padded_values(job.value_size);
  float score[kUnitKeys];
  float unit_maximum = kLowest;
  for (int key = 0; key < panels * kPanelKeys; ++key) {
    const Panel& panel = job.panels[first + key / kPanelKeys];
    const int lane = key % kPanelKeys;
    const auto* const bytes = static_cast<const uint8_t*>(panel.keys);
    int32_t dot = reinterpret_cast<const int32_t*>(bytes + quads * 64)[lane];
    for (int64_t d = 0; d < quads * 4; ++d)
      dot += row.q[d] * static_cast<int8_t>(bytes[d / 4 * 64 + lane * 4 + d % 4]);
    const float scale = reinterpret_cast<const float*>(bytes + quads * 64 + 64)[lane];
    score[key] = std::fma(static_cast<float>(dot) * scale, row.scale, panel.bias[lane]);
    if (panel.last_for_row_0 != kNotDiagonal && lane > panel.last_for_row_0 + r) score[key] = -HUGE_VALF;
    unit_maximum = larger(score[key], unit_maximum);
  }
  const float now = larger(unit_maximum, row.maximum);
  const float correction = exp2_fine(row.maximum - now), factor = exp2_fine(unit_maximum - now);
  row.maximum = now;

  const float shift = unit_maximum - kLog2Of255;
  uint8_t weight[kUnitKeys];
  int32_t total = 0;
  for (int key = 0; key < panels * kPanelKeys; ++key) {
    const int32_t rounded = nearest(exp2_coarse(score[key] - shift));
    weight[key] = low_byte(rounded);
    total = static_cast<int32_t>(static_cast<uint32_t>(total) + static_cast<uint32_t>(rounded));
  }
  row.sum = std::fma(static_cast<float>(total), factor, row.sum * correction);
  for (int64_t d = 0; d < job.value_size; ++d) {
    float rescale = correction;
    for (int from = 0, to; from < panels; from = to) {
      const float* const scales = job.panels[first + from].scales;
      int32_t dot = 0;
      for (to = from; to < panels && job.panels[first + to].scales == scales; ++to) {
        const auto* const values = static_cast<const int8_t*>(job.panels[first + to].values);
        for (int lane = 0; lane < kPanelKeys; ++lane)
          dot += weight[to * kPanelKeys + lane] * values[(lane / 4 * padded + d) * 4 + lane % 4];
      }
      row.out[d] = std::fma(static_cast<float>(dot) * scales[d], factor, row.out[d] * rescale);
      rescale = 1.0f;
    }
  }
}

void attend_int8(const Job& job) {
  const int64_t quads = (job.head_size + 3) / 4;
  for (int64_t r = 0; r < job.rows; ++r) {
    const float* const query = job.query + r * job.query_stride;
    ScalarRow row{reinterpret_cast<uint8_t*>(job.scratch), 0.0f, kLowest, 0.0f,
                  job.output + r * job.output_stride};
    float most = 0.0f;
    for (int64_t d = 0; d < job.head_size; ++d) {
      most = larger(most, magnitude(query[d]));
      if (!std::isfinite(query[d])) row.sum = std::nanf("");
    }
    const float largest = larger(most, 1e-35f), factor = 127.0f / largest;
    row.scale = largest / 127.0f * job.scale;
    for (int64_t d = 0; d < quads * 4; ++d)
      row.q[d] = static_cast<uint8_t>(low_byte(d < job.head_size ? nearest(query[d] * factor) : 0) + 128);
    for (int64_t d = 0; d < job.value_size; ++d) row.out[d] = 0.0f;
    for (int64_t first = 0; first < job.panel_count; first += kUnitPanels) {
      const int64_t left = job.panel_count - first;
      attend_unit(job, first, left < kUnitPanels ? static_cast<int>(left) : kUnitPanels, r, row);
    }
    const float inverse = row.sum == 0.0f ? 0.0f : 1.0f / row.sum;
    for (int64_t d = 0; d < job.value_size; ++d) row.out[d] *= inverse;
  }
}

}  // namespace
}  // namespace edgesparse
