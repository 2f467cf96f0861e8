// The float arithmetic of every vector instruction set: included after a header that defines `Vector`.
//
// One job is up to 64 query rows against a list of key panels. Per unit of four panels (64 keys):
// scores = Q K^T, running maximum, P = 2^(score - maximum), O = O * correction + P V. Logarithms are in
// base 2, the factor log2(e) being folded into the query's scale. Everything has internal linkage, so
// that no other file of the program can end up with this file's instructions.
#pragma once

#include "isa/table.h"

#define EDGESPARSE_INLINE inline __attribute__((always_inline))

namespace edgesparse {
namespace {

using F = Vector::F;
using I = Vector::I;
constexpr int W = Vector::kLanes;
constexpr float kLowest = -3.402823466e38f;

// 2^x for x <= 0, to 1e-7 of its value; exactly 0 from -127 down, minus infinity included.
EDGESPARSE_INLINE F exp2_nonpositive(F x) {
  const F magic = Vector::broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  x = Vector::max(Vector::broadcast(-127.0f), x);
  const F shifted = x + magic;
  const F f = x - (shifted - magic);
  F p = Vector::broadcast(0.001326472731307149f);
  p = Vector::fma(p, f, Vector::broadcast(0.009671512991189957f));
  p = Vector::fma(p, f, Vector::broadcast(0.05550733581185341f));
  p = Vector::fma(p, f, Vector::broadcast(0.24022242426872253f));
  p = Vector::fma(p, f, Vector::broadcast(0.6931470036506653f));
  p = Vector::fma(p, f, Vector::broadcast(1.0f));
  // At x = -127 the polynomial is exactly 1 and the exponent field becomes exactly 0.
  return (F)((I)p + ((I)shifted << 23));
}

// The rows of a tile ask for their share of what the next unit reads: query blocks visit key blocks in an
// order that no hardware prefetcher guesses, and a head's panels need not fit L2.
struct NextUnit {
  const float* panels[kUnitPanels];
  int count;
  int64_t lines_per_row;  // lines of 16 floats, in 65,536ths, rounded up: a division a tile would cost a tenth of it

  EDGESPARSE_INLINE void prefetch(int64_t row, int64_t tile_rows) const {
    const int64_t first = row * lines_per_row >> 16, end = (row + tile_rows) * lines_per_row >> 16;
    for (int i = 0; i < count; ++i)
      for (int64_t line = first; line < end; ++line) __builtin_prefetch(panels[i] + line * 16, 0, 2);
  }
};

EDGESPARSE_INLINE int64_t lines_per_row(int64_t panel_lines, int64_t rows) {
  return ((panel_lines << 16) + rows - 1) / rows;
}

struct UnitPointers {
  const float* keys[kUnitPanels];
  const float* values[kUnitPanels];
  const float* bias[kUnitPanels];
};

// scores[R][NV * W] = bias + q[R][D] . keys[D][NV * W], for NV vectors from vector `first` of the unit.
template <int R, int NV>
EDGESPARSE_INLINE void score_tile(const float* q, int64_t q_stride, int64_t head_size,
                                  const UnitPointers& unit, int first, float* scores) {
  constexpr int kPerPanel = kPanelKeys / W;
  const float* keys[NV];
  F sum[R][NV];
#pragma GCC unroll 8
  for (int v = 0; v < NV; ++v) {
    const int panel = (first + v) / kPerPanel, lane = (first + v) % kPerPanel * W;
    keys[v] = unit.keys[panel] + lane;
    const F bias = Vector::load(unit.bias[panel] + lane);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sum[r][v] = bias;
  }
  for (int64_t d = 0; d < head_size; ++d) {
    F k[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) k[v] = Vector::load(keys[v] + d * kPanelKeys);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const F a = Vector::broadcast(q[r * q_stride + d]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) sum[r][v] = Vector::fma(a, k[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) Vector::store(scores + r * kUnitKeys + (first + v) * W, sum[r][v]);
  }
}

// out[R][NV * W] = out * correction + p[R][panels * 16] . values, for NV vectors from column `column`.
template <int R, int NV>
EDGESPARSE_INLINE void value_tile(const float* p, const float* correction, const UnitPointers& unit,
                                  int panels, int64_t value_stride, int64_t column, float* out) {
  F sum[R][NV];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const F c = Vector::broadcast(correction[r]);
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) sum[r][v] = Vector::load(out + r * value_stride + v * W) * c;
  }
  for (int panel = 0; panel < panels; ++panel) {
    const float* values = unit.values[panel] + column;
    const float* weights = p + panel * kPanelKeys;
#pragma GCC unroll 1
    for (int key = 0; key < kPanelKeys; ++key) {
      F b[NV];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) b[v] = Vector::load(values + key * value_stride + v * W);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const F a = Vector::broadcast(weights[r * kUnitKeys + key]);
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) sum[r][v] = Vector::fma(a, b[v], sum[r][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) Vector::store(out + r * value_stride + v * W, sum[r][v]);
  }
}

// Calls f with the first row of every tile: tiles of kMost rows, then 8, 4, 2 and 1.
template <int kMost, class Function>
EDGESPARSE_INLINE void for_row_tiles(int64_t rows, const Function& f) {
  int64_t row = 0;
  for (; row + kMost <= rows; row += kMost) f.template operator()<kMost>(row);
  if constexpr (kMost > 8)
    for (; row + 8 <= rows; row += 8) f.template operator()<8>(row);
  if constexpr (kMost > 4)
    for (; row + 4 <= rows; row += 4) f.template operator()<4>(row);
  for (; row + 2 <= rows; row += 2) f.template operator()<2>(row);
  for (; row < rows; ++row) f.template operator()<1>(row);
}

template <int NV>
struct ScoreRows {
  const float* q;
  int64_t q_stride, head_size;
  const UnitPointers& unit;
  const NextUnit& next;
  int first;
  float* scores;
  template <int R>
  EDGESPARSE_INLINE void operator()(int64_t row) const {
    if (first == 0) next.prefetch(row, R);
    score_tile<R, NV>(q + row * q_stride, q_stride, head_size, unit, first, scores + row * kUnitKeys);
  }
};

template <int NV>
struct ValueRows {
  const float* p;
  const float* correction;
  const UnitPointers& unit;
  const NextUnit& next;
  int panels;
  int64_t value_stride, column;
  float* out;
  template <int R>
  EDGESPARSE_INLINE void operator()(int64_t row) const {
    if (column == 0) next.prefetch(row, R);
    value_tile<R, NV>(p + row * kUnitKeys, correction + row, unit, panels, value_stride, column,
                      out + row * value_stride + column);
  }
};

template <int NV>
__attribute__((noinline)) void score_columns(const float* q, int64_t q_stride, int64_t head_size,
                                             const UnitPointers& unit, const NextUnit& next, int first,
                                             int64_t rows, float* scores) {
  for_row_tiles<Vector::kTileRows[NV]>(rows,
                                       ScoreRows<NV>{q, q_stride, head_size, unit, next, first, scores});
}

template <int NV>
__attribute__((noinline)) void value_columns(const float* p, const float* correction,
                                             const UnitPointers& unit, const NextUnit& next, int panels,
                                             int64_t value_stride, int64_t column, int64_t rows, float* out) {
  for_row_tiles<Vector::kTileRows[NV]>(
      rows, ValueRows<NV>{p, correction, unit, next, panels, value_stride, column, out});
}

void score_unit(const float* q, int64_t q_stride, int64_t head_size, const UnitPointers& unit,
                const NextUnit& next, int panels, int64_t rows, float* scores) {
  constexpr int kMost = Vector::kTileVectors;
  const int vectors = panels * (kPanelKeys / W);
  int first = 0;
  for (; first + kMost <= vectors; first += kMost)
    score_columns<kMost>(q, q_stride, head_size, unit, next, first, rows, scores);
  const int left = vectors - first;
  if constexpr (kMost > 3)
    if (left == 3) score_columns<3>(q, q_stride, head_size, unit, next, first, rows, scores);
  if constexpr (kMost > 2)
    if (left == 2) score_columns<2>(q, q_stride, head_size, unit, next, first, rows, scores);
  if (left == 1) score_columns<1>(q, q_stride, head_size, unit, next, first, rows, scores);
}

void value_unit(const float* p, const float* correction, const UnitPointers& unit, const NextUnit& next,
                int panels, int64_t value_stride, int64_t rows, float* out) {
  constexpr int kMost = Vector::kTileVectors;
  int64_t column = 0;
  for (; column + kMost * W <= value_stride; column += kMost * W)
    value_columns<kMost>(p, correction, unit, next, panels, value_stride, column, rows, out);
  const int64_t left = (value_stride - column) / W;
  if constexpr (kMost > 3)
    if (left == 3) value_columns<3>(p, correction, unit, next, panels, value_stride, column, rows, out);
  if constexpr (kMost > 2)
    if (left == 2) value_columns<2>(p, correction, unit, next, panels, value_stride, column, rows, out);
  if (left == 1) value_columns<1>(p, correction, unit, next, panels, value_stride, column, rows, out);
}

// Lane r of the result is the largest lane of a[r].
EDGESPARSE_INLINE F reduce_max_rows(F (&a)[W]) {
#pragma GCC unroll 4
  for (int half = W / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i)
      a[i] =
          Vector::max(Vector::interleave_low(a[i], a[i + half]), Vector::interleave_high(a[i], a[i + half]));
  return a[0];
}

// Turns the scores of one unit into weights in place; updates each row's maximum and sum. Works on W rows at
// a time, so that the maxima are reduced and the corrections computed in full vectors: rows beyond the
// last must be readable and finite.
template <int NV>
EDGESPARSE_INLINE void soften_rows(float* scores, int64_t rows, float* maximum, float* sum,
                                   float* correction) {
  for (int64_t row = 0; row < rows; row += W) {
    F most[W];
#pragma GCC unroll 16
    for (int r = 0; r < W; ++r) {
      const float* s = scores + (row + r) * kUnitKeys;
      most[r] = Vector::load(s);
#pragma GCC unroll 16
      for (int v = 1; v < NV; ++v) most[r] = Vector::max(most[r], Vector::load(s + v * W));
    }
    const F before = Vector::load(maximum + row);
    const F now = Vector::max(reduce_max_rows(most), before);
    Vector::store(maximum + row, now);
    Vector::store(correction + row, exp2_nonpositive(before - now));
#pragma GCC unroll 1
    for (int r = 0; r < W; ++r) {
      float* s = scores + (row + r) * kUnitKeys;
      const F shift = Vector::broadcast(maximum[row + r]);
      F total = Vector::load(sum + (row + r) * kPanelKeys) * Vector::broadcast(correction[row + r]);
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        const F p = exp2_nonpositive(Vector::load(s + v * W) - shift);
        Vector::store(s + v * W, p);
        total = total + p;
      }
      Vector::store(sum + (row + r) * kPanelKeys, total);
    }
  }
}

void soften_unit(float* scores, int panels, int64_t rows, float* maximum, float* sum, float* correction) {
  constexpr int kPerPanel = kPanelKeys / W;
  switch (panels) {
    case 1:
      return soften_rows<1 * kPerPanel>(scores, rows, maximum, sum, correction);
    case 2:
      return soften_rows<2 * kPerPanel>(scores, rows, maximum, sum, correction);
    case 3:
      return soften_rows<3 * kPerPanel>(scores, rows, maximum, sum, correction);
    default:
      return soften_rows<4 * kPerPanel>(scores, rows, maximum, sum, correction);
  }
}

// Hides the lanes of a panel that lie in the future of their row.
void mask_diagonal(float* scores, int64_t last_for_row_0, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t lane = last_for_row_0 + r < 0 ? 0 : last_for_row_0 + r + 1; lane < kPanelKeys; ++lane)
      scores[r * kUnitKeys + lane] = -__builtin_inff();
}

// The W partial sums of a row, added in the order of the lanes.
float add_lanes(const float* lanes) {
  float total = 0.0f;
  for (int i = 0; i < W; ++i) total += lanes[i];
  return total;
}

void attend(const Job& job) {
  const int64_t rows = job.rows, head_size = job.head_size;
  const int64_t value_stride = padded_values(job.value_size);
  float* q = job.scratch;
  float* scores = q + kRows * round_up(head_size, 16);
  float* out = scores + kRows * kUnitKeys;
  float* sum = out + kRows * value_stride;
  float* maximum = sum + kRows * kPanelKeys;
  float* correction = maximum + kRows;

  // Rows of a packed tensor lie H * D floats apart, which maps many of them to one cache set.
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t d = 0; d < head_size; ++d)
      q[r * head_size + d] = job.query[r * job.query_stride + d] * job.scale;
  for (int64_t i = 0; i < rows * value_stride; ++i) out[i] = 0.0f;
  const int64_t padded_rows = round_up(rows, W);
  for (int64_t i = 0; i < padded_rows * kPanelKeys; ++i) sum[i] = 0.0f;
  for (int64_t i = rows * kUnitKeys; i < padded_rows * kUnitKeys; ++i) scores[i] = 0.0f;
  for (int64_t r = 0; r < padded_rows; ++r) maximum[r] = kLowest;

  const int64_t key_lines_per_row = lines_per_row(head_size, rows);
  const int64_t value_lines_per_row = lines_per_row(value_stride, rows);
  for (int64_t first = 0; first < job.panel_count; first += kUnitPanels) {
    const int64_t left = job.panel_count - first;
    const int panels = left < kUnitPanels ? (int)left : kUnitPanels;
    UnitPointers unit;
    for (int i = 0; i < panels; ++i) {
      const Panel& panel = job.panels[first + i];
      unit.keys[i] = (const float*)panel.keys;
      unit.values[i] = (const float*)panel.values;
      unit.bias[i] = panel.bias;
    }
    const int64_t coming = job.panel_count - first - kUnitPanels;
    NextUnit next_keys{{},
                       coming < 0             ? 0
                       : coming < kUnitPanels ? (int)coming
                                              : kUnitPanels,
                       key_lines_per_row};
    NextUnit next_values = next_keys;
    next_values.lines_per_row = value_lines_per_row;
    for (int i = 0; i < next_keys.count; ++i) {
      next_keys.panels[i] = (const float*)job.panels[first + kUnitPanels + i].keys;
      next_values.panels[i] = (const float*)job.panels[first + kUnitPanels + i].values;
    }
    score_unit(q, head_size, head_size, unit, next_keys, panels, rows, scores);
    for (int i = 0; i < panels; ++i)
      if (job.panels[first + i].last_for_row_0 != kNotDiagonal)
        mask_diagonal(scores + i * kPanelKeys, job.panels[first + i].last_for_row_0, rows);
    const double start = job.clock ? job.clock() : 0.0;
    soften_unit(scores, panels, rows, maximum, sum, correction);
    if (job.clock) *job.softmax_seconds += job.clock() - start;
    value_unit(scores, correction, unit, next_values, panels, value_stride, rows, out);
  }

  for (int64_t r = 0; r < rows; ++r) {
    const float total = add_lanes(sum + r * kPanelKeys);
    // NaN must come out as NaN, only a row that saw nothing gives zeros.
    const float factor = total == 0.0f ? 0.0f : 1.0f / total;
    for (int64_t d = 0; d < job.value_size; ++d)
      job.output[r * job.output_stride + d] = out[r * value_stride + d] * factor;
  }
}

// Rows i and i + W/2 interleave; after log2(W) rounds a W x W square is transposed.
EDGESPARSE_INLINE void transpose_square(F (&a)[W]) {
  F b[W];
  constexpr int kHalf = W / 2;
#pragma GCC unroll 4
  for (int stride = 1; stride < W; stride *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kHalf; ++i) {
      b[2 * i] = Vector::interleave_low(a[i], a[i + kHalf]);
      b[2 * i + 1] = Vector::interleave_high(a[i], a[i + kHalf]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) a[i] = b[i];
  }
}

void pack_keys(Rows16 rows, int64_t head_size, float* panel) {
  for (int part = 0; part < kPanelKeys; part += W) {
    int64_t d = 0;
    for (; d + W <= head_size; d += W) {
      F a[W];
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i)
        a[i] = rows[part + i] ? Vector::load(rows[part + i] + d) : Vector::broadcast(0.0f);
      transpose_square(a);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) Vector::store(panel + (d + i) * kPanelKeys + part, a[i]);
    }
    for (; d < head_size; ++d)
      for (int i = 0; i < W; ++i)
        panel[d * kPanelKeys + part + i] = rows[part + i] ? rows[part + i][d] : 0.0f;
  }
}

// Token after token in every lane, so that all instruction sets agree on each bit.
void add_rows(Rows16 rows, int64_t size, float* sum) {
  int64_t d = 0;
  for (; d + W <= size; d += W) {
    F total = Vector::load(sum + d);
    for (int i = 0; i < kPanelKeys; ++i)
      if (rows[i]) total = total + Vector::load(rows[i] + d);
    Vector::store(sum + d, total);
  }
  for (; d < size; ++d)
    for (int i = 0; i < kPanelKeys; ++i)
      if (rows[i]) sum[d] += rows[i][d];
}

void pack_values(Rows16 rows, int64_t value_size, float* panel) {
  const int64_t stride = padded_values(value_size);
  for (int i = 0; i < kPanelKeys; ++i) {
    float* to = panel + i * stride;
    int64_t d = 0;
    if (rows[i]) {
      for (; d + W <= value_size; d += W) Vector::store(to + d, Vector::load(rows[i] + d));
      for (; d < value_size; ++d) to[d] = rows[i][d];
    }
    for (; d < stride; ++d) to[d] = 0.0f;
  }
}

}  // namespace
}  // namespace edgesparse
