// `PoolJob`, `ProductJob` and `MixJob` in plain loops, in the order of the vector instruction sets, so that
// outputs agree bit for bit.
#pragma once

#include <cmath>

#include "isa/pooling.h"

namespace edgesparse {
namespace {

void pool(const PoolJob& job) {
  for (int64_t c = 0; c < job.width; ++c) {
    float sum = 0.0f, most = 0.0f, least = 0.0f;
    int64_t count = 0;
    for (int64_t t = 0; t < job.tokens; ++t) {
      if (!job.real[t]) continue;
      const float x = job.rows[t * job.width + c];
      sum += x;
      most = count && most > x ? most : x;
      least = count && least < x ? least : x;
      ++count;
    }
    job.mean[c] = sum / static_cast<float>(count ? count : 1);
    if (!job.largest) continue;
    job.largest[c] = most;
    job.smallest[c] = least;
  }
}

void product(const ProductJob& job) {
  for (int64_t m = 0; m < job.rows; ++m)
    for (int64_t n = 0; n < job.columns; ++n) {
      float sum = 0.0f;
      for (int64_t k = 0; k < job.depth; ++k)
        sum = std::fma(job.a[m * job.a_stride + k], job.b[k * job.b_stride + n], sum);
      job.c[m * job.c_stride + n] = sum;
    }
}

void mix(const MixJob& job) {
  for (int64_t t = job.first_token; t < job.end_token; ++t)
    for (int64_t c = 0; c < job.width; ++c) {
      float sum = job.mixed[t * job.width + c];
      for (int64_t tap = 0; tap < job.taps; ++tap) {
        const int64_t from = t + tap - job.before;
        if (from >= 0 && from < job.all_tokens)
          sum = std::fma(job.weight[tap * job.width + c], job.value[from * job.width + c], sum);
      }
      job.output[t * job.width + c] = sum;
    }
}

}  // namespace
}  // namespace edgesparse
