// `LinearJob` of every vector instruction set: included after isa/int8_tiles.h.
#pragma once

#include "isa/linear.h"

namespace edgesparse {
namespace {

constexpr int kParts16 = kPanelKeys / W;

EDGESPARSE_INLINE F smaller(F a, F b) { return -Vector::max(-a, -b); }

// Sixteen partial sums, added in the order of the lanes: the same on every instruction set.
EDGESPARSE_INLINE float add_16(const F (&partial)[kParts16]) {
  float lanes[kPanelKeys];
  for (int i = 0; i < kParts16; ++i) Vector::store(lanes + i * W, partial[i]);
  float total = 0.0f;
  for (int i = 0; i < kPanelKeys; ++i) total += lanes[i];
  return total;
}

EDGESPARSE_INLINE float largest_lane(F v) {
  float lanes[W];
  Vector::store(lanes, v);
  float most = lanes[0];
  for (int i = 1; i < W; ++i) most = lanes[i] > most ? lanes[i] : most;
  return most;
}

void normalise_row(const LinearJob& job, const float* x, float* to) {
  const float count = static_cast<float>(job.depth);
  F partial[kParts16] = {};
  for (int64_t d = 0; d < job.depth; d += kPanelKeys)
    for (int i = 0; i < kParts16; ++i) partial[i] = partial[i] + Vector::load(x + d + i * W);
  const F mean = Vector::broadcast(add_16(partial) / count);
  F squares[kParts16] = {};
  for (int64_t d = 0; d < job.depth; d += kPanelKeys)
    for (int i = 0; i < kParts16; ++i) {
      const F off = Vector::load(x + d + i * W) - mean;
      squares[i] = Vector::fma(off, off, squares[i]);
    }
  const F factor = Vector::broadcast(1.0f / __builtin_sqrtf(add_16(squares) / count + job.epsilon));
  for (int64_t d = 0; d < job.depth; d += W)
    Vector::store(to + d, Vector::fma((Vector::load(x + d) - mean) * factor, Vector::load(job.gain + d),
                                      Vector::load(job.shift + d)));
}

// Bytes, step and zero of one row; a row that is not finite gets a NaN step, so NaN comes out of it alone.
void quantize_row(const float* x, int64_t depth, uint8_t* bytes, float* step, int32_t* zero) {
  F low = Vector::broadcast(0.0f), high = low, poison = low;
  for (int64_t d = 0; d < depth; d += W) {
    const F v = Vector::load(x + d);
    high = Vector::max(high, v);
    low = Vector::max(low, -v);
    poison = poison + v * Vector::broadcast(0.0f);
  }
  const float least = largest_lane(low), most = largest_lane(high);
  float range = most + least;
  range = range > 1e-35f ? range : 1e-35f;
  const float inverse = 255.0f / range;
  const bool finite = all_zero(poison);
  *step = finite ? range / 255.0f : __builtin_nanf("");
  const I rounded = finite ? round_to_int(Vector::broadcast(least * inverse)) : I{};
  *zero = rounded[0];
  const F factor = Vector::broadcast(inverse), zero_point = to_float(rounded);
  for (int64_t d = 0; d < depth; d += W) {
    F t = Vector::load(x + d) * factor + zero_point;
    t = smaller(Vector::max(t, Vector::broadcast(0.0f)), Vector::broadcast(255.0f));
    store_bytes(bytes + d, round_to_int(t) + (Vector::kQueryBias - 128));
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
  float* const line = static_cast<float*>(job.scratch);
  float* const step = line + job.depth;
  int32_t* const zero = reinterpret_cast<int32_t*>(step + kRows);
  uint8_t* const bytes = reinterpret_cast<uint8_t*>(zero + kRows);
  for (int64_t r = 0; r < job.rows; ++r) {
    const float* row = job.input + r * job.depth;
    if (job.gain) normalise_row(job, row, line);
    quantize_row(job.gain ? line : row, job.depth, bytes + r * job.depth, step + r, zero + r);
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
