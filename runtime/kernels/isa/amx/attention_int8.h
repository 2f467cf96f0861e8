// The int8 products of attention on the matrix unit, 16 query rows at a time; softmax in vectors.
#pragma once

#include "isa/amx/products.h"
#include "isa/tiles/attention_int8.h"

namespace edgesparse {
namespace {

// Tiles 0 to 3 are sums of four panels of keys, or of 64 columns of values; 4 holds queries, 5 keys, 6
// weights, 7 values.
constexpr int64_t kRowTile = kTileRowsMost;

struct MatrixAttention {
  const Job& job;
  const Int8State& s;
  int64_t step;     // quads of a tile of queries or keys
  uint8_t* values;  // of one unit, [16][padded(V)][4]: zeros where a run of panels has none

  int32_t* sums(int64_t row) const { return reinterpret_cast<int32_t*>(s.scores + row * kUnitKeys); }
  int64_t vectors_end(int64_t row) const {
    const int64_t end = round_up(s.rows, W);
    return row + kRowTile < end ? row + kRowTile : end;
  }

  // Sums of a row tile against NP panels, each from what its keys' bias takes off.
  template <int NP>
  EDGESPARSE_INLINE void multiply_keys(int64_t row, const Unit<uint8_t>& unit) const {
    for_each<NP>(
        [&](auto p) { Matrix::load<decltype(p)::value>(unit.keys[decltype(p)::value] + s.quads * 64, 0); });
    for (int64_t quad = 0; quad < s.quads; quad += step) {
      Matrix::load<4>(s.q + (row * s.quads + quad) * 4, s.quads * 4);
      for_each<NP>([&](auto p) {
        constexpr int P = decltype(p)::value;
        Matrix::load<5>(unit.keys[P] + quad * 64, 64);
        Matrix::add_products<P, 4, 5>();
      });
    }
    for_each<NP>([&](auto p) {
      constexpr int P = decltype(p)::value;
      Matrix::store<P>(sums(row) + P * kPanelKeys, kUnitKeys * 4);
    });
  }

  // Sums to scores, in place.
  template <int NP>
  EDGESPARSE_INLINE void scale_scores(int64_t row, const Unit<uint8_t>& unit) const {
    constexpr int NV = NP * kPerPanel;
    F scale[NV], bias[NV];
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v) {
      const int lane = v % kPerPanel * W;
      scale[v] = (F)load_int(unit.keys[v / kPerPanel] + (s.quads + 1) * 64 + lane * 4);
      bias[v] = Vector::LoadU(unit.bias[v / kPerPanel] + lane);
    }
    for (int64_t r = row; r < vectors_end(row); ++r) {
      float* const x = s.scores + r * kUnitKeys;
      const F query = Vector::Set(s.q_scale[r]);
      EDGESPARSE_UNROLL
      for (int v = 0; v < NV; ++v)
        Vector::StoreU(x + v * W, Vector::MulAdd(to_float(load_int(x + v * W)) * scale[v], query, bias[v]));
    }
  }

  // The weights of a whole unit. The unit multiplies the next row tile while vectors work on this one.
  template <int NP>
  EDGESPARSE_NOINLINE void weigh(const Unit<uint8_t>& unit, int64_t first, const NextUnit& next) const {
    multiply_keys<NP>(0, unit);
    for (int64_t row = 0; row < s.rows; row += kRowTile) {
      next.prefetch(row, kRowTile);
      if (row + kRowTile < s.rows) multiply_keys<NP>(row + kRowTile, unit);
      scale_scores<NP>(row, unit);
      mask(first, NP, row);
      const double start = job.clock ? job.clock() : 0.0;
      int8_soften_rows<NP * kPerPanel>(s, row, vectors_end(row));
      if (job.clock) *job.softmax_seconds += job.clock() - start;
    }
  }

  void mask(int64_t first, int panels, int64_t row) const {
    const int64_t rows = s.rows - row < kRowTile ? s.rows - row : kRowTile;
    for (int i = 0; i < panels; ++i) {
      const int64_t last = job.panels[first + i].last_for_row_0;
      if (last != kNotDiagonal)
        mask_diagonal<kPanelKeys>(s.scores + row * kUnitKeys + i * kPanelKeys, last + row, rows);
    }
  }

  // Where the values of the panels from `from` to `to` lie as a tile's 64 keys, zeros for all others.
  const uint8_t* gather_values(const Unit<uint8_t>& unit, int from, int to) const {
    const int64_t panel = kPanelKeys * s.value_stride;
    bool adjacent = to - from == kUnitPanels;
    for (int i = from + 1; i < to; ++i) adjacent &= unit.values[i] == unit.values[i - 1] + panel;
    if (adjacent) return unit.values[from];
    for (int i = 0; i < kUnitPanels; ++i) {
      if (i >= from && i < to)
        __builtin_memcpy(values + i * panel, unit.values[i], panel);
      else
        __builtin_memset(values + i * panel, 0, panel);
    }
    return values;
  }

  // Sums of a row tile's weights against NC times 16 columns of values from `column`.
  template <int NC>
  EDGESPARSE_INLINE void multiply_values(int64_t row, const uint8_t* from, int64_t column) const {
    Matrix::load<6>(s.p + row * kUnitKeys, kUnitKeys);
    for_each<NC>([&](auto c) {
      constexpr int C = decltype(c)::value;
      Matrix::zero<C>();
      Matrix::load<7>(from + (column + C * kPanelKeys) * 4, s.value_stride * 4);
      Matrix::add_products<C, 6, 7>();
      Matrix::store<C>(sums(row) + C * kPanelKeys, kUnitKeys * 4);
    });
  }

  template <int NC>
  EDGESPARSE_INLINE void accumulate(int64_t row, int64_t column, const float* scales,
                                    const float* correction) const {
    constexpr int NV = NC * kPerPanel;
    F scale[NV];
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v) scale[v] = Vector::LoadU(scales + column + v * W);
    const int64_t end = row + kRowTile < s.rows ? row + kRowTile : s.rows;
    for (int64_t r = row; r < end; ++r) {
      const F factor = Vector::Set(s.factor[r]), before = Vector::Set(correction[r]);
      float* const out = s.out + r * s.value_stride + column;
      EDGESPARSE_UNROLL
      for (int v = 0; v < NV; ++v)
        Vector::StoreU(out + v * W, Vector::MulAdd(to_float(load_int(sums(r) + v * W)) * scale[v], factor,
                                                   Vector::LoadU(out + v * W) * before));
    }
  }

  // The values of one run of panels, NC * 16 columns of them. As in `weigh`, one row tile ahead.
  template <int NC>
  EDGESPARSE_NOINLINE void add_values(const uint8_t* from, int64_t column, const float* scales,
                                      const float* correction) const {
    multiply_values<NC>(0, from, column);
    for (int64_t row = 0; row < s.rows; row += kRowTile) {
      if (row + kRowTile < s.rows) multiply_values<NC>(row + kRowTile, from, column);
      accumulate<NC>(row, column, scales, correction);
    }
  }
};

// `vectors` gives the table whose vectors these are.
template <const Table* (*vectors)()>
void matrix_attend_int8(const Job& job) {
  const int64_t quads = (job.head_size + 3) / 4, step = quads_per_tile(quads);
  // Heads of 65 to 68, say, which cut into narrow tiles only.
  constexpr int64_t kNarrowest = 4;
  if (step < kNarrowest && step < quads) return vectors()->attend_int8(job);
  const Int8State s = start_int8(job);
  const int64_t tile_rows = s.rows < kRowTile ? s.rows : kRowTile;
  TileConfig config;
  config.shape(0, 3, tile_rows, kTileRowBytes);
  config.shape(4, 4, tile_rows, step * 4);
  config.shape(5, 5, step, kTileRowBytes);
  config.shape(6, 6, tile_rows, kUnitKeys);
  config.shape(7, 7, kUnitKeys / 4, kTileRowBytes);
  // Rows past the last one are multiplied too, and not kept.
  __builtin_memset(s.q + s.rows * quads * 4, 0, (round_up(s.rows, tile_rows) - s.rows) * quads * 4);
  uint8_t* const values = s.q + kRows * quads * 4;
  const Configured configured(config);
  const MatrixAttention m{job, s, step, values};
  for_units<uint8_t>(
      job, quads + 2, s.value_stride / 4,
      [&](const Unit<uint8_t>& unit, int64_t first, int panels, const NextUnit& next_keys,
          const NextUnit& next_values) {
        with_count(panels, [&](auto count) { m.weigh<decltype(count)::value>(unit, first, next_keys); });
        next_values.prefetch(0, s.rows);
        for (int from = 0, to; from < panels; from = to) {
          to = end_of_run(job.panels + first, from, panels);
          const uint8_t* const run = m.gather_values(unit, from, to);
          const float* const scales = job.panels[first + from].scales;
          for (int64_t column = 0; column < s.value_stride; column += 4 * kPanelKeys) {
            const int64_t left = (s.value_stride - column) / kPanelKeys;
            with_count(left < 4 ? left : 4, [&](auto count) {
              m.add_values<decltype(count)::value>(run, column, scales, from == 0 ? s.correction : s.ones);
            });
          }
        }
      });
  write_rows(job, s.out, s.value_stride, s.sum);
}

}  // namespace
}  // namespace edgesparse
