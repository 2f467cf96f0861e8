// `PoolJob`, `ProductJob` and `MixJob` of every vector instruction set. Columns beyond the last whole vector
// are computed one by one.
#pragma once

#include "isa/pooling.h"
#include "isa/tiles/math.h"

namespace edgesparse {
namespace {

void pool_column(const PoolJob& job, int64_t column, int64_t count) {
  float sum = 0.0f, most = 0.0f, least = 0.0f;
  bool any = false;
  for (int64_t t = 0; t < job.tokens; ++t) {
    if (!job.real[t]) continue;
    const float x = job.rows[t * job.width + column];
    sum += x;
    most = any && most > x ? most : x;
    least = any && least < x ? least : x;
    any = true;
  }
  job.mean[column] = sum / (float)(count ? count : 1);
  if (!job.largest) return;
  job.largest[column] = most;
  job.smallest[column] = least;
}

void pool(const PoolJob& job) {
  int64_t count = 0, first = job.tokens;
  for (int64_t t = job.tokens; t-- > 0;)
    if (job.real[t]) ++count, first = t;
  const F divisor = Vector::Set((float)(count ? count : 1));
  int64_t column = 0;
  for (; column + W <= job.width && count; column += W) {
    const float* x = job.rows + column;
    F sum = {}, most = Vector::LoadU(x + first * job.width), least = most;
    for (int64_t t = first; t < job.tokens; ++t) {
      if (!job.real[t]) continue;
      const F v = Vector::LoadU(x + t * job.width);
      sum = sum + v;
      most = Vector::Max(most, v);
      least = smaller(least, v);
    }
    Vector::StoreU(job.mean + column, sum / divisor);
    if (!job.largest) continue;
    Vector::StoreU(job.largest + column, most);
    Vector::StoreU(job.smallest + column, least);
  }
  for (; column < job.width; ++column) pool_column(job, column, count);
}

template <int NV>
EDGESPARSE_INLINE void product_columns(const ProductJob& job, const float* a, const float* b, float* c) {
  F sum[NV] = {};
  for (int64_t k = 0; k < job.depth; ++k) {
    const F x = Vector::Set(a[k]);
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v)
      sum[v] = Vector::MulAdd(x, Vector::LoadU(b + k * job.b_stride + v * W), sum[v]);
  }
  EDGESPARSE_UNROLL
  for (int v = 0; v < NV; ++v) Vector::StoreU(c + v * W, sum[v]);
}

void product(const ProductJob& job) {
  for (int64_t m = 0; m < job.rows; ++m) {
    const float* a = job.a + m * job.a_stride;
    float* c = job.c + m * job.c_stride;
    int64_t n = 0;
    // Eight chains of additions hide their latency: a row alone is read twice as fast as with four.
    for (; n + 8 * W <= job.columns; n += 8 * W) product_columns<8>(job, a, job.b + n, c + n);
    for (; n + 4 * W <= job.columns; n += 4 * W) product_columns<4>(job, a, job.b + n, c + n);
    for (; n + W <= job.columns; n += W) product_columns<1>(job, a, job.b + n, c + n);
    for (; n < job.columns; ++n) {
      float sum = 0.0f;
      for (int64_t k = 0; k < job.depth; ++k) sum = __builtin_fmaf(a[k], job.b[k * job.b_stride + n], sum);
      c[n] = sum;
    }
  }
}

void mix(const MixJob& job) {
  for (int64_t t = job.first_token; t < job.end_token; ++t) {
    const int64_t from = t - job.before < 0 ? job.before - t : 0;
    const int64_t left = job.all_tokens - t + job.before, end = left < job.taps ? left : job.taps;
    const float* mixed = job.mixed + t * job.width;
    const float* value = job.value + (t - job.before) * job.width;
    float* output = job.output + t * job.width;
    int64_t c = 0;
    for (; c + W <= job.width; c += W) {
      F sum = Vector::LoadU(mixed + c);
      for (int64_t tap = from; tap < end; ++tap)
        sum = Vector::MulAdd(Vector::LoadU(job.weight + tap * job.width + c),
                             Vector::LoadU(value + tap * job.width + c), sum);
      Vector::StoreU(output + c, sum);
    }
    for (; c < job.width; ++c) {
      float sum = mixed[c];
      for (int64_t tap = from; tap < end; ++tap)
        sum = __builtin_fmaf(job.weight[tap * job.width + c], value[tap * job.width + c], sum);
      output[c] = sum;
    }
  }
}

}  // namespace
}  // namespace edgesparse
