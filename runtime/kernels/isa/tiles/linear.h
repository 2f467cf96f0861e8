// `LinearJob` of every vector instruction set: included after isa/int8_tiles.h.
#pragma once

#include "isa/linear.h"

namespace edgesparse {
namespace {

constexpr int kParts16 = kPanelKeys / W;

EDGESPARSE_INLINE F smaller(F a, F b) { return -Vector::max(-a, -b); }

// Rows are prepared W at a time, so that sums and extremes over a row are reduced in full vectors: lane r of a
// reduced vector is row r. Rows beyond the last repeat it, and are not kept.
struct RowGroup {
  const float* row[W];
  int64_t depth;
};

// Lane r is the sum of row r's sixteen partial sums in the order of the lanes: one order on every instruction set.
EDGESPARSE_INLINE F add_16_rows(F (&partial)[kParts16][W]) {
  F total = Vector::broadcast(0.0f);
#pragma GCC unroll 4
  for (int i = 0; i < kParts16; ++i) {
    transpose_square(partial[i]);
#pragma GCC unroll 16
    for (int lane = 0; lane < W; ++lane) total = total + partial[i][lane];
  }
  return total;
}

// Lane r is 0 where every lane of a[r] is 0, and NaN where one is NaN.
EDGESPARSE_INLINE F reduce_poison_rows(F (&a)[W]) {
#pragma GCC unroll 4
  for (int half = W / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i)
      a[i] = Vector::interleave_low(a[i], a[i + half]) + Vector::interleave_high(a[i], a[i + half]);
  return a[0];
}

// Layer-normalizes the rows into `lines` and points to them.
__attribute__((noinline)) void normalize_rows(const LinearJob& job, RowGroup& group, float* lines) {
  const float count = static_cast<float>(job.depth);
  F partial[kParts16][W];
  for (int r = 0; r < W; ++r) {
    F sum[kParts16] = {};
    for (int64_t d = 0; d < job.depth; d += kPanelKeys)
      for (int i = 0; i < kParts16; ++i) sum[i] = sum[i] + Vector::load(group.row[r] + d + i * W);
    for (int i = 0; i < kParts16; ++i) partial[i][r] = sum[i];
  }
  float mean[W], factor[W];
  Vector::store(mean, add_16_rows(partial) / Vector::broadcast(count));
  for (int r = 0; r < W; ++r) {
    F sum[kParts16] = {};
    const F middle = Vector::broadcast(mean[r]);
    for (int64_t d = 0; d < job.depth; d += kPanelKeys)
      for (int i = 0; i < kParts16; ++i) {
        const F off = Vector::load(group.row[r] + d + i * W) - middle;
        sum[i] = Vector::fma(off, off, sum[i]);
      }
    for (int i = 0; i < kParts16; ++i) partial[i][r] = sum[i];
  }
  Vector::store(factor, add_16_rows(partial) / Vector::broadcast(count) + Vector::broadcast(job.epsilon));
  for (int r = 0; r < W; ++r) factor[r] = 1.0f / __builtin_sqrtf(factor[r]);
  for (int r = 0; r < W; ++r) {
    const F middle = Vector::broadcast(mean[r]), scale = Vector::broadcast(factor[r]);
    float* const to = lines + r * job.depth;
    for (int64_t d = 0; d < job.depth; d += W)
      Vector::store(to + d, Vector::fma((Vector::load(group.row[r] + d) - middle) * scale,
                                        Vector::load(job.gain + d), Vector::load(job.shift + d)));
    group.row[r] = to;
  }
}

// Bytes, steps and zeros of the first `count` rows; a row that is not finite gets a NaN step, so NaN comes out of
// it alone.
__attribute__((noinline)) void quantize_rows(const RowGroup& group, int64_t count, uint8_t* bytes, float* step,
                                             int32_t* zero) {
  F low[W], high[W], poison[W];
  for (int r = 0; r < W; ++r) {
    low[r] = high[r] = poison[r] = Vector::broadcast(0.0f);
    for (int64_t d = 0; d < group.depth; d += W) {
      const F v = Vector::load(group.row[r] + d);
      high[r] = Vector::max(high[r], v);
      low[r] = Vector::max(low[r], -v);
      poison[r] = poison[r] + v * Vector::broadcast(0.0f);
    }
  }
  const F least = reduce_max_rows(low), spoilt = reduce_poison_rows(poison);
  const F range = Vector::max(reduce_max_rows(high) + least, Vector::broadcast(1e-35f));
  const F inverse = Vector::broadcast(255.0f) / range;
  float steps[W], factors[W], bad[W];
  int32_t zeros[W];
  Vector::store(steps, range / Vector::broadcast(255.0f) + spoilt);
  Vector::store(factors, inverse);
  Vector::store(bad, spoilt);
  store_int(zeros, round_to_int(least * inverse));
  for (int r = 0; r < count; ++r) {
    step[r] = steps[r];
    zero[r] = bad[r] == 0.0f ? zeros[r] : 0;
    const F factor = Vector::broadcast(factors[r]), shift = Vector::broadcast(static_cast<float>(zero[r]));
    uint8_t* const to = bytes + r * group.depth;
    for (int64_t d = 0; d < group.depth; d += W) {
      F t = Vector::load(group.row[r] + d) * factor + shift;
      t = smaller(Vector::max(t, Vector::broadcast(0.0f)), Vector::broadcast(255.0f));
      store_bytes(to + d, round_to_int(t) + (Vector::kQueryBias - 128));
    }
  }
}

// x * (1 + erf(x / sqrt(2))) / 2, erf to 1.5e-7 (Abramowitz and Stegun 7.1.26).
EDGESPARSE_INLINE F gelu(F x) {
  const F z = magnitude(x) * Vector::broadcast(0.7071067811865476f);
  const F one = Vector::broadcast(1.0f);
  const F t = one / Vector::fma(z, Vector::broadcast(0.3275911f), one);
  F p = Vector::broadcast(1.061405429f);
  p = Vector::fma(p, t, Vector::broadcast(-1.453152027f));
  p = Vector::fma(p, t, Vector::broadcast(1.421413741f));
  p = Vector::fma(p, t, Vector::broadcast(-0.284496736f));
  p = Vector::fma(p, t, Vector::broadcast(0.254829592f));
  const F tail = p * t * exp2_nonpositive(z * z * Vector::broadcast(-1.4426950408889634f));
  // x * erf(|x| / sqrt(2)) with the sign of x taken off: |x| * erf.
  const F half = Vector::broadcast(0.5f);
  return half * Vector::fma(magnitude(x), one - tail, x);
}

template <int NV>
struct LinearRows {
  const LinearJob& job;
  const uint8_t* bytes;
  const float* step;
  const int32_t* zero;
  int64_t first;  // vector of columns

  template <int R>
  EDGESPARSE_INLINE void operator()(int64_t row) const {
    const int64_t quads = job.depth / 4, part = job.columns / job.parts;
    const uint8_t* rows = bytes + row * job.depth;
    const int8_t* weight[NV];
    I sum[R][NV] = {};
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v)
      weight[v] = job.weight + (first + v) / kParts16 * quads * 64 + (first + v) % kParts16 * W * 4;
    for (int64_t quad = 0; quad < quads; ++quad) {
      I w[NV];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) w[v] = load_int(weight[v] + quad * 64);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const I a = broadcast_bytes(rows + r * job.depth + quad * 4);
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) sum[r][v] = Vector::score_dot(sum[r][v], a, w[v]);
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      const int64_t column = (first + v) * W;
      const F scale = Vector::load(job.scale + column), bias = Vector::load(job.bias + column);
      const I total = load_int(job.weight_sum + column);
      float* const to = job.output[column / part] + column % part;
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const I exact = sum[r][v] - total * broadcast_int(zero[row + r] + (Vector::kQueryBias - 128));
        F y = Vector::fma(to_float(exact) * scale, Vector::broadcast(step[row + r]), bias);
        if (job.gelu) y = gelu(y);
        if (job.residual) y = y + Vector::load(job.residual + (row + r) * job.columns + column);
        Vector::store(to + (row + r) * part, y);
      }
    }
  }
};

template <int NV>
__attribute__((noinline)) void linear_columns(int64_t rows, const LinearRows<NV>& tile) {
  for_row_tiles<Vector::kInt8TileRows[NV]>(rows, tile);
}

void linear(const LinearJob& job) {
  float* const lines = static_cast<float*>(job.scratch);
  float* const step = lines + kPanelKeys * job.depth;
  int32_t* const zero = reinterpret_cast<int32_t*>(step + kRows);
  uint8_t* const bytes = reinterpret_cast<uint8_t*>(zero + kRows);
  for (int64_t first = 0; first < job.rows; first += W) {
    RowGroup group;
    group.depth = job.depth;
    const int64_t left = job.rows - first, count = left < W ? left : W;
    for (int64_t r = 0; r < W; ++r) group.row[r] = job.input + (first + (r < count ? r : count - 1)) * job.depth;
    if (job.gain) normalize_rows(job, group, lines);
    quantize_rows(group, count, bytes + first * job.depth, step + first, zero + first);
  }
  constexpr int kMost = Vector::kTileVectors;
  const int64_t vectors = job.columns / W;
  int64_t first = 0;
  for (; first + kMost <= vectors; first += kMost)
    linear_columns<kMost>(job.rows, {job, bytes, step, zero, first});
  const int64_t left = vectors - first;
  if constexpr (kMost > 3)
    if (left == 3) linear_columns<3>(job.rows, {job, bytes, step, zero, first});
  if constexpr (kMost > 2)
    if (left == 2) linear_columns<2>(job.rows, {job, bytes, step, zero, first});
  if (left == 1) linear_columns<1>(job.rows, {job, bytes, step, zero, first});
}

// Sum of each column's weights, from the packed panels.
void sum_weights(const int8_t* weight, int64_t depth, int64_t columns, int32_t* sums) {
  const I ones = broadcast_int(0x01010101);
  for (int64_t column = 0; column < columns; column += W) {
    const int8_t* panel = weight + column / kPanelKeys * depth * kPanelKeys + column % kPanelKeys * 4;
    I sum = {};
    for (int64_t quad = 0; quad < depth / 4; ++quad)
      sum = Vector::score_dot(sum, ones, load_int(panel + quad * 64));
    store_int(sums + column, sum);
  }
}

}  // namespace
}  // namespace edgesparse
