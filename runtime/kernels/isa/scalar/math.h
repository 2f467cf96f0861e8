// The steps that the scalar functions share, each rounding as the vectors of isa/tiles/math.h do.
#pragma once

#include <cmath>
#include <cstring>

#include "isa/exponential.h"
#include "isa/table.h"

namespace edgesparse {
namespace {

float larger(float a, float b) { return a > b ? a : b; }
float magnitude(float x) { return larger(x, -x); }
uint8_t low_byte(int32_t x) { return static_cast<uint8_t>(static_cast<uint32_t>(x) & 255u); }

// Bits of x + shift less those of the shift: the nearest integer for |x| < 2^22, something harmless for NaN.
int32_t nearest(float x) {
  const float shifted = x + kRoundingShift;
  uint32_t a, b;
  std::memcpy(&a, &shifted, 4);
  std::memcpy(&b, &kRoundingShift, 4);
  return static_cast<int32_t>(a - b);
}

// p times two to the power of the whole number that adding kRoundingShift to it has left in `shifted`.
float scale_by_power(float p, float shifted) {
  uint32_t bits, exponent;
  std::memcpy(&bits, &p, 4);
  std::memcpy(&exponent, &shifted, 4);
  bits += exponent << 23;
  std::memcpy(&p, &bits, 4);
  return p;
}

template <int count>
float exp2(float x, const float (&coefficients)[count]) {
  const float shifted = x + kRoundingShift, f = x - (shifted - kRoundingShift);
  float p = coefficients[0];
  for (int i = 1; i < count; ++i) p = std::fma(p, f, coefficients[i]);
  return scale_by_power(p, shifted);
}
// Of NaN, NaN.
float exp2_fine(float x) { return exp2(larger(-127.0f, x), kFineExponential); }
// Of NaN, 0: it becomes an integer, which must be the same one on every instruction set.
float exp2_coarse(float x) { return exp2(larger(x, -127.0f), kCoarseExponential); }

}  // namespace
}  // namespace edgesparse
