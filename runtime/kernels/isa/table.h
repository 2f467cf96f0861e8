// What an instruction set provides: one table of function pointers, chosen once per process.
//
// Everything here is raw pointers and plain structs. The files behind the table are compiled with
// instruction-set flags, so nothing in them may instantiate a std template: the linker could pick that
// copy for the whole program and run AVX-512 code on a machine without it.
//
// Shape legend: D head size of queries and keys, V head size of values, W lanes of a vector.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgesparse {

// Keys are packed in panels of 16: [D][16] for keys, [16][padded(V)] for values, 16 biases. A block's
// last panel is filled up with zero keys whose bias is minus infinity.
constexpr int kPanelKeys = 16;
// Query rows of one job: the scores of a tile (kRows x kUnitPanels * kPanelKeys) stay in L1.
constexpr int kRows = 64;
// Panels that share one update of the running maximum.
constexpr int kUnitPanels = 4;
constexpr int kUnitKeys = kUnitPanels * kPanelKeys;

constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

constexpr int64_t kShareLanes = 16;

// Means "no key of this panel lies in the future of a row".
constexpr int64_t kNotDiagonal = INT64_MAX;
// Means "every row of the job sees every key of this panel".
constexpr int32_t kSeenByAll = -1;

struct Panel {
  const void* keys;
  const void* values;
  const float* bias;       // base-2 logarithm of each key's weight; minus infinity = not there
  int64_t last_for_row_0;  // row r may see lanes up to last_for_row_0 + r; kNotDiagonal = all lanes
  const float* scales;     // int8 only: one per column of the values, shared by the panels packed together
  int64_t lanes;           // no key is there from this lane on
  int32_t token;           // with `first_key`: the number of the first key, or kSeenByAll
};

// The output may be the query, with V = D and one stride for both: every table reads a row to its end before
// it writes any of it, and writes no row of another head or block.
struct Job {
  const float* query;  // rows of D, query_stride apart
  int64_t query_stride;
  int64_t rows;  // 1 to kRows
  int64_t head_size;
  int64_t value_size;
  float scale;  // already times log2(e)
  const Panel* panels;
  int64_t panel_count;
  const int32_t* first_key;  // null, or row r sees the keys first_key[r] to last_key[r] only; float32 only
  const int32_t* last_key;
  float* output;  // rows of V, output_stride apart
  int64_t output_stride;
  float* scratch;     // float_scratch() floats, 64-byte aligned
  double (*clock)();  // null, or seconds: then the time in softmax is added to *softmax_seconds
  double* softmax_seconds;
};

// 16 tokens, each a pointer to its D or V floats; null where there is no token.
using Rows16 = const float* const*;

struct Table {
  const char* name;
  // Softmax of the scores over the valid blocks. NaN counts as minus infinity, plus infinity as the largest
  // float; where nothing is finite every share is 0. `share` has room for `blocks` rounded up to kShareLanes.
  void (*shares)(const float* scores, const int32_t* valid_tokens, int64_t blocks, float* share);
  // Packs 16 keys into [D][16].
  void (*pack_keys)(Rows16 rows, int64_t head_size, float* panel);
  // Packs 16 values into [16][padded(V)].
  void (*pack_values)(Rows16 rows, int64_t value_size, float* panel);
  // Adds the tokens that are there to sum[size].
  void (*add_rows)(Rows16 rows, int64_t size, float* sum);
  void (*attend)(const Job& job);

  // The same in 8-bit integers, laid out as isa/tiles/pack_int8.h says. `shift` [D] is taken off every key.
  // Both give false where an input is not finite.
  bool (*quantize_keys)(Rows16 rows, int64_t head_size, const float* shift, void* panel);
  bool (*quantize_values)(Rows16 rows, int panels, int64_t value_size, void* values, float* scales);
  void (*attend_int8)(const Job& job);

  // isa/mass.h
  void (*mass)(const struct MassJob& job);
  // isa/linear.h
  void (*linear)(const struct LinearJob& job);
  void (*sum_weights)(const int8_t* weight, int64_t depth, int64_t columns, int32_t* sums);
  // isa/filter_bank.h
  void (*bank)(const struct BankJob& job);
  // isa/competing_filters.h
  void (*compete)(const struct CompeteJob& job);
  // isa/pooling.h
  void (*pool)(const struct PoolJob& job);
  void (*product)(const struct ProductJob& job);
  void (*mix)(const struct MixJob& job);
};

inline int64_t int8_key_bytes(int64_t head_size) { return (head_size + 3) / 4 * 64 + 128; }
// Sums of more products than this could leave int32.
constexpr int64_t kLargestInt8Head = 32768;

inline int64_t padded_values(int64_t value_size) { return round_up(value_size, kPanelKeys); }

inline int64_t float_scratch(int64_t head_size, int64_t value_size) {
  return kRows * (round_up(head_size, 16) + kUnitKeys + padded_values(value_size) + kPanelKeys + 2);
}

inline int64_t int8_scratch(int64_t head_size, int64_t value_size) {
  return kRows * (kUnitKeys + padded_values(value_size) + 6 + kUnitKeys / 4 + (head_size + 3) / 4) +
         kUnitKeys * padded_values(value_size) / 4 + padded_values(value_size) + kPanelKeys;
}

const Table* scalar_table();
const Table* avx2_table();  // null where the build or the machine lacks it, as below
const Table* avxvnni_table();
const Table* avx512_table();
const Table* amx_table();
const Table* amx_emulated_table();  // for tests: what amx_table does, its matrix unit in plain C++
const Table* neon_dotprod_table();
const Table* neon_table();

// The best table of this machine, or the one that EDGESPARSE_ISA names. A name that does not exist here
// gives null: a pin that silently falls back would make every test of a pinned path worthless.
const Table* chosen_table();

// Why a better table than the chosen one could not be had, as a sentence; null where nothing is to be said.
const char* what_was_refused();

// The names that EDGESPARSE_ISA may take here, for error messages.
const char* available_tables();

}  // namespace edgesparse
