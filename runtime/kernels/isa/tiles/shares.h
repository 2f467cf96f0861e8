// The selection's softmax of every vector instruction set.
#pragma once

#include "isa/shares.h"
#include "isa/tiles/math.h"

namespace edgesparse {
namespace {

// e^x for x <= 0, to 2e-7 of its value; exactly 0 from -88 down, minus infinity included.
EDGESPARSE_INLINE F exp_nonpositive(F x) {
  const F zero = {}, shift = Vector::Set(kRoundingShift), log2 = x * kLog2OfE;
  const F power = log2 > -127.0f ? log2 : zero - 127.0f;
  const F shifted = power + shift, whole = shifted - shift;
  // x - whole * ln 2, in two parts so that nothing is lost.
  const F kept = log2 > -127.0f ? x : zero;
  const F left = log2 > -127.0f ? (kept - whole * kLn2High) + whole * kLn2Low : zero;
  F p = left * kExponential[0] + kExponential[1];
  EDGESPARSE_UNROLL
  for (int i = 2; i < kExponentialTerms; ++i) p = p * left + kExponential[i];
  return (F)((U)p + ((U)shifted << 23));
}

void shares(const float* scores, const int32_t* valid_tokens, int64_t blocks, float* share) {
  const int64_t padded = round_up(blocks, kShareLanes);
  const float most = copy_scores(scores, valid_tokens, blocks, share);
  for (int64_t j = blocks; j < padded; ++j) share[j] = -__builtin_inff();
  if (most == -__builtin_inff()) {
    for (int64_t j = 0; j < blocks; ++j) share[j] = 0.0f;
    return;
  }
  for (int64_t j = 0; j < padded; j += W)
    Vector::StoreU(share + j, exp_nonpositive(Vector::LoadU(share + j) - most));
  const float total = sum_by_4(share, blocks);
  for (int64_t j = 0; j < padded; j += W) Vector::StoreU(share + j, Vector::LoadU(share + j) / total);
}

}  // namespace
}  // namespace edgesparse
