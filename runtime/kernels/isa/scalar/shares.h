// The selection's softmax in plain loops.
#pragma once

#include "isa/scalar/math.h"
#include "isa/shares.h"

namespace edgesparse {
namespace {

float exp_nonpositive(float x) {
  const float log2 = x * kLog2OfE;
  if (!(log2 > -127.0f)) return 0.0f;
  const float shifted = log2 + kRoundingShift, whole = shifted - kRoundingShift;
  const float left = (x - whole * kLn2High) + whole * kLn2Low;
  float p = left * kExponential[0] + kExponential[1];
  for (int i = 2; i < kExponentialTerms; ++i) p = p * left + kExponential[i];
  return scale_by_power(p, shifted);
}

void shares(const float* scores, const int32_t* valid_tokens, int64_t blocks, float* share) {
  const float most = copy_scores(scores, valid_tokens, blocks, share);
  for (int64_t j = 0; j < blocks; ++j)
    share[j] = most == -HUGE_VALF ? 0.0f : exp_nonpositive(share[j] - most);
  if (most == -HUGE_VALF) return;
  for (int64_t j = blocks; j % 4 != 0; ++j) share[j] = 0.0f;
  const float total = sum_by_4(share, blocks);
  for (int64_t j = 0; j < blocks; ++j) share[j] = share[j] / total;
}

}  // namespace
}  // namespace edgesparse
