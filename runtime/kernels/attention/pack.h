// Keys, values and summaries, packed once per key/value head for all query blocks that read them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attention/problem.h"

namespace edgesparse {

struct Packed {
  int64_t groups;       // (batch, key/value head) pairs that are packed at the same time
  int64_t first_group;  // the first of them
  int64_t key_blocks, panels_a_block, summary_panels;
  int64_t key_floats, value_floats;  // of one panel
  int64_t offsets[6];

  float* keys;            // [groups][panels][D][16]
  float* values;          // [groups][panels][16][padded(V)]
  float* bias;            // [B][key panels][16]: 0, or minus infinity where there is no key
  float* log_counts;      // [block_size + 1]: base-2 logarithm of a count of tokens
  int32_t* valid_tokens;  // [B][NK]
  int64_t kv_heads, log_entries;

  // Sizes everything; the bytes needed, or -1 when they do not fit an int64.
  int64_t plan(const Problem& problem);
  void place(char* memory);
  void count_valid(const Problem& problem);

  int64_t panels_a_group() const { return key_blocks * panels_a_block + summary_panels; }
  int64_t panel_of(int64_t group, int64_t block, int64_t part) const {
    return (group - first_group) * panels_a_group() + block * panels_a_block + part;
  }
  float* bias_of(int64_t panel) const {
    const int64_t batch = (first_group + panel / panels_a_group()) / kv_heads;
    return bias + (batch * key_blocks * panels_a_block + panel % panels_a_group()) * kPanelKeys;
  }
  Panel panel(int64_t index, int64_t last_for_row_0) const {
    return {keys + index * key_floats, values + index * value_floats, bias_of(index), last_for_row_0,
            nullptr};
  }
  Panel summary_panel(int64_t group, int64_t part) const {
    const int64_t index = panel_of(group, key_blocks, part);
    return {keys + index * key_floats, values + index * value_floats, nullptr, kNotDiagonal, nullptr};
  }
  float log_count(int64_t count) const { return log_counts[count]; }
};

// Packs blocks first to end of one (batch, key/value head).
void pack_blocks(const Table& table, const Problem& problem, const Packed& packed, int64_t group,
                 int64_t first, int64_t end);

// Writes the same blocks' mean keys and values into the summary panels; false when memory ran out.
bool summarize_blocks(const Problem& problem, const Packed& packed, int64_t group, int64_t first,
                      int64_t end);

}  // namespace edgesparse
