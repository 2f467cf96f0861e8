// Vectors of 8 floats: AVX2 and FMA; with __AVXVNNI__, the byte products of AVX-VNNI too.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace edgesparse {
namespace {

struct Vector {
  static constexpr int kLanes = 8;
  // 6 x 2 accumulators, two key vectors and one query element fill 15 of 16 registers.
  static constexpr int kTileRows[3] = {0, 8, 6};
  static constexpr int kTileVectors = 2;
  typedef float F __attribute__((vector_size(32)));
  typedef int32_t I __attribute__((vector_size(32)));

#ifdef __AVXVNNI__
  static constexpr int kInt8TileRows[3] = {0, 8, 6};
#else
  // Widened keys and queries take registers of their own.
  static constexpr int kInt8TileRows[3] = {0, 8, 4};
#endif
  static constexpr int kQueryBias = 128, kWeightBias = 0;

  static F LoadU(const float* p) { return (F)_mm256_loadu_ps(p); }
  static void StoreU(float* p, F v) { _mm256_storeu_ps(p, (__m256)v); }
  static F Set(float x) { return (F)_mm256_set1_ps(x); }
  static F MulAdd(F a, F b, F c) { return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
  // Gives b where one of them is NaN, on every instruction set.
  static F Max(F a, F b) { return (F)_mm256_max_ps((__m256)a, (__m256)b); }
  static F InterleaveWholeLower(F a, F b) {
    const __m256 low = _mm256_unpacklo_ps((__m256)a, (__m256)b),
                 high = _mm256_unpackhi_ps((__m256)a, (__m256)b);
    return (F)_mm256_permute2f128_ps(low, high, 0x20);
  }
  static F InterleaveWholeUpper(F a, F b) {
    const __m256 low = _mm256_unpacklo_ps((__m256)a, (__m256)b),
                 high = _mm256_unpackhi_ps((__m256)a, (__m256)b);
    return (F)_mm256_permute2f128_ps(low, high, 0x31);
  }
  static I MaxInt(I a, I b) { return (I)_mm256_max_epi32((__m256i)a, (__m256i)b); }
  // The low bytes of 32 integers from -128 to 127, or from 0 to 255, in their order.
  static I pack_signed(I a, I b, I c, I d) {
    return in_order(_mm256_packs_epi16(_mm256_packs_epi32((__m256i)a, (__m256i)b),
                                       _mm256_packs_epi32((__m256i)c, (__m256i)d)));
  }
  static I pack_unsigned(I a, I b, I c, I d) {
    return in_order(_mm256_packus_epi16(_mm256_packs_epi32((__m256i)a, (__m256i)b),
                                        _mm256_packs_epi32((__m256i)c, (__m256i)d)));
  }
  // Packing works within lanes of 128 bits: lane i holds four bytes of each of its four sources.
  static I in_order(__m256i lanes) {
    return (I)_mm256_permutevar8x32_epi32(lanes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
  // A sum of byte products under way.
  typedef I Sum;
  static Sum StartSum(I from) { return from; }
  static I FinishSum(Sum sum) { return sum; }
  // sum + the products of four unsigned bytes and four signed ones.
  static Sum SumOfMulQuadAccumulate(I bytes, I keys, Sum sum) {
#ifdef __AVXVNNI__
    return (I)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)bytes, (__m256i)keys);
#else
    // Bytes are widened to 16 bits: the byte multiply of AVX2 (maddubs) saturates, and would give another
    // answer than VNNI.
    const __m256i a = (__m256i)bytes, b = (__m256i)keys;
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(a, _mm256_set1_epi16(255)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8));
    return sum + (I)even + (I)odd;
#endif
  }
};

}  // namespace
}  // namespace edgesparse
