// One job of `edgesparse::Linear`: up to kRows rows through normalization, an 8-bit product and what follows
// it.
//
//   row     optionally layer-normalized; byte = clamp(round(x / step + zero), 0, 255), one step and zero per
//   row weight  int8 panels [columns / 16][depth / 4][16][4], as isa/tiles/pack_int8.h lays out keys output
//   [gelu](step * scale[column] * sum((byte - zero) * weight) + bias[column]) [+ residual]
//
// depth and columns are multiples of 16. Sums are exact, everything else is computed element by element or
// over 16 partial sums in one order, so outputs agree bit for bit between instruction sets.
#pragma once

#include <cstdint>

#include "isa/table.h"

namespace edgesparse {

constexpr int kMostParts = 3;

struct LinearJob {
  const float* input;  // rows of depth
  int64_t rows;        // 1 to kRows
  int64_t depth, columns;
  const float* gain;  // [depth]; null = no normalization
  const float* shift;
  float epsilon;
  const int8_t* weight;
  const float* scale;         // [columns]
  const float* bias;          // [columns]
  const int32_t* weight_sum;  // [columns], from sum_weights
  bool gelu;
  const float* residual;      // rows of columns; null = none
  float* output[kMostParts];  // each rows of columns / parts
  int64_t parts;
  void* scratch;  // linear_scratch() bytes, 64-byte aligned
};

// Bytes from a row to the next: rows that lie a multiple of 1,024 apart would share a few sets of the cache.
inline int64_t linear_stride(int64_t depth) { return depth % 1024 == 0 ? depth + 64 : depth; }

// Sums of products in 32 rows and 32 columns, twice: the matrix unit works on one while the other is read.
constexpr int64_t kLinearSums = 32 * 32;

inline int64_t linear_scratch(int64_t depth) {
  return kRows * linear_stride(depth) + kPanelKeys * depth * 4 + kRows * 8 + 2 * kLinearSums * 4 + 192;
}

}  // namespace edgesparse
