// `LinearJob` on the matrix unit: up to 32 rows by 32 columns at a time.
#pragma once

#include "isa/amx/products.h"
#include "isa/tiles/linear.h"

namespace edgesparse {
namespace {

constexpr int64_t kSide = kTileRowsMost;
constexpr int64_t kSumStride = 2 * kSide;

struct MatrixLinear {
  const LinearJob& job;
  QuantizedRows in;
  int64_t quads, step;  // of the depth, and of one tile

  // Tiles 0 to 3 are sums, [row tile][column tile]; 4 and 5 rows; 6 and 7 weights.
  template <int row_tiles, int column_tiles>
  EDGESPARSE_INLINE void multiply(int64_t row, int64_t column, int32_t* sums) const {
    const uint8_t* rows = in.bytes + row * in.stride;
    const int8_t* weight = job.weight + column * job.depth;
    for_each<row_tiles>([&](auto r) {
      for_each<column_tiles>([&](auto c) { Matrix::zero<2 * decltype(r)::value + decltype(c)::value>(); });
    });
    for (int64_t quad = 0; quad < quads; quad += step) {
      for_each<row_tiles>([&](auto r) {
        constexpr int R = decltype(r)::value;
        Matrix::load<4 + R>(rows + R * kSide * in.stride + quad * 4, in.stride);
      });
      for_each<column_tiles>([&](auto c) {
        constexpr int C = decltype(c)::value;
        Matrix::load<6 + C>(weight + C * kSide * job.depth + quad * 64, 64);
        for_each<row_tiles>([&](auto r) {
          constexpr int R = decltype(r)::value;
          Matrix::add_products<2 * R + C, 4 + R, 6 + C>();
        });
      });
    }
    for_each<row_tiles>([&](auto r) {
      for_each<column_tiles>([&](auto c) {
        constexpr int R = decltype(r)::value, C = decltype(c)::value;
        Matrix::store<2 * R + C>(sums + R * kSide * kSumStride + C * kSide, kSumStride * 4);
      });
    });
  }

  EDGESPARSE_NOINLINE void multiply_any(int64_t row, int64_t column, int32_t* sums) const {
    const bool two_rows = job.rows - row > kSide, two_columns = job.columns - column > kSide;
    if (two_rows && two_columns) return multiply<2, 2>(row, column, sums);
    if (two_rows) return multiply<2, 1>(row, column, sums);
    if (two_columns) return multiply<1, 2>(row, column, sums);
    return multiply<1, 1>(row, column, sums);
  }

  EDGESPARSE_NOINLINE void finish_any(int64_t row, int64_t column, const int32_t* sums) const {
    const int64_t rows = job.rows - row < 2 * kSide ? job.rows - row : 2 * kSide;
    const int64_t columns = job.columns - column < 2 * kSide ? job.columns - column : 2 * kSide;
    const int64_t part = job.columns / job.parts;
    for (int64_t v = column; v < column + columns; v += W) {
      const F scale = Vector::LoadU(job.scale + v), bias = Vector::LoadU(job.bias + v);
      const I total = load_int(job.weight_sum + v);
      float* const to = job.output[v / part] + v % part;
      for (int64_t r = row; r < row + rows; ++r) {
        const I sum = load_int(sums + (r - row) * kSumStride + v - column);
        const I exact = sum - total * broadcast_int(in.zero[r]);
        Vector::StoreU(to + r * part, finish(job, exact, scale, bias, in.step[r], r, v));
      }
    }
  }
};

void matrix_linear(const LinearJob& job) {
  MatrixLinear m{job, quantize_input(job), job.depth / 4, quads_per_tile(job.depth / 4)};
  // A tile of rows may reach past the last one: what is there is multiplied and not kept.
  TileConfig config;
  const int64_t rows = job.rows < kSide ? job.rows : kSide;
  config.shape(0, 3, rows, kTileRowBytes);
  config.shape(4, 5, rows, m.step * 4);
  config.shape(6, 7, m.step, kTileRowBytes);
  const Configured configured(config);
  // What follows a product runs while the unit works on the next one.
  int32_t* const sums = reinterpret_cast<int32_t*>(m.in.bytes + kRows * m.in.stride);
  int64_t row_before = -1, column_before = 0, turn = 0;
  for (int64_t column = 0; column < job.columns; column += 2 * kSide)
    for (int64_t row = 0; row < job.rows; row += 2 * kSide) {
      m.multiply_any(row, column, sums + turn * kLinearSums);
      turn = 1 - turn;
      if (row_before >= 0) m.finish_any(row_before, column_before, sums + turn * kLinearSums);
      row_before = row;
      column_before = column;
    }
  m.finish_any(row_before, column_before, sums + (1 - turn) * kLinearSums);
}

}  // namespace
}  // namespace edgesparse
