// What the tiles of every vector instruction set are written in: included after a header that defines
// `Vector`.
//
// Everything has internal linkage, so that no other file of the program can end up with this file's
// instructions.
#pragma once

#include "isa/exponential.h"
#include "isa/table.h"

#define EDGESPARSE_INLINE inline __attribute__((always_inline))
#define EDGESPARSE_NOINLINE __attribute__((noinline))
// Before a loop whose bounds are constants of at most 16.
#define EDGESPARSE_UNROLL _Pragma("GCC unroll 16")
#define EDGESPARSE_NO_UNROLL _Pragma("GCC unroll 1")

namespace edgesparse {
namespace {

using F = Vector::F;
using I = Vector::I;
using Sum = Vector::Sum;
constexpr int W = Vector::kLanes;
// Vectors that hold one entry of each of the 16 lanes of a panel.
constexpr int kPerPanel = kPanelKeys / W;
typedef uint32_t U __attribute__((vector_size(sizeof(I))));
typedef int8_t Bytes __attribute__((vector_size(W)));

// Integers that come of NaN are any integers: their sums wrap, as they do in the scalar table.
EDGESPARSE_INLINE I wrapping_add(I a, I b) { return (I)((U)a + (U)b); }
EDGESPARSE_INLINE I wrapping_sub(I a, I b) { return (I)((U)a - (U)b); }

EDGESPARSE_INLINE I broadcast_int(int32_t x) { return x - I{}; }
EDGESPARSE_INLINE I load_int(const void* p) {
  I v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
EDGESPARSE_INLINE void store_int(void* p, I v) { __builtin_memcpy(p, &v, sizeof v); }
EDGESPARSE_INLINE F to_float(I v) { return __builtin_convertvector(v, F); }
EDGESPARSE_INLINE void store_bytes(void* p, I v) {
  const Bytes b = __builtin_convertvector(v, Bytes);
  __builtin_memcpy(p, &b, sizeof b);
}
EDGESPARSE_INLINE I broadcast_bytes(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return broadcast_int(four);
}

// `count` floats from p (at most W), zeros after them; zeros where p is null.
EDGESPARSE_INLINE F load_some(const float* p, int64_t count) {
  if (p && count >= W) return Vector::LoadU(p);
  float room[W] = {};
  if (p)
    for (int64_t i = 0; i < count; ++i) room[i] = p[i];
  return Vector::LoadU(room);
}

EDGESPARSE_INLINE F magnitude(F x) { return Vector::Max(x, -x); }
EDGESPARSE_INLINE F smaller(F a, F b) { return -Vector::Max(-a, -b); }

// Rounds to the nearest integer, ties to even, for |x| < 2^22.
EDGESPARSE_INLINE I round_to_int(F x) {
  const F shift = Vector::Set(kRoundingShift);
  return wrapping_sub((I)(x + shift), (I)shift);
}

// 2^x for x from -127 to 127, by the polynomial; exactly 0 at -127.
template <int count>
EDGESPARSE_INLINE F exp2(F x, const float (&coefficients)[count]) {
  const F shift = Vector::Set(kRoundingShift);
  const F shifted = x + shift;
  const F f = x - (shifted - shift);
  F p = Vector::Set(coefficients[0]);
  EDGESPARSE_UNROLL
  for (int i = 1; i < count; ++i) p = Vector::MulAdd(p, f, Vector::Set(coefficients[i]));
  // At x = -127 the polynomial is exactly 1 and the exponent field becomes exactly 0.
  return (F)((U)p + ((U)shifted << 23));
}
// Of NaN, NaN.
EDGESPARSE_INLINE F exp2_fine(F x) { return exp2(Vector::Max(Vector::Set(-127.0f), x), kFineExponential); }
// Of NaN, 0: it becomes an integer, which must be the same one on every instruction set.
EDGESPARSE_INLINE F exp2_coarse(F x) {
  return exp2(Vector::Max(x, Vector::Set(-127.0f)), kCoarseExponential);
}

// Halves the rows of a square until one is left: lane r of it is `combine` over the lanes of a[r].
template <class T, class Function>
EDGESPARSE_INLINE T reduce_rows(T (&a)[W], const Function& combine) {
  EDGESPARSE_UNROLL
  for (int half = W / 2; half > 0; half /= 2) EDGESPARSE_UNROLL
  for (int i = 0; i < half; ++i)
    a[i] = combine((T)Vector::InterleaveWholeLower((F)a[i], (F)a[i + half]),
                   (T)Vector::InterleaveWholeUpper((F)a[i], (F)a[i + half]));
  return a[0];
}

// Rows i and i + W/2 interleave; after log2(W) rounds a W x W square is transposed.
EDGESPARSE_INLINE void transpose_square(F (&a)[W]) {
  F b[W];
  constexpr int kHalf = W / 2;
  EDGESPARSE_UNROLL
  for (int stride = 1; stride < W; stride *= 2) {
    EDGESPARSE_UNROLL
    for (int i = 0; i < kHalf; ++i) {
      b[2 * i] = Vector::InterleaveWholeLower(a[i], a[i + kHalf]);
      b[2 * i + 1] = Vector::InterleaveWholeUpper(a[i], a[i + kHalf]);
    }
    EDGESPARSE_UNROLL
    for (int i = 0; i < W; ++i) a[i] = b[i];
  }
}

// Calls f with the first row of every tile: tiles of kMost rows, then 8, 4, 2 and 1.
template <int kMost, class Function>
EDGESPARSE_INLINE void for_row_tiles(int64_t rows, const Function& f) {
  int64_t row = 0;
  for (; row + kMost <= rows; row += kMost) f.template operator()<kMost>(row);
  if constexpr (kMost > 8)
    for (; row + 8 <= rows; row += 8) f.template operator()<8>(row);
  if constexpr (kMost > 4)
    for (; row + 4 <= rows; row += 4) f.template operator()<4>(row);
  for (; row + 2 <= rows; row += 2) f.template operator()<2>(row);
  for (; row < rows; ++row) f.template operator()<1>(row);
}

template <int kMost, class Tile>
EDGESPARSE_NOINLINE void run_row_tiles(int64_t rows, const Tile& tile) {
  for_row_tiles<kMost>(rows, tile);
}

template <int number>
struct Constant {
  static constexpr int value = number;
};

// Calls f(Constant<NV>, first) for runs of NV vectors: as many as a tile has, then what is left.
template <class Function>
EDGESPARSE_INLINE void for_column_tiles(int64_t vectors, const Function& f) {
  constexpr int kMost = Vector::kTileVectors;
  int64_t first = 0;
  for (; first + kMost <= vectors; first += kMost) f(Constant<kMost>(), first);
  const int64_t left = vectors - first;
  if constexpr (kMost > 3)
    if (left == 3) f(Constant<3>(), first);
  if constexpr (kMost > 2)
    if (left == 2) f(Constant<2>(), first);
  if (left == 1) f(Constant<1>(), first);
}

}  // namespace
}  // namespace edgesparse
