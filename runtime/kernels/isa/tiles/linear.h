// `LinearJob` of every vector instruction set.
#pragma once

#include "isa/linear.h"
#include "isa/tiles/pack_int8.h"

namespace edgesparse {
namespace {

// Rows are prepared W at a time, so that sums and extremes over a row are reduced in full vectors: lane r of
// a reduced vector is row r. Rows beyond the last repeat it, and are not kept.
struct RowGroup {
  const float* row[W];
  int64_t depth;
};

// Rows as bytes, in a job's scratch.
struct QuantizedRows {
  uint8_t* bytes;  // rows `stride` apart
  int64_t stride;
  float* step;
  int32_t* zero;
};

// Lane r is the sum of row r's sixteen partial sums in the order of the lanes: one order on every instruction
// set.
EDGESPARSE_INLINE F add_16_rows(F (&partial)[kPerPanel][W]) {
  F total = Vector::Set(0.0f);
  EDGESPARSE_UNROLL
  for (int i = 0; i < kPerPanel; ++i) {
    transpose_square(partial[i]);
    EDGESPARSE_UNROLL
    for (int lane = 0; lane < W; ++lane) total = total + partial[i][lane];
  }
  return total;
}

// Layer-normalizes the rows into `lines` and points to them.
__attribute__((noinline)) void normalize_rows(const LinearJob& job, RowGroup& group, float* lines) {
  const float count = static_cast<float>(job.depth);
  F partial[kPerPanel][W];
  for (int r = 0; r < W; ++r) {
    F sum[kPerPanel] = {};
    for (int64_t d = 0; d < job.depth; d += kPanelKeys)
      for (int i = 0; i < kPerPanel; ++i) sum[i] = sum[i] + Vector::LoadU(group.row[r] + d + i * W);
    for (int i = 0; i < kPerPanel; ++i) partial[i][r] = sum[i];
  }
  float mean[W], factor[W];
  Vector::StoreU(mean, add_16_rows(partial) / Vector::Set(count));
  for (int r = 0; r < W; ++r) {
    F sum[kPerPanel] = {};
    const F middle = Vector::Set(mean[r]);
    for (int64_t d = 0; d < job.depth; d += kPanelKeys)
      for (int i = 0; i < kPerPanel; ++i) {
        const F off = Vector::LoadU(group.row[r] + d + i * W) - middle;
        sum[i] = Vector::MulAdd(off, off, sum[i]);
      }
    for (int i = 0; i < kPerPanel; ++i) partial[i][r] = sum[i];
  }
  Vector::StoreU(factor, add_16_rows(partial) / Vector::Set(count) + Vector::Set(job.epsilon));
  for (int r = 0; r < W; ++r) factor[r] = 1.0f / __builtin_sqrtf(factor[r]);
  for (int r = 0; r < W; ++r) {
    const F middle = Vector::Set(mean[r]), scale = Vector::Set(factor[r]);
    float* const to = lines + r * job.depth;
    for (int64_t d = 0; d < job.depth; d += W)
      Vector::StoreU(to + d, Vector::MulAdd((Vector::LoadU(group.row[r] + d) - middle) * scale,
                                            Vector::LoadU(job.gain + d), Vector::LoadU(job.shift + d)));
    group.row[r] = to;
  }
}

// Bytes, steps and zeros of the first `count` rows; a row that is not finite gets a NaN step, so NaN comes
// out of it alone.
__attribute__((noinline)) void quantize_rows(const RowGroup& group, int64_t count, int64_t first,
                                             const QuantizedRows& rows) {
  F low[W], high[W], poison[W];
  for (int r = 0; r < W; ++r) {
    low[r] = high[r] = poison[r] = Vector::Set(0.0f);
    for (int64_t d = 0; d < group.depth; d += W) {
      const F v = Vector::LoadU(group.row[r] + d);
      high[r] = Vector::Max(high[r], v);
      low[r] = Vector::Max(low[r], -v);
      poison[r] = poison[r] + v * Vector::Set(0.0f);
    }
  }
  // 0 where every lane of a row is 0, NaN where one is NaN.
  const auto add = [](F a, F b) { return a + b; };
  const F least = reduce_rows(low, Vector::Max), spoilt = reduce_rows(poison, add);
  const F range = Vector::Max(reduce_rows(high, Vector::Max) + least, Vector::Set(1e-35f));
  const F inverse = Vector::Set(255.0f) / range;
  float steps[W], factors[W], bad[W];
  int32_t zeros[W];
  Vector::StoreU(steps, range / Vector::Set(255.0f) + spoilt);
  Vector::StoreU(factors, inverse);
  Vector::StoreU(bad, spoilt);
  store_int(zeros, round_to_int(least * inverse));
  for (int r = 0; r < count; ++r) {
    const int32_t zero = bad[r] == 0.0f ? zeros[r] : 0;
    rows.step[first + r] = steps[r];
    rows.zero[first + r] = zero;
    const F factor = Vector::Set(factors[r]), shift = Vector::Set(static_cast<float>(zero));
    uint8_t* const to = rows.bytes + (first + r) * rows.stride;
    for (int64_t d = 0; d < group.depth; d += W) {
      F t = Vector::LoadU(group.row[r] + d) * factor + shift;
      t = smaller(Vector::Max(t, Vector::Set(0.0f)), Vector::Set(255.0f));
      store_bytes(to + d, round_to_int(t) + (Vector::kQueryBias - 128));
    }
  }
}

// x * (1 + erf(x / sqrt(2))) / 2, erf to 1.5e-7 (Abramowitz and Stegun 7.1.26).
EDGESPARSE_INLINE F gelu(F x) {
  const F z = magnitude(x) * Vector::Set(0.7071067811865476f);
  const F one = Vector::Set(1.0f);
  const F t = one / Vector::MulAdd(z, Vector::Set(0.3275911f), one);
  F p = Vector::Set(1.061405429f);
  p = Vector::MulAdd(p, t, Vector::Set(-1.453152027f));
  p = Vector::MulAdd(p, t, Vector::Set(1.421413741f));
  p = Vector::MulAdd(p, t, Vector::Set(-0.284496736f));
  p = Vector::MulAdd(p, t, Vector::Set(0.254829592f));
  const F tail = p * t * exp2_fine(z * z * Vector::Set(-1.4426950408889634f));
  // x * erf(|x| / sqrt(2)) with the sign of x taken off: |x| * erf.
  const F half = Vector::Set(0.5f);
  return half * Vector::MulAdd(magnitude(x), one - tail, x);
}

// What follows the product, for W columns of one row.
EDGESPARSE_INLINE F finish(const LinearJob& job, I exact, F scale, F bias, float step, int64_t row,
                           int64_t column) {
  F y = Vector::MulAdd(to_float(exact) * scale, Vector::Set(step), bias);
  if (job.gelu) y = gelu(y);
  if (job.residual) y = y + Vector::LoadU(job.residual + row * job.columns + column);
  return y;
}

template <int NV>
struct LinearRows {
  const LinearJob& job;
  QuantizedRows in;
  int64_t first;  // vector of columns

  template <int R>
  EDGESPARSE_INLINE void operator()(int64_t row) const {
    const int64_t quads = job.depth / 4, part = job.columns / job.parts;
    const uint8_t* rows = in.bytes + row * in.stride;
    const int8_t* weight[NV];
    Sum sum[R][NV] = {};
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v)
      weight[v] = job.weight + (first + v) / kPerPanel * quads * 64 + (first + v) % kPerPanel * W * 4;
    for (int64_t quad = 0; quad < quads; ++quad) {
      I w[NV];
      EDGESPARSE_UNROLL
      for (int v = 0; v < NV; ++v) w[v] = load_int(weight[v] + quad * 64);
      EDGESPARSE_UNROLL
      for (int r = 0; r < R; ++r) {
        const I a = broadcast_bytes(rows + r * in.stride + quad * 4);
        EDGESPARSE_UNROLL
        for (int v = 0; v < NV; ++v) sum[r][v] = Vector::SumOfMulQuadAccumulate(a, w[v], sum[r][v]);
      }
    }
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v) {
      const int64_t column = (first + v) * W;
      const F scale = Vector::LoadU(job.scale + column), bias = Vector::LoadU(job.bias + column);
      const I total = load_int(job.weight_sum + column);
      float* const to = job.output[column / part] + column % part;
      EDGESPARSE_UNROLL
      for (int r = 0; r < R; ++r) {
        const I exact = Vector::FinishSum(sum[r][v]) -
                        total * broadcast_int(in.zero[row + r] + (Vector::kQueryBias - 128));
        const F y = finish(job, exact, scale, bias, in.step[row + r], row + r, column);
        Vector::StoreU(to + (row + r) * part, y);
      }
    }
  }
};

QuantizedRows quantize_input(const LinearJob& job) {
  float* const lines = static_cast<float*>(job.scratch);
  QuantizedRows in;
  in.step = lines + kPanelKeys * job.depth;
  in.zero = reinterpret_cast<int32_t*>(in.step + kRows);
  in.bytes = reinterpret_cast<uint8_t*>(in.zero + kRows);
  in.stride = linear_stride(job.depth);
  for (int64_t first = 0; first < job.rows; first += W) {
    RowGroup group;
    group.depth = job.depth;
    const int64_t left = job.rows - first, count = left < W ? left : W;
    for (int64_t r = 0; r < W; ++r)
      group.row[r] = job.input + (first + (r < count ? r : count - 1)) * job.depth;
    if (job.gain) normalize_rows(job, group, lines);
    quantize_rows(group, count, first, in);
  }
  return in;
}

void linear(const LinearJob& job) {
  const QuantizedRows in = quantize_input(job);
  for_column_tiles(job.columns / W, [&](auto tile, int64_t vector) {
    constexpr int NV = decltype(tile)::value;
    run_row_tiles<Vector::kInt8TileRows[NV]>(job.rows, LinearRows<NV>{job, in, vector});
  });
}

// Sum of each column's weights, from the packed panels.
void sum_weights(const int8_t* weight, int64_t depth, int64_t columns, int32_t* sums) {
  const I ones = broadcast_int(0x01010101);
  for (int64_t column = 0; column < columns; column += W) {
    const int8_t* panel = weight + column / kPanelKeys * depth * kPanelKeys + column % kPanelKeys * 4;
    Sum sum = {};
    for (int64_t quad = 0; quad < depth / 4; ++quad)
      sum = Vector::SumOfMulQuadAccumulate(ones, load_int(panel + quad * 64), sum);
    store_int(sums + column, Vector::FinishSum(sum));
  }
}

}  // namespace
}  // namespace edgesparse
