// How a job walks through its panels, in floats and in bytes: four panels (64 keys) at a time.
#pragma once

#include "isa/tiles/math.h"

namespace edgesparse {
namespace {

template <class T>
struct Unit {
  const T* keys[kUnitPanels];
  const T* values[kUnitPanels];
  const float* bias[kUnitPanels];
};

// The rows of a tile prefetch their share of what the next unit reads: query blocks visit key blocks in an
// order that no hardware prefetcher guesses, and a head's panels need not fit L2.
struct NextUnit {
  const void* panels[kUnitPanels];
  int count;
  int64_t
      lines_per_row;  // cache lines, in 65,536ths, rounded up: a division per tile would cost a tenth of it

  EDGESPARSE_INLINE void prefetch(int64_t row, int64_t tile_rows) const {
    const int64_t first = row * lines_per_row >> 16, end = (row + tile_rows) * lines_per_row >> 16;
    for (int i = 0; i < count; ++i)
      for (int64_t line = first; line < end; ++line)
        __builtin_prefetch(static_cast<const char*>(panels[i]) + line * 64, 0, 2);
  }
};

EDGESPARSE_INLINE int64_t lines_per_row(int64_t panel_lines, int64_t rows) {
  return ((panel_lines << 16) + rows - 1) / rows;
}

// Calls step(unit, first panel, panels, next keys, next values); `key_lines` and `value_lines` are those of a
// panel.
template <class T, class Step>
EDGESPARSE_INLINE void for_units(const Job& job, int64_t key_lines, int64_t value_lines, const Step& step) {
  NextUnit next_keys{{}, 0, lines_per_row(key_lines, job.rows)};
  NextUnit next_values{{}, 0, lines_per_row(value_lines, job.rows)};
  for (int64_t first = 0; first < job.panel_count; first += kUnitPanels) {
    const int64_t left = job.panel_count - first, coming = left - kUnitPanels;
    const int panels = left < kUnitPanels ? (int)left : kUnitPanels;
    Unit<T> unit;
    for (int i = 0; i < panels; ++i) {
      const Panel& panel = job.panels[first + i];
      unit.keys[i] = (const T*)panel.keys;
      unit.values[i] = (const T*)panel.values;
      unit.bias[i] = panel.bias;
    }
    next_keys.count = next_values.count = coming < 0 ? 0 : coming < kUnitPanels ? (int)coming : kUnitPanels;
    for (int i = 0; i < next_keys.count; ++i) {
      next_keys.panels[i] = job.panels[first + kUnitPanels + i].keys;
      next_values.panels[i] = job.panels[first + kUnitPanels + i].values;
    }
    step(unit, first, panels, next_keys, next_values);
  }
}

// Hides those of `keys` lanes that lie in the future of their row.
template <int keys>
void mask_diagonal(float* scores, int64_t last_for_row_0, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t lane = last_for_row_0 + r < 0 ? 0 : last_for_row_0 + r + 1; lane < keys; ++lane)
      scores[r * kUnitKeys + lane] = -__builtin_inff();
}

// Hides those of `keys` lanes, the first of which is key `token`, that a row does not see.
template <int keys>
void mask_spans(float* scores, const Job& job, int32_t token) {
  for (int64_t r = 0; r < job.rows; ++r) {
    const int32_t first = job.first_key[r] - token, last = job.last_key[r] - token;
    float* const row = scores + r * kUnitKeys;
    for (int32_t lane = 0; lane < keys; ++lane)
      row[lane] = (lane < first) | (lane > last) ? -__builtin_inff() : row[lane];
  }
}

// The panels of the unit that starts at `first`.
void mask_unit(const Job& job, int64_t first, int panels, float* scores) {
  for (int i = 0; i < panels; ++i)
    if (job.panels[first + i].last_for_row_0 != kNotDiagonal)
      mask_diagonal<kPanelKeys>(scores + i * kPanelKeys, job.panels[first + i].last_for_row_0, job.rows);
}

// Lane r is the largest score of row r, at least kLowest; NaN does not count.
template <int NV>
EDGESPARSE_INLINE F largest_scores(const float* scores) {
  F most[W];
  EDGESPARSE_UNROLL
  for (int r = 0; r < W; ++r) {
    const float* s = scores + r * kUnitKeys;
    most[r] = Vector::Set(kLowest);
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v) most[r] = Vector::Max(Vector::LoadU(s + v * W), most[r]);
  }
  return reduce_rows(most, Vector::Max);
}

// Calls soften(Constant<count * vectors>), count from 1 to most.
template <int vectors, int most, class Function>
EDGESPARSE_INLINE void with_constant(int count, const Function& soften) {
  if constexpr (most > 1)
    if (count < most) return with_constant<vectors, most - 1>(count, soften);
  soften(Constant<most * vectors>());
}

// Calls soften(Constant<NV>) with the vectors of a unit's row, `count` parts of `vectors` each, and times it
// where that is wanted.
template <int vectors, class Function>
EDGESPARSE_INLINE void soften_unit(const Job& job, int count, const Function& soften) {
  const double start = job.clock ? job.clock() : 0.0;
  with_constant<vectors, kUnitPanels * kPerPanel / vectors>(count, soften);
  if (job.clock) *job.softmax_seconds += job.clock() - start;
}

// NaN must come out as NaN, only a row that saw nothing gives zeros.
void write_rows(const Job& job, const float* out, int64_t value_stride, const float* total) {
  for (int64_t r = 0; r < job.rows; ++r) {
    const float factor = total[r] == 0.0f ? 0.0f : 1.0f / total[r];
    for (int64_t d = 0; d < job.value_size; ++d)
      job.output[r * job.output_stride + d] = out[r * value_stride + d] * factor;
  }
}

}  // namespace
}  // namespace edgesparse
