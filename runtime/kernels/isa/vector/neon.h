// Vectors of 4 floats: AArch64; with __ARM_FEATURE_DOTPROD, the byte products of Armv8.2 too.
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

#ifdef __ARM_FEATURE_DOTPROD
  static constexpr int kInt8TileRows[5] = {0, 12, 12, 8, 6};
#else
  // A sum takes two registers. More rows would fit, and leave none for the products of the next quad.
  static constexpr int kInt8TileRows[5] = {0, 8, 4, 2, 2};
#endif
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
#ifdef __ARM_FEATURE_DOTPROD
  // A sum of byte products under way.
  typedef I Sum;
  static Sum StartSum(I from) { return from; }
  static I FinishSum(Sum sum) { return sum; }
  // sum + the products of four signed bytes and four others.
  static Sum SumOfMulQuadAccumulate(I bytes, I keys, Sum sum) {
    return (I)vdotq_s32((int32x4_t)sum, (int8x16_t)bytes, (int8x16_t)keys);
  }
#else
  // Two lanes per sum, so that every product of 16 bits is widened by the instruction that adds it: in 16
  // bits two products of -128 by -128 would overflow.
  struct Sum {
    int32x4_t low, high;
  };
  static Sum StartSum(I from) {
    const int32x4_t none = vdupq_n_s32(0);
    return {vzip1q_s32((int32x4_t)from, none), vzip2q_s32((int32x4_t)from, none)};
  }
  static I FinishSum(Sum sum) { return (I)vpaddq_s32(sum.low, sum.high); }
  static Sum SumOfMulQuadAccumulate(I bytes, I keys, Sum sum) {
    const int8x16_t a = (int8x16_t)bytes, b = (int8x16_t)keys;
    return {vpadalq_s16(sum.low, vmull_s8(vget_low_s8(a), vget_low_s8(b))),
            vpadalq_s16(sum.high, vmull_high_s8(a, b))};
  }
#endif
};

}  // namespace
}  // namespace edgesparse
