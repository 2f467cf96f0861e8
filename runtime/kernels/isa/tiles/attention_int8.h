// The int8 products and softmax of every vector instruction set, over bytes laid out as isa/tiles/pack_int8.h
// describes.
#pragma once

#include "isa/tiles/pack_int8.h"
#include "isa/tiles/units.h"

namespace edgesparse {
namespace {

template <int NV>
struct Int8ScoreRows {
  const uint8_t* q;
  const float* q_scale;
  int64_t quads;
  const Unit<uint8_t>& unit;
  const NextUnit& next;
  int first;
  float* scores;

  template <int R>
  EDGESPARSE_INLINE void operator()(int64_t row) const {
    if (first == 0) next.prefetch(row, R);
    const uint8_t* rows = q + row * quads * 4;
    const uint8_t* keys[NV];
    Sum sum[R][NV];
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v) {
      keys[v] = unit.keys[(first + v) / kPerPanel] + (first + v) % kPerPanel * W * 4;
      const Sum start = Vector::StartSum(load_int(keys[v] + quads * 64));
      EDGESPARSE_UNROLL
      for (int r = 0; r < R; ++r) sum[r][v] = start;
    }
    for (int64_t quad = 0; quad < quads; ++quad) {
      I k[NV];
      EDGESPARSE_UNROLL
      for (int v = 0; v < NV; ++v) k[v] = load_int(keys[v] + quad * 64);
      EDGESPARSE_UNROLL
      for (int r = 0; r < R; ++r) {
        const I a = broadcast_bytes(rows + (r * quads + quad) * 4);
        EDGESPARSE_UNROLL
        for (int v = 0; v < NV; ++v) sum[r][v] = Vector::SumOfMulQuadAccumulate(a, k[v], sum[r][v]);
      }
    }
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v) {
      const F scale = (F)load_int(keys[v] + quads * 64 + 64);
      const F bias = Vector::LoadU(unit.bias[(first + v) / kPerPanel] + (first + v) % kPerPanel * W);
      EDGESPARSE_UNROLL
      for (int r = 0; r < R; ++r)
        Vector::StoreU(scores + (row + r) * kUnitKeys + (first + v) * W,
                       Vector::MulAdd(to_float(Vector::FinishSum(sum[r][v])) * scale,
                                      Vector::Set(q_scale[row + r]), bias));
    }
  }
};

template <int NV>
struct Int8ValueRows {
  const uint8_t* p;
  const float* correction;
  const float* factor;
  const Unit<uint8_t>& unit;
  const Panel* panels;  // those of the unit
  const NextUnit& next;
  int from, to;  // panels that share `scales`
  const float* scales;
  const int32_t* left_out;  // of every column, by the weights' bias
  int64_t value_stride, column;
  float* out;

  // The products of eight keys, from quad `first` of the panel on.
  template <int R, int first>
  EDGESPARSE_INLINE void add_quads(const uint8_t* values, const uint8_t* weights, Sum (&sum)[R][NV]) const {
    EDGESPARSE_UNROLL
    for (int quad = first; quad < first + 2; ++quad) {
      I b[NV];
      EDGESPARSE_UNROLL
      for (int v = 0; v < NV; ++v) b[v] = load_int(values + (quad * value_stride + v * W) * 4);
      EDGESPARSE_UNROLL
      for (int r = 0; r < R; ++r) {
        const I a = broadcast_bytes(weights + r * kUnitKeys + quad * 4);
        EDGESPARSE_UNROLL
        for (int v = 0; v < NV; ++v) sum[r][v] = Vector::SumOfMulQuadAccumulate(a, b[v], sum[r][v]);
      }
    }
  }

  template <int R>
  EDGESPARSE_INLINE void operator()(int64_t row) const {
    if (column == 0 && from == 0) next.prefetch(row, R);
    Sum sum[R][NV] = {};
    for (int panel = from; panel < to; ++panel) {
      const uint8_t* values = unit.values[panel] + column * 4;
      const uint8_t* weights = p + row * kUnitKeys + panel * kPanelKeys;
      add_quads<R, 0>(values, weights, sum);
      // Values are zero where there is no key, so a small block ends here.
      if (panels[panel].lanes > kPanelKeys / 2) add_quads<R, 2>(values, weights, sum);
    }
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v) {
      const F scale = Vector::LoadU(scales + column + v * W);
      EDGESPARSE_UNROLL
      for (int r = 0; r < R; ++r) {
        float* const to_row = out + (row + r) * value_stride + column + v * W;
        I exact = Vector::FinishSum(sum[r][v]);
        if constexpr (Vector::kWeightBias != 0) exact += load_int(left_out + column + v * W);
        Vector::StoreU(to_row, Vector::MulAdd(to_float(exact) * scale, Vector::Set(factor[row + r]),
                                              Vector::LoadU(to_row) * Vector::Set(correction[row + r])));
      }
    }
  }
};

// What the weights' bias leaves out of each column: the bias times the sum of its values.
[[maybe_unused]] void sum_left_out(const Unit<uint8_t>& unit, int from, int to, int64_t value_stride,
                                   int32_t* left_out) {
  const I ones = broadcast_int(0x01010101);
  for (int64_t column = 0; column < value_stride; column += W) {
    Sum sum = {};
    for (int panel = from; panel < to; ++panel) EDGESPARSE_UNROLL
    for (int quad = 0; quad < 4; ++quad)
      sum = Vector::SumOfMulQuadAccumulate(
          ones, load_int(unit.values[panel] + (quad * value_stride + column) * 4), sum);
    store_int(left_out + column, Vector::FinishSum(sum) * Vector::kWeightBias);
  }
}

struct Int8State {
  int64_t rows, quads, value_stride;
  uint8_t* q;
  uint8_t* p;
  int32_t* left_out;
  float *q_scale, *scores, *out, *sum, *maximum, *correction, *factor, *ones;
};

// Scores of one unit to 8-bit weights. factor = 2^(maximum of this unit - running maximum).
template <int NV>
EDGESPARSE_INLINE void int8_soften_rows(const Int8State& s, int64_t from, int64_t to) {
  for (int64_t row = from; row < to; row += W) {
    const F unit_maximum = largest_scores<NV>(s.scores + row * kUnitKeys);
    const F before = Vector::LoadU(s.maximum + row);
    const F now = Vector::Max(unit_maximum, before);
    const F correction = exp2_fine(before - now), factor = exp2_fine(unit_maximum - now);
    Vector::StoreU(s.maximum + row, now);
    Vector::StoreU(s.correction + row, correction);
    Vector::StoreU(s.factor + row, factor);
    float shifts[W];
    Vector::StoreU(shifts, unit_maximum - Vector::Set(kLog2Of255));
    I sums[W];
    EDGESPARSE_UNROLL
    for (int r = 0; r < W; ++r) {
      const float* x = s.scores + (row + r) * kUnitKeys;
      uint8_t* p = s.p + (row + r) * kUnitKeys;
      const F shift = Vector::Set(shifts[r]);
      I sum = {}, weight[NV];
      EDGESPARSE_UNROLL
      for (int v = 0; v < NV; ++v) {
        weight[v] = round_to_int(exp2_coarse(Vector::LoadU(x + v * W) - shift));
        sum = wrapping_add(sum, weight[v]);
        weight[v] = wrapping_sub(weight[v], broadcast_int(Vector::kWeightBias));
      }
      EDGESPARSE_UNROLL
      for (int v = 0; v + 4 <= NV; v += 4)
        store_int(p + v * W, Vector::pack_unsigned(weight[v], weight[v + 1], weight[v + 2], weight[v + 3]));
      EDGESPARSE_UNROLL
      for (int v = NV / 4 * 4; v < NV; ++v) store_bytes(p + v * W, weight[v]);
      sums[r] = sum;
    }
    const F total = to_float(reduce_rows(sums, wrapping_add));
    Vector::StoreU(s.sum + row, Vector::MulAdd(total, factor, Vector::LoadU(s.sum + row) * correction));
  }
}

// Bytes and scales of the query rows; a row that is not finite gets a NaN sum, so NaN comes out of it alone.
void quantize_query(const Job& job, const Int8State& s) {
  const int64_t head_size = job.head_size;
  for (int64_t row = 0; row < s.rows; row += W) {
    I most[W];
    for (int r = 0; r < W; ++r) {
      most[r] = I{};
      if (row + r >= s.rows) continue;
      const float* q = job.query + (row + r) * job.query_stride;
      for (int64_t d = 0; d < head_size; d += W)
        most[r] = larger_magnitude(most[r], load_some(q + d, head_size - d));
    }
    const I largest_bits = reduce_rows(most, Vector::MaxInt);
    int32_t bits[W];
    store_int(bits, largest_bits);
    for (int r = 0; r < W; ++r) s.sum[row + r] = bits[r] < kNotFinite ? 0.0f : __builtin_nanf("");
    const F largest = quantum((F)largest_bits);
    Vector::StoreU(s.q_scale + row, largest / Vector::Set(127.0f) * Vector::Set(job.scale));
    float inverse[W];
    Vector::StoreU(inverse, Vector::Set(127.0f) / largest);
    for (int r = 0; r < W && row + r < s.rows; ++r) {
      const float* q = job.query + (row + r) * job.query_stride;
      uint8_t* to = s.q + (row + r) * s.quads * 4;
      const F factor = Vector::Set(inverse[r]);
      int64_t d = 0;
      for (; d + W <= head_size; d += W)
        store_bytes(to + d, round_to_int(Vector::LoadU(q + d) * factor) + Vector::kQueryBias);
      if (d < s.quads * 4) {
        uint8_t rest[W];
        store_bytes(rest, round_to_int(load_some(q + d, head_size - d) * factor) + Vector::kQueryBias);
        __builtin_memcpy(to + d, rest, s.quads * 4 - d);
      }
    }
  }
}

// Lays out the scratch, and fills what a job starts from.
Int8State start_int8(const Job& job) {
  Int8State s;
  s.rows = job.rows;
  s.quads = (job.head_size + 3) / 4;
  s.value_stride = padded_values(job.value_size);
  s.scores = job.scratch;
  s.out = s.scores + kRows * kUnitKeys;
  s.sum = s.out + kRows * s.value_stride;
  s.maximum = s.sum + kRows;
  s.correction = s.maximum + kRows;
  s.factor = s.correction + kRows;
  s.ones = s.factor + kRows;
  s.q_scale = s.ones + kRows;
  s.left_out = reinterpret_cast<int32_t*>(s.q_scale + kRows);
  s.p = reinterpret_cast<uint8_t*>(s.left_out + s.value_stride);
  s.q = s.p + kRows * kUnitKeys;

  for (int64_t i = 0; i < s.rows * s.value_stride; ++i) s.out[i] = 0.0f;
  for (int64_t r = 0; r < round_up(s.rows, W); ++r) {
    s.sum[r] = 0.0f;
    s.ones[r] = 1.0f;
    s.maximum[r] = kLowest;
  }
  for (int64_t i = s.rows * kUnitKeys; i < round_up(s.rows, W) * kUnitKeys; ++i) s.scores[i] = 0.0f;
  quantize_query(job, s);
  return s;
}

// The end of the run of panels from `from` that share the scales of their values.
int end_of_run(const Panel* panels, int from, int count) {
  int to = from + 1;
  while (to < count && panels[to].scales == panels[from].scales) ++to;
  return to;
}

void attend_int8(const Job& job) {
  const Int8State s = start_int8(job);
  for_units<uint8_t>(
      job, s.quads + 2, s.value_stride / 4,
      [&](const Unit<uint8_t>& unit, int64_t first, int panels, const NextUnit& next_keys,
          const NextUnit& next_values) {
        for_column_tiles(panels * kPerPanel, [&](auto tile, int64_t vector) {
          constexpr int NV = decltype(tile)::value;
          run_row_tiles<Vector::kInt8TileRows[NV]>(
              s.rows, Int8ScoreRows<NV>{s.q, s.q_scale, s.quads, unit, next_keys, (int)vector, s.scores});
        });
        mask_unit(job, first, panels, s.scores);
        soften_unit<kPerPanel>(
            job, panels, [&](auto vectors) { int8_soften_rows<decltype(vectors)::value>(s, 0, s.rows); });
        for (int from = 0, to; from < panels; from = to) {
          const float* const scales = job.panels[first + from].scales;
          to = end_of_run(job.panels + first, from, panels);
          // The first run of a unit also rescales what earlier units left.
          if constexpr (Vector::kWeightBias != 0) sum_left_out(unit, from, to, s.value_stride, s.left_out);
          const float* const correction = from == 0 ? s.correction : s.ones;
          for_column_tiles(s.value_stride / W, [&](auto tile, int64_t vector) {
            constexpr int NV = decltype(tile)::value;
            run_row_tiles<Vector::kInt8TileRows[NV]>(
                s.rows, Int8ValueRows<NV>{s.p, correction, s.factor, unit, job.panels + first, next_values,
                                          from, to, scales, s.left_out, s.value_stride, vector * W, s.out});
          });
        }
      });
  write_rows(job, s.out, s.value_stride, s.sum);
}

}  // namespace
}  // namespace edgesparse
