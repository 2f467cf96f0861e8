// The part of `Table::shares` that every instruction set has in common.
#pragma once

#include "isa/exponential.h"
#include "isa/table.h"

namespace edgesparse {
namespace {

// e^x by its series, the highest power first, after x is brought within ln 2 / 2 of zero.
constexpr int kExponentialTerms = 7;
constexpr float kExponential[kExponentialTerms] = {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f,
                                                   0.5f,          1.0f,          1.0f};
constexpr float kLog2OfE = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = 2.12194440e-4f;

// Copies the scores, minus infinity where a block does not count; gives the largest.
float copy_scores(const float* scores, const int32_t* valid_tokens, int64_t blocks, float* to) {
  const float infinity = __builtin_inff();
  float most = -infinity;
  for (int64_t j = 0; j < blocks; ++j) {
    // A comparison with NaN is false.
    const float score = scores[j] < infinity ? scores[j] : -kLowest;
    to[j] = (valid_tokens[j] > 0) & (scores[j] == scores[j]) ? score : -infinity;
    most = most < to[j] ? to[j] : most;
  }
  return most;
}

// Four partial sums in one order, so that selections agree on every instruction set. `x` is readable and 0 up
// to the next multiple of four.
float sum_by_4(const float* x, int64_t count) {
  float sum[4] = {};
  for (int64_t j = 0; j < count; j += 4)
    for (int i = 0; i < 4; ++i) sum[i] += x[j + i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

}  // namespace
}  // namespace edgesparse
