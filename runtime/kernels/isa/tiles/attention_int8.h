// The int8 products and softmax of every vector instruction set, over bytes laid out as isa/int8_pack.h says.
#pragma once

#include "isa/tiles/pack_int8.h"

namespace edgesparse {
namespace {

constexpr float kLog2Of255 = 7.994353436858858f;

// 2^x to 1e-4 of its value, a fortieth of a step of the 8-bit weights; for x from -127 (giving 0) to 8.
EDGESPARSE_INLINE F exp2_coarse(F x) {
  const F magic = Vector::broadcast(12582912.0f);
  x = Vector::max(Vector::broadcast(-127.0f), x);
  const F shifted = x + magic;
  const F f = x - (shifted - magic);
  F p = Vector::broadcast(0.05500893294811249f);
  p = Vector::fma(p, f, Vector::broadcast(0.24221095442771912f));
  p = Vector::fma(p, f, Vector::broadcast(0.6932829022407532f));
  p = Vector::fma(p, f, Vector::broadcast(1.0f));
  return (F)((I)p + ((I)shifted << 23));
}

// Weights of a row that holds NaN are any integers: their sum may wrap, as it does in the scalar table.
EDGESPARSE_INLINE I wrapping_add(I a, I b) {
  typedef uint32_t U __attribute__((vector_size(sizeof(I))));
  return (I)((U)a + (U)b);
}

// Lane r of the result is the sum of the lanes of a[r].
EDGESPARSE_INLINE I reduce_add_rows(I (&a)[W]) {
#pragma GCC unroll 4
  for (int half = W / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i)
      a[i] = wrapping_add((I)Vector::interleave_low((F)a[i], (F)a[i + half]),
                          (I)Vector::interleave_high((F)a[i], (F)a[i + half]));
  return a[0];
}

struct Int8Unit {
  const uint8_t* keys[kUnitPanels];
  const uint8_t* values[kUnitPanels];
  const float* bias[kUnitPanels];
};

template <int NV>
struct Int8ScoreRows {
  const uint8_t* q;
  const float* q_scale;
  int64_t quads;
  const Int8Unit& unit;
  const NextUnit& next;
  int first;
  float* scores;

  template <int R>
  EDGESPARSE_INLINE void operator()(int64_t row) const {
    constexpr int kPerPanel = kPanelKeys / W;
    if (first == 0) next.prefetch(row, R);
    const uint8_t* rows = q + row * quads * 4;
    const uint8_t* keys[NV];
    I sum[R][NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      keys[v] = unit.keys[(first + v) / kPerPanel] + (first + v) % kPerPanel * W * 4;
      const I start = load_int(keys[v] + quads * 64);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sum[r][v] = start;
    }
    for (int64_t quad = 0; quad < quads; ++quad) {
      I k[NV];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) k[v] = load_int(keys[v] + quad * 64);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const I a = broadcast_bytes(rows + (r * quads + quad) * 4);
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) sum[r][v] = Vector::score_dot(sum[r][v], a, k[v]);
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      const F scale = (F)load_int(keys[v] + quads * 64 + 64);
      const F bias = Vector::load(unit.bias[(first + v) / kPerPanel] + (first + v) % kPerPanel * W);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
        Vector::store(scores + (row + r) * kUnitKeys + (first + v) * W,
                      Vector::fma(to_float(sum[r][v]) * scale, Vector::broadcast(q_scale[row + r]), bias));
    }
  }
};

template <int NV>
struct Int8ValueRows {
  const uint8_t* p;
  const float* correction;
  const float* factor;
  const Int8Unit& unit;
  const NextUnit& next;
  int from, to;  // panels that share `scales`
  const float* scales;
  int64_t value_stride, column;
  float* out;

  template <int R>
  EDGESPARSE_INLINE void operator()(int64_t row) const {
    if (column == 0 && from == 0) next.prefetch(row, R);
    I sum[R][NV] = {};
    I total[NV] = {};
    const I ones = broadcast_int(0x01010101);
    for (int panel = from; panel < to; ++panel) {
      const uint8_t* values = unit.values[panel] + column * 4;
      const uint8_t* weights = p + row * kUnitKeys + panel * kPanelKeys;
#pragma GCC unroll 4
      for (int quad = 0; quad < 4; ++quad) {
        I b[NV];
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) {
          b[v] = load_int(values + (quad * value_stride + v * W) * 4);
          if constexpr (Vector::kWeightBias != 0) total[v] = Vector::score_dot(total[v], ones, b[v]);
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const I a = broadcast_bytes(weights + r * kUnitKeys + quad * 4);
#pragma GCC unroll 8
          for (int v = 0; v < NV; ++v) sum[r][v] = Vector::weight_dot(sum[r][v], a, b[v]);
        }
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      const F scale = Vector::load(scales + column + v * W);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        float* const to_row = out + (row + r) * value_stride + column + v * W;
        I exact = sum[r][v];
        if constexpr (Vector::kWeightBias != 0) exact += total[v] * Vector::kWeightBias;
        Vector::store(to_row, Vector::fma(to_float(exact) * scale, Vector::broadcast(factor[row + r]),
                                          Vector::load(to_row) * Vector::broadcast(correction[row + r])));
      }
    }
  }
};

template <int NV>
__attribute__((noinline)) void int8_score_columns(int64_t rows, const Int8ScoreRows<NV>& tile) {
  for_row_tiles<Vector::kInt8TileRows[NV]>(rows, tile);
}

template <int NV>
__attribute__((noinline)) void int8_value_columns(int64_t rows, const Int8ValueRows<NV>& tile) {
  for_row_tiles<Vector::kInt8TileRows[NV]>(rows, tile);
}

struct Int8State {
  int64_t rows, quads, value_stride;
  uint8_t* q;
  uint8_t* p;
  float *q_scale, *scores, *out, *sum, *maximum, *correction, *factor, *ones;
};

template <int NV>
void int8_score_some(const Int8State& s, const Int8Unit& unit, const NextUnit& next, int first) {
  int8_score_columns<NV>(s.rows, {s.q, s.q_scale, s.quads, unit, next, first, s.scores});
}

void int8_score_unit(const Int8State& s, const Int8Unit& unit, const NextUnit& next, int panels) {
  constexpr int kMost = Vector::kTileVectors;
  const int vectors = panels * (kPanelKeys / W);
  int first = 0;
  for (; first + kMost <= vectors; first += kMost) int8_score_some<kMost>(s, unit, next, first);
  const int left = vectors - first;
  if constexpr (kMost > 3)
    if (left == 3) int8_score_some<3>(s, unit, next, first);
  if constexpr (kMost > 2)
    if (left == 2) int8_score_some<2>(s, unit, next, first);
  if (left == 1) int8_score_some<1>(s, unit, next, first);
}

template <int NV>
void int8_value_some(const Int8State& s, const Int8Unit& unit, const NextUnit& next, int from, int to,
                     const float* scales, int64_t column) {
  // The first run of a unit also rescales what earlier units left.
  const float* const correction = from == 0 ? s.correction : s.ones;
  int8_value_columns<NV>(
      s.rows, {s.p, correction, s.factor, unit, next, from, to, scales, s.value_stride, column, s.out});
}

void int8_value_run(const Int8State& s, const Int8Unit& unit, const NextUnit& next, int from, int to,
                    const float* scales) {
  constexpr int kMost = Vector::kTileVectors;
  int64_t column = 0;
  for (; column + kMost * W <= s.value_stride; column += kMost * W)
    int8_value_some<kMost>(s, unit, next, from, to, scales, column);
  const int64_t left = (s.value_stride - column) / W;
  if constexpr (kMost > 3)
    if (left == 3) int8_value_some<3>(s, unit, next, from, to, scales, column);
  if constexpr (kMost > 2)
    if (left == 2) int8_value_some<2>(s, unit, next, from, to, scales, column);
  if (left == 1) int8_value_some<1>(s, unit, next, from, to, scales, column);
}

// Scores of one unit to 8-bit weights. factor = 2^(maximum of this unit - running maximum).
template <int NV>
EDGESPARSE_INLINE void int8_soften_rows(const Int8State& s) {
  for (int64_t row = 0; row < s.rows; row += W) {
    F most[W];
#pragma GCC unroll 16
    for (int r = 0; r < W; ++r) {
      const float* x = s.scores + (row + r) * kUnitKeys;
      most[r] = Vector::load(x);
#pragma GCC unroll 16
      for (int v = 1; v < NV; ++v) most[r] = Vector::max(most[r], Vector::load(x + v * W));
    }
    const F unit_maximum = Vector::max(reduce_max_rows(most), Vector::broadcast(kLowest));
    const F before = Vector::load(s.maximum + row);
    const F now = Vector::max(unit_maximum, before);
    const F correction = exp2_nonpositive(before - now), factor = exp2_nonpositive(unit_maximum - now);
    Vector::store(s.maximum + row, now);
    Vector::store(s.correction + row, correction);
    Vector::store(s.factor + row, factor);
    float shifts[W];
    Vector::store(shifts, unit_maximum - Vector::broadcast(kLog2Of255));
    I sums[W];
#pragma GCC unroll 16
    for (int r = 0; r < W; ++r) {
      const float* x = s.scores + (row + r) * kUnitKeys;
      uint8_t* p = s.p + (row + r) * kUnitKeys;
      const F shift = Vector::broadcast(shifts[r]);
      I sum = {}, weight[NV];
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        weight[v] = round_to_int(exp2_coarse(Vector::load(x + v * W) - shift));
        sum = wrapping_add(sum, weight[v]);
        weight[v] -= broadcast_int(Vector::kWeightBias);
      }
#pragma GCC unroll 4
      for (int v = 0; v + 4 <= NV; v += 4)
        store_int(p + v * W, Vector::pack_unsigned(weight[v], weight[v + 1], weight[v + 2], weight[v + 3]));
#pragma GCC unroll 4
      for (int v = NV / 4 * 4; v < NV; ++v) store_bytes(p + v * W, weight[v]);
      sums[r] = sum;
    }
    const F total = to_float(reduce_add_rows(sums));
    Vector::store(s.sum + row, Vector::fma(total, factor, Vector::load(s.sum + row) * correction));
  }
}

void int8_soften_unit(const Int8State& s, int panels) {
  constexpr int kPerPanel = kPanelKeys / W;
  switch (panels) {
    case 1:
      return int8_soften_rows<1 * kPerPanel>(s);
    case 2:
      return int8_soften_rows<2 * kPerPanel>(s);
    case 3:
      return int8_soften_rows<3 * kPerPanel>(s);
    default:
      return int8_soften_rows<4 * kPerPanel>(s);
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
    const I largest_bits = reduce_max_int_rows(most);
    int32_t bits[W];
    store_int(bits, largest_bits);
    for (int r = 0; r < W; ++r) s.sum[row + r] = bits[r] < kNotFinite ? 0.0f : __builtin_nanf("");
    const F largest = quantum((F)largest_bits);
    Vector::store(s.q_scale + row, largest / Vector::broadcast(127.0f) * Vector::broadcast(job.scale));
    float inverse[W];
    Vector::store(inverse, Vector::broadcast(127.0f) / largest);
    for (int r = 0; r < W && row + r < s.rows; ++r) {
      const float* q = job.query + (row + r) * job.query_stride;
      uint8_t* to = s.q + (row + r) * s.quads * 4;
      const F factor = Vector::broadcast(inverse[r]);
      int64_t d = 0;
      for (; d + W <= head_size; d += W)
        store_bytes(to + d, round_to_int(Vector::load(q + d) * factor) + Vector::kQueryBias);
      if (d < s.quads * 4) {
        uint8_t rest[W];
        store_bytes(rest, round_to_int(load_some(q + d, head_size - d) * factor) + Vector::kQueryBias);
        __builtin_memcpy(to + d, rest, s.quads * 4 - d);
      }
    }
  }
}

void attend_int8(const Job& job) {
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
  s.p = reinterpret_cast<uint8_t*>(s.q_scale + kRows);
  s.q = s.p + kRows * kUnitKeys;

  for (int64_t i = 0; i < s.rows * s.value_stride; ++i) s.out[i] = 0.0f;
  for (int64_t r = 0; r < round_up(s.rows, W); ++r) {
    s.sum[r] = 0.0f;
    s.ones[r] = 1.0f;
    s.maximum[r] = kLowest;
  }
  for (int64_t i = s.rows * kUnitKeys; i < round_up(s.rows, W) * kUnitKeys; ++i) s.scores[i] = 0.0f;
  quantize_query(job, s);
  const int64_t key_lines_per_row = lines_per_row(s.quads + 2, s.rows);
  const int64_t value_lines_per_row = lines_per_row(s.value_stride / 4, s.rows);

  for (int64_t first = 0; first < job.panel_count; first += kUnitPanels) {
    const int64_t left = job.panel_count - first;
    const int panels = left < kUnitPanels ? (int)left : kUnitPanels;
    Int8Unit unit;
    for (int i = 0; i < panels; ++i) {
      const Panel& panel = job.panels[first + i];
      unit.keys[i] = (const uint8_t*)panel.keys;
      unit.values[i] = (const uint8_t*)panel.values;
      unit.bias[i] = panel.bias;
    }
    const int64_t coming = left - kUnitPanels;
    NextUnit next_keys{{},
                       coming < 0             ? 0
                       : coming < kUnitPanels ? (int)coming
                                              : kUnitPanels,
                       key_lines_per_row};
    NextUnit next_values = next_keys;
    next_values.lines_per_row = value_lines_per_row;
    for (int i = 0; i < next_keys.count; ++i) {
      next_keys.panels[i] = (const float*)job.panels[first + kUnitPanels + i].keys;
      next_values.panels[i] = (const float*)job.panels[first + kUnitPanels + i].values;
    }
    int8_score_unit(s, unit, next_keys, panels);
    for (int i = 0; i < panels; ++i)
      if (job.panels[first + i].last_for_row_0 != kNotDiagonal)
        mask_diagonal(s.scores + i * kPanelKeys, job.panels[first + i].last_for_row_0, s.rows);
    const double start = job.clock ? job.clock() : 0.0;
    int8_soften_unit(s, panels);
    if (job.clock) *job.softmax_seconds += job.clock() - start;
    for (int from = 0, to; from < panels; from = to) {
      const float* const scales = job.panels[first + from].scales;
      for (to = from + 1; to < panels && job.panels[first + to].scales == scales;) ++to;
      int8_value_run(s, unit, next_values, from, to, scales);
    }
  }

  for (int64_t r = 0; r < s.rows; ++r) {
    const float factor = s.sum[r] == 0.0f ? 0.0f : 1.0f / s.sum[r];
    for (int64_t d = 0; d < job.value_size; ++d)
      job.output[r * job.output_stride + d] = s.out[r * s.value_stride + d] * factor;
  }
}

}  // namespace
}  // namespace edgesparse
