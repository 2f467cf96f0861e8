// How every vector instruction set turns keys and values into bytes.
//
// Both products are sums of four unsigned x signed bytes in int32, which no instruction set may saturate.
// Everything that touches an integer (maxima, scales, rounding, exp2) is computed element by element with
// the same operations in the same order on every instruction set, so outputs agree bit for bit.
//
//   query   one scale per row; byte = round(q / scale) + 128
//   keys    one scale per key; panel [ceil(D/4)][16][4], then int32 start[16] = -128 * (sum of a key's
//           bytes), then float scale[16]
//   weights round(255 * 2^(score - maximum of the row in this unit)), so every unit uses all 8 bits
//   values  one scale per column over the (up to 64) keys packed together; panel [4][padded(V)][4]
//
// `Vector` provides SumOfMulQuadAccumulate, and how its bytes are biased: instruction sets that multiply
// signed by signed store q and p - 128, and add back what that leaves out.
#pragma once

#include "isa/tiles/math.h"

namespace edgesparse {
namespace {

// Magnitudes as integers order like floats, and what is not finite is larger than all of them: one maximum
// finds the scale and whether there is one.
constexpr int32_t kNotFinite = 0x7f800000;
EDGESPARSE_INLINE I larger_magnitude(I most, F x) {
  return Vector::MaxInt(most, (I)x & broadcast_int(0x7fffffff));
}
EDGESPARSE_INLINE bool all_finite(I most) {
  int32_t lanes[W];
  store_int(lanes, most);
  bool finite = true;
  for (int i = 0; i < W; ++i) finite &= lanes[i] < kNotFinite;
  return finite;
}
// A scale that is never 0, so that zeros quantize to zeros.
EDGESPARSE_INLINE F quantum(F largest) { return Vector::Max(largest, Vector::Set(1e-35f)); }

// Packs 16 keys less `shift`; false where one of them is not finite.
bool quantize_keys(Rows16 rows, int64_t head_size, const float* shift, void* panel) {
  const int64_t quads = (head_size + 3) / 4;
  uint8_t* const bytes = static_cast<uint8_t*>(panel);
  float* const scales = reinterpret_cast<float*>(bytes + quads * 64 + 64);
  bool finite = true;
  float inverse[kPanelKeys];
  for (int part = 0; part < kPanelKeys; part += W) {
    I most[W];
    for (int i = 0; i < W; ++i) {
      const float* row = rows[part + i];
      most[i] = I{};
      if (!row) continue;
      for (int64_t d = 0; d < head_size; d += W)
        most[i] = larger_magnitude(most[i],
                                   load_some(row + d, head_size - d) - load_some(shift + d, head_size - d));
    }
    const I largest_bits = reduce_rows(most, Vector::MaxInt);
    finite &= all_finite(largest_bits);
    const F largest = quantum((F)largest_bits);
    Vector::StoreU(scales + part, largest / Vector::Set(127.0f));
    Vector::StoreU(inverse + part, Vector::Set(127.0f) / largest);
  }

  // Four bytes of a key are one 32-bit lane: rows of lanes are transposed like rows of floats.
  for (int64_t from = 0; from < quads * 4; from += 4 * W)
    for (int part = 0; part < kPanelKeys; part += W) {
      F lanes[W];
      for (int i = 0; i < W; ++i) {
        const float* row = rows[part + i];
        const F factor = Vector::Set(inverse[part + i]);
        I four[4] = {};
        for (int k = 0; k < 4 && row && from + k * W < head_size; ++k) {
          const int64_t d = from + k * W, left = head_size - d;
          four[k] = round_to_int((load_some(row + d, left) - load_some(shift + d, left)) * factor);
        }
        lanes[i] = (F)Vector::pack_signed(four[0], four[1], four[2], four[3]);
      }
      transpose_square(lanes);
      for (int i = 0; i < W && from / 4 + i < quads; ++i)
        store_int(bytes + (from / 4 + i) * 64 + part * 4, (I)lanes[i]);
    }

  const I ones = broadcast_int(0x01010101);
  for (int part = 0; part < kPanelKeys; part += W) {
    Sum sum = {};
    for (int64_t quad = 0; quad < quads; ++quad)
      sum = Vector::SumOfMulQuadAccumulate(ones, load_int(bytes + quad * 64 + part * 4), sum);
    store_int(bytes + quads * 64 + part * 4, Vector::FinishSum(sum) * -Vector::kQueryBias);
  }
  return finite;
}

// Packs the values of up to 4 panels (a null row is a token that does not exist) with one scale per column;
// false where one of them is not finite.
bool quantize_values(Rows16 rows, int panels, int64_t value_size, void* values, float* scales) {
  const int64_t padded = padded_values(value_size);
  uint8_t* const bytes = static_cast<uint8_t*>(values);
  I every = {};
  for (int64_t d = 0; d < padded; d += W) {
    const int64_t left = value_size - d > 0 ? value_size - d : 0;
    I most = {};
    for (int key = 0; key < panels * kPanelKeys; ++key)
      if (rows[key]) most = larger_magnitude(most, load_some(rows[key] + d, left));
    every = Vector::MaxInt(every, most);
    const F largest = quantum((F)most);
    Vector::StoreU(scales + d, largest / Vector::Set(127.0f));
    const F factor = Vector::Set(127.0f) / largest;
    for (int quad = 0; quad < panels * 4; ++quad) {
      I four = {};
      EDGESPARSE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float* row = rows[quad * 4 + i];
        if (row) four |= (I)(((U)round_to_int(load_some(row + d, left) * factor) & 255) << (8 * i));
      }
      store_int(bytes + quad * padded * 4 + d * 4, four);
    }
  }
  return all_finite(every);
}

}  // namespace
}  // namespace edgesparse
