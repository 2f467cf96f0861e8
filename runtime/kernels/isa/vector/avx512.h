// Vectors of 16 floats: AVX-512 F, BW, VL, DQ.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace edgesparse {
namespace {

struct Vector {
  static constexpr int kLanes = 16;
  // Rows of a tile by the number of vectors across: accumulators + one row of operands fit 32 registers.
  static constexpr int kTileRows[5] = {0, 12, 12, 8, 6};
  static constexpr int kTileVectors = 4;
  typedef float F __attribute__((vector_size(64)));
  typedef int32_t I __attribute__((vector_size(64)));

  static constexpr int kInt8TileRows[5] = {0, 12, 12, 8, 6};
  static constexpr int kQueryBias = 128, kWeightBias = 0;

  static F LoadU(const float* p) { return (F)_mm512_loadu_ps(p); }
  static void StoreU(float* p, F v) { _mm512_storeu_ps(p, (__m512)v); }
  static F Set(float x) { return (F)_mm512_set1_ps(x); }
  static F MulAdd(F a, F b, F c) { return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
  // Gives b where one of them is NaN, on every instruction set.
  static F Max(F a, F b) { return (F)_mm512_max_ps((__m512)a, (__m512)b); }
  static F InterleaveWholeLower(F a, F b) {
    return (F)_mm512_permutex2var_ps(
        (__m512)a, _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23), (__m512)b);
  }
  static F InterleaveWholeUpper(F a, F b) {
    return (F)_mm512_permutex2var_ps(
        (__m512)a, _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31),
        (__m512)b);
  }
  static I MaxInt(I a, I b) { return (I)_mm512_max_epi32((__m512i)a, (__m512i)b); }
  // The low bytes of 64 integers from -128 to 127, or from 0 to 255, in their order.
  static I pack_signed(I a, I b, I c, I d) {
    return in_order(_mm512_packs_epi16(_mm512_packs_epi32((__m512i)a, (__m512i)b),
                                       _mm512_packs_epi32((__m512i)c, (__m512i)d)));
  }
  static I pack_unsigned(I a, I b, I c, I d) {
    return in_order(_mm512_packus_epi16(_mm512_packs_epi32((__m512i)a, (__m512i)b),
                                        _mm512_packs_epi32((__m512i)c, (__m512i)d)));
  }
  // Packing works within lanes of 128 bits: lane i holds four bytes of each of its four sources.
  static I in_order(__m512i lanes) {
    return (I)_mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), lanes);
  }
  // A sum of byte products under way.
  typedef I Sum;
  static Sum StartSum(I from) { return from; }
  static I FinishSum(Sum sum) { return sum; }
  // sum + the products of four unsigned bytes and four signed ones.
  static Sum SumOfMulQuadAccumulate(I bytes, I keys, Sum sum) {
    return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)bytes, (__m512i)keys);
  }
};

}  // namespace
}  // namespace edgesparse
