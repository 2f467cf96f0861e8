// The int8 arithmetic of every vector instruction set: included after isa/tiles.h.
//
// Both products are sums of four unsigned x signed bytes in int32, which no instruction set may saturate.
// Everything that touches an integer (maxima, scales, rounding, exp2) is computed element by element with
// the same operations in the same order on every instruction set, so outputs agree bit for bit.
//
//   query   one scale a row;   byte = round(q / scale) + 128
//   keys    one scale a key;   panel [ceil(D/4)][16][4], then int32 start[16] = -128 * (sum of a key's
//   bytes),
//           then float scale[16]
//   weights round(255 * 2^(score - maximum of the row in this unit)), so every unit uses all 8 bits
//   values  one scale a column over the (up to 64) keys packed together; panel [4][padded(V)][4]
//
// `Vector` provides score_dot and weight_dot, and how its bytes are biased: instruction sets that multiply
// signed by signed store q and p - 128, and add back what that leaves out.
#pragma once

#include "isa/tiles.h"

namespace edgesparse {
namespace {

typedef int8_t Bytes __attribute__((vector_size(Vector::kLanes)));
constexpr float kLog2Of255 = 7.994353436858858f;

EDGESPARSE_INLINE I broadcast_int(int32_t x) { return x - I{}; }
EDGESPARSE_INLINE I load_int(const void* p) {
  I v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
EDGESPARSE_INLINE void store_int(void* p, I v) { __builtin_memcpy(p, &v, sizeof v); }
EDGESPARSE_INLINE F to_float(I v) { return __builtin_convertvector(v, F); }
EDGESPARSE_INLINE void store_bytes(void* p, I v) {
  const Bytes b = __builtin_convertvector(v, Bytes);
  __builtin_memcpy(p, &b, sizeof b);
}
EDGESPARSE_INLINE I broadcast_bytes(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return broadcast_int(four);
}

// Rounds to the nearest integer, ties to even, for |x| < 2^22.
EDGESPARSE_INLINE I round_to_int(F x) {
  const F magic = Vector::broadcast(12582912.0f);
  return (I)(x + magic) - (I)magic;
}

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

// `count` floats from p (at most W), zeros after them; zeros where p is null.
EDGESPARSE_INLINE F load_some(const float* p, int64_t count) {
  if (p && count >= W) return Vector::load(p);
  float room[W] = {};
  if (p)
    for (int64_t i = 0; i < count; ++i) room[i] = p[i];
  return Vector::load(room);
}

EDGESPARSE_INLINE F magnitude(F x) { return Vector::max(x, -x); }
// A scale that is never 0, so that zeros quantize to zeros.
EDGESPARSE_INLINE F quantum(F largest) { return Vector::max(largest, Vector::broadcast(1e-35f)); }

// Whether every lane is 0; x * 0 is 0 unless x is not finite.
EDGESPARSE_INLINE bool all_zero(F v) {
  float lanes[W];
  Vector::store(lanes, v);
  bool zero = true;
  for (int i = 0; i < W; ++i) zero &= lanes[i] == 0.0f;
  return zero;
}

// Lane r of the result is the sum of the lanes of a[r].
EDGESPARSE_INLINE I reduce_add_rows(I (&a)[W]) {
#pragma GCC unroll 4
  for (int half = W / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i)
      a[i] = (I)Vector::interleave_low((F)a[i], (F)a[i + half]) +
             (I)Vector::interleave_high((F)a[i], (F)a[i + half]);
  return a[0];
}

// Packs 16 keys less `shift`; false where one of them is not finite.
bool quantize_keys(Rows16 rows, int64_t head_size, const float* shift, void* panel) {
  const int64_t quads = (head_size + 3) / 4;
  uint8_t* const bytes = static_cast<uint8_t*>(panel);
  float* const scales = reinterpret_cast<float*>(bytes + quads * 64 + 64);
  F poison = Vector::broadcast(0.0f);
  float inverse[kPanelKeys];
  for (int part = 0; part < kPanelKeys; part += W) {
    F most[W];
    for (int i = 0; i < W; ++i) {
      const float* row = rows[part + i];
      most[i] = Vector::broadcast(0.0f);
      if (!row) continue;
      for (int64_t d = 0; d < head_size; d += W) {
        const F x = load_some(row + d, head_size - d) - load_some(shift + d, head_size - d);
        most[i] = Vector::max(most[i], magnitude(x));
        poison = poison + x * Vector::broadcast(0.0f);
      }
    }
    const F largest = quantum(reduce_max_rows(most));
    Vector::store(scales + part, largest / Vector::broadcast(127.0f));
    Vector::store(inverse + part, Vector::broadcast(127.0f) / largest);
  }

  // Four bytes of a key are one 32-bit lane: rows of lanes are transposed like rows of floats.
  for (int64_t from = 0; from < quads * 4; from += 4 * W)
    for (int part = 0; part < kPanelKeys; part += W) {
      F lanes[W];
      for (int i = 0; i < W; ++i) {
        const float* row = rows[part + i];
        uint8_t four[4 * W] = {};
        const F factor = Vector::broadcast(inverse[part + i]);
        if (row)
          for (int64_t d = 0; d < 4 * W && from + d < head_size; d += W) {
            const int64_t left = head_size - from - d;
            const F x = load_some(row + from + d, left) - load_some(shift + from + d, left);
            store_bytes(four + d, round_to_int(x * factor));
          }
        __builtin_memcpy(&lanes[i], four, sizeof four);
      }
      transpose_square(lanes);
      for (int i = 0; i < W && from / 4 + i < quads; ++i)
        store_int(bytes + (from / 4 + i) * 64 + part * 4, (I)lanes[i]);
    }

  const I ones = broadcast_int(0x01010101);
  for (int part = 0; part < kPanelKeys; part += W) {
    I sum = {};
    for (int64_t quad = 0; quad < quads; ++quad)
      sum = Vector::score_dot(sum, ones, load_int(bytes + quad * 64 + part * 4));
    store_int(bytes + quads * 64 + part * 4, sum * -Vector::kQueryBias);
  }
  return all_zero(poison);
}

// Packs the values of up to 4 panels (a null row is a token that is not there) with one scale a column;
// false where one of them is not finite.
bool quantize_values(Rows16 rows, int panels, int64_t value_size, void* values, float* scales) {
  const int64_t padded = padded_values(value_size);
  uint8_t* const bytes = static_cast<uint8_t*>(values);
  F poison = Vector::broadcast(0.0f);
  for (int64_t d = 0; d < padded; d += W) {
    const int64_t left = value_size - d > 0 ? value_size - d : 0;
    F most = Vector::broadcast(0.0f);
    for (int key = 0; key < panels * kPanelKeys; ++key) {
      if (!rows[key]) continue;
      const F x = load_some(rows[key] + d, left);
      most = Vector::max(most, magnitude(x));
      poison = poison + x * Vector::broadcast(0.0f);
    }
    const F largest = quantum(most);
    Vector::store(scales + d, largest / Vector::broadcast(127.0f));
    const F factor = Vector::broadcast(127.0f) / largest;
    for (int quad = 0; quad < panels * 4; ++quad) {
      I four = {};
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const float* row = rows[quad * 4 + i];
        if (row) four |= (round_to_int(load_some(row + d, left) * factor) & 255) << (8 * i);
      }
      store_int(bytes + quad * padded * 4 + d * 4, four);
    }
  }
  return all_zero(poison);
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
      I sum = {};
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        const I weight = round_to_int(exp2_coarse(Vector::load(x + v * W) - shift));
        sum += weight;
        store_bytes(p + v * W, weight - Vector::kWeightBias);
      }
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
    F most[W];
    for (int r = 0; r < W; ++r) {
      F poison = Vector::broadcast(0.0f);
      most[r] = Vector::broadcast(0.0f);
      if (row + r >= s.rows) continue;
      const float* q = job.query + (row + r) * job.query_stride;
      for (int64_t d = 0; d < head_size; d += W) {
        const F x = load_some(q + d, head_size - d);
        most[r] = Vector::max(most[r], magnitude(x));
        poison = poison + x * Vector::broadcast(0.0f);
      }
      s.sum[row + r] = all_zero(poison) ? 0.0f : __builtin_nanf("");
    }
    const F largest = quantum(reduce_max_rows(most));
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
                       s.quads + 2,
                       s.rows};
    NextUnit next_values = next_keys;
    next_values.panel_lines = s.value_stride / 4;
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
