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

  static F load(const float* p) { return (F)vld1q_f32(p); }
  static void store(float* p, F v) { vst1q_f32(p, (float32x4_t)v); }
  static F broadcast(float x) { return (F)vdupq_n_f32(x); }
  static F fma(F a, F b, F c) { return (F)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
  // Gives b where one of them is NaN, on every instruction set; NEON's own maximum would give NaN.
  static F max(F a, F b) {
    return (F)vbslq_f32(vcgtq_f32((float32x4_t)a, (float32x4_t)b), (float32x4_t)a, (float32x4_t)b);
  }
  static F interleave_low(F a, F b) { return (F)vzip1q_f32((float32x4_t)a, (float32x4_t)b); }
  static F interleave_high(F a, F b) { return (F)vzip2q_f32((float32x4_t)a, (float32x4_t)b); }
};

}  // namespace
}  // namespace edgesparse
