// The float arithmetic of every vector instruction set.
//
// One job is up to 64 query rows against a list of key panels. Per unit of four panels (64 keys):
// scores = Q K^T, running maximum, P = 2^(score - maximum), O = O * correction + P V. Logarithms are in
// base 2, the factor log2(e) being folded into the query's scale.
//
// A panel of a block of fewer than 16 tokens is partly empty. Where vectors are shorter than a panel, a unit
// leaves the empty strips out: their weights would be exactly 0.
#pragma once

#include "isa/tiles/units.h"

namespace edgesparse {
namespace {

// Keys that are left out or not, together.
constexpr int kStripKeys = W < 8 ? 8 : W;
constexpr int kPerStrip = kStripKeys / W;

// The strips of a unit that hold a key.
struct Strips {
  const float* keys[kUnitKeys / kStripKeys];  // rows kPanelKeys apart
  const float* values[kUnitKeys / kStripKeys];
  const float* bias[kUnitKeys / kStripKeys];
  int64_t last_for_row_0[kUnitKeys / kStripKeys];
  int32_t token[kUnitKeys / kStripKeys];
  int count;

  Strips(const Job& job, int64_t first, int panels, int64_t value_stride) : count(0) {
    for (int i = 0; i < panels; ++i) {
      const Panel& panel = job.panels[first + i];
      for (int lane = 0; lane < kPanelKeys && lane < panel.lanes; lane += kStripKeys) {
        keys[count] = (const float*)panel.keys + lane;
        values[count] = (const float*)panel.values + lane * value_stride;
        bias[count] = panel.bias + lane;
        token[count] = panel.token == kSeenByAll ? kSeenByAll : panel.token + lane;
        last_for_row_0[count++] =
            panel.last_for_row_0 == kNotDiagonal ? kNotDiagonal : panel.last_for_row_0 - lane;
      }
    }
  }
};

// scores[R][NV * W] = bias + q[R][D] . keys[D][NV * W], for NV vectors from vector `first` of the unit.
template <int R, int NV>
EDGESPARSE_INLINE void score_tile(const float* q, int64_t q_stride, int64_t head_size, const Strips& unit,
                                  int first, float* scores) {
  const float* keys[NV];
  F sum[R][NV];
  EDGESPARSE_UNROLL
  for (int v = 0; v < NV; ++v) {
    const int strip = (first + v) / kPerStrip, lane = (first + v) % kPerStrip * W;
    keys[v] = unit.keys[strip] + lane;
    const F bias = Vector::LoadU(unit.bias[strip] + lane);
    EDGESPARSE_UNROLL
    for (int r = 0; r < R; ++r) sum[r][v] = bias;
  }
  for (int64_t d = 0; d < head_size; ++d) {
    F k[NV];
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v) k[v] = Vector::LoadU(keys[v] + d * kPanelKeys);
    EDGESPARSE_UNROLL
    for (int r = 0; r < R; ++r) {
      const F a = Vector::Set(q[r * q_stride + d]);
      EDGESPARSE_UNROLL
      for (int v = 0; v < NV; ++v) sum[r][v] = Vector::MulAdd(a, k[v], sum[r][v]);
    }
  }
  EDGESPARSE_UNROLL
  for (int r = 0; r < R; ++r) {
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v) Vector::StoreU(scores + r * kUnitKeys + (first + v) * W, sum[r][v]);
  }
}

// out[R][NV * W] = out * correction + p[R][keys] . values, for NV vectors from column `column`.
template <int R, int NV>
EDGESPARSE_INLINE void value_tile(const float* p, const float* correction, const Strips& unit,
                                  int64_t value_stride, int64_t column, float* out) {
  F sum[R][NV];
  EDGESPARSE_UNROLL
  for (int r = 0; r < R; ++r) {
    const F c = Vector::Set(correction[r]);
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v) sum[r][v] = Vector::LoadU(out + r * value_stride + v * W) * c;
  }
  for (int strip = 0; strip < unit.count; ++strip) {
    const float* values = unit.values[strip] + column;
    const float* weights = p + strip * kStripKeys;
    EDGESPARSE_NO_UNROLL
    for (int key = 0; key < kStripKeys; ++key) {
      F b[NV];
      EDGESPARSE_UNROLL
      for (int v = 0; v < NV; ++v) b[v] = Vector::LoadU(values + key * value_stride + v * W);
      EDGESPARSE_UNROLL
      for (int r = 0; r < R; ++r) {
        const F a = Vector::Set(weights[r * kUnitKeys + key]);
        EDGESPARSE_UNROLL
        for (int v = 0; v < NV; ++v) sum[r][v] = Vector::MulAdd(a, b[v], sum[r][v]);
      }
    }
  }
  EDGESPARSE_UNROLL
  for (int r = 0; r < R; ++r) {
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v) Vector::StoreU(out + r * value_stride + v * W, sum[r][v]);
  }
}

template <int NV>
struct ScoreRows {
  const float* q;
  int64_t q_stride, head_size;
  const Strips& unit;
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
  const Strips& unit;
  const NextUnit& next;
  int64_t value_stride, column;
  float* out;
  template <int R>
  EDGESPARSE_INLINE void operator()(int64_t row) const {
    if (column == 0) next.prefetch(row, R);
    value_tile<R, NV>(p + row * kUnitKeys, correction + row, unit, value_stride, column,
                      out + row * value_stride + column);
  }
};

// Turns the scores of one unit into weights in place; updates each row's maximum and sum. Works on W rows at
// a time, so that the maxima are reduced and the corrections computed in full vectors: rows beyond the
// last must be readable and finite.
template <int NV>
EDGESPARSE_INLINE void soften_rows(float* scores, int64_t rows, float* maximum, float* sum,
                                   float* correction) {
  for (int64_t row = 0; row < rows; row += W) {
    const F before = Vector::LoadU(maximum + row);
    const F now = Vector::Max(largest_scores<NV>(scores + row * kUnitKeys), before);
    Vector::StoreU(maximum + row, now);
    Vector::StoreU(correction + row, exp2_fine(before - now));
    EDGESPARSE_NO_UNROLL
    for (int r = 0; r < W; ++r) {
      float* s = scores + (row + r) * kUnitKeys;
      const F shift = Vector::Set(maximum[row + r]);
      F total = Vector::LoadU(sum + (row + r) * kPanelKeys) * Vector::Set(correction[row + r]);
      EDGESPARSE_UNROLL
      for (int v = 0; v < NV; ++v) {
        const F p = exp2_fine(Vector::LoadU(s + v * W) - shift);
        Vector::StoreU(s + v * W, p);
        total = total + p;
      }
      Vector::StoreU(sum + (row + r) * kPanelKeys, total);
    }
  }
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

  for_units<float>(
      job, head_size, value_stride,
      [&](const Unit<float>&, int64_t first, int panels, const NextUnit& next_keys,
          const NextUnit& next_values) {
        const Strips unit(job, first, panels, value_stride);
        for_column_tiles(unit.count * kPerStrip, [&](auto tile, int64_t vector) {
          constexpr int NV = decltype(tile)::value;
          run_row_tiles<Vector::kTileRows[NV]>(
              rows, ScoreRows<NV>{q, head_size, head_size, unit, next_keys, (int)vector, scores});
        });
        for (int i = 0; i < unit.count; ++i)
          if (unit.last_for_row_0[i] != kNotDiagonal)
            mask_diagonal<kStripKeys>(scores + i * kStripKeys, unit.last_for_row_0[i], rows);
        for (int i = 0; job.first_key && i < unit.count; ++i)
          if (unit.token[i] != kSeenByAll)
            mask_spans<kStripKeys>(scores + i * kStripKeys, job, unit.token[i]);
        soften_unit<kPerStrip>(job, unit.count, [&](auto vectors) {
          soften_rows<decltype(vectors)::value>(scores, rows, maximum, sum, correction);
        });
        for_column_tiles(value_stride / W, [&](auto tile, int64_t vector) {
          constexpr int NV = decltype(tile)::value;
          run_row_tiles<Vector::kTileRows[NV]>(
              rows, ValueRows<NV>{scores, correction, unit, next_values, value_stride, vector * W, out});
        });
      });

  float* const total = correction;
  for (int64_t r = 0; r < rows; ++r) total[r] = add_lanes(sum + r * kPanelKeys);
  write_rows(job, out, value_stride, total);
}

}  // namespace
}  // namespace edgesparse
