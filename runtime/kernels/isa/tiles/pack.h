// Packing of keys and values in floats, of every vector instruction set.
#pragma once

#include "isa/tiles/math.h"

namespace edgesparse {
namespace {

void pack_keys(Rows16 rows, int64_t head_size, float* panel) {
  for (int part = 0; part < kPanelKeys; part += W) {
    int64_t d = 0;
    for (; d + W <= head_size; d += W) {
      F a[W];
      EDGESPARSE_UNROLL
      for (int i = 0; i < W; ++i)
        a[i] = rows[part + i] ? Vector::LoadU(rows[part + i] + d) : Vector::Set(0.0f);
      transpose_square(a);
      EDGESPARSE_UNROLL
      for (int i = 0; i < W; ++i) Vector::StoreU(panel + (d + i) * kPanelKeys + part, a[i]);
    }
    for (; d < head_size; ++d)
      for (int i = 0; i < W; ++i)
        panel[d * kPanelKeys + part + i] = rows[part + i] ? rows[part + i][d] : 0.0f;
  }
}

// Token after token in every lane, so that all instruction sets agree on each bit.
void add_rows(Rows16 rows, int64_t size, float* sum) {
  int64_t d = 0;
  for (; d + W <= size; d += W) {
    F total = Vector::LoadU(sum + d);
    for (int i = 0; i < kPanelKeys; ++i)
      if (rows[i]) total = total + Vector::LoadU(rows[i] + d);
    Vector::StoreU(sum + d, total);
  }
  for (; d < size; ++d)
    for (int i = 0; i < kPanelKeys; ++i)
      if (rows[i]) sum[d] += rows[i][d];
}

void pack_values(Rows16 rows, int64_t value_size, float* panel) {
  const int64_t stride = padded_values(value_size);
  for (int i = 0; i < kPanelKeys; ++i) {
    float* to = panel + i * stride;
    int64_t d = 0;
    if (rows[i]) {
      for (; d + W <= value_size; d += W) Vector::StoreU(to + d, Vector::LoadU(rows[i] + d));
      for (; d < value_size; ++d) to[d] = rows[i][d];
    }
    for (; d < stride; ++d) to[d] = 0.0f;
  }
}

}  // namespace
}  // namespace edgesparse
