// Vectors of 4 floats: AArch64.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace edgesparse {
namespace {

struct Vector {
  static constexpr int kLanes = 4;
  static constexpr int kTileRows[5] = {0, 12, 12, 8, 6};
  static constexpr int kTileVectors = 4;
  typedef float F __attribute__((vector_size(16)));
  typedef int32_t I __attribute__((vector_size(16)));

  static constexpr int kInt8TileRows[5] = {0, 12, 12, 8, 4};
  // Signed by signed is what there is: the query is stored as it is, a weight as p - 128.
  static constexpr int kQueryBias = 0, kWeightBias = 128;

  static F LoadU(const float* p) { return (F)vld1q_f32(p); }
  static void StoreU(float* p, F v) { vst1q_f32(p, (float32x4_t)v); }
  static F Set(float x) { return (F)vdupq_n_f32(x); }
  static F MulAdd(F a, F b, F c) { return (F)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
  // Gives b where one of them is NaN, on every instruction set; NEON's own maximum would give NaN.
  static F Max(F a, F b) {
    return (F)vbslq_f32(vcgtq_f32((float32x4_t)a, (float32x4_t)b), (float32x4_t)a, (float32x4_t)b);
  }
  static F InterleaveWholeLower(F a, F b) { return (F)vzip1q_f32((float32x4_t)a, (float32x4_t)b); }
  static F InterleaveWholeUpper(F a, F b) { return (F)vzip2q_f32((float32x4_t)a, (float32x4_t)b); }
  static I MaxInt(I a, I b) { return (I)vmaxq_s32((int32x4_t)a, (int32x4_t)b); }
  // The low bytes of 16 integers from -128 to 127, or from 0 to 255, in their order.
  static I pack_signed(I a, I b, I c, I d) {
    const int16x8_t low = vcombine_s16(vmovn_s32((int32x4_t)a), vmovn_s32((int32x4_t)b));
    const int16x8_t high = vcombine_s16(vmovn_s32((int32x4_t)c), vmovn_s32((int32x4_t)d));
    return (I)vcombine_s8(vmovn_s16(low), vmovn_s16(high));
  }
  static I pack_unsigned(I a, I b, I c, I d) { return pack_signed(a, b, c, d); }
  // sum + the products of four signed bytes and four others.
  static I SumOfMulQuadAccumulate(I bytes, I keys, I sum) {
#ifdef __ARM_FEATURE_DOTPROD
    return (I)vdotq_s32((int32x4_t)sum, (int8x16_t)bytes, (int8x16_t)keys);
#else
    const int8x16_t a = (int8x16_t)bytes, b = (int8x16_t)keys;
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    const int32x4_t high = vpaddlq_s16(vmull_high_s8(a, b));
    return sum + (I)vpaddq_s32(low, high);
#endif
  }
};

}  // namespace
}  // namespace edgesparse
