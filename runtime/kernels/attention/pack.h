// Keys, values and summaries, packed once per key/value head for all query blocks that read them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attention/problem.h"

namespace edgesparse {

struct Packed {
  int64_t groups;       // (batch, key/value head) pairs that are packed at one time
  int64_t first_group;  // the first of them
  int64_t kv_heads, key_blocks, panels_per_block, summary_panels, log_entries;
  int64_t key_bytes, value_bytes, value_stride;  // of one panel, and floats of a padded row of values

  char* keys;             // [groups][panels] panels
  char* values;           // [groups][panels] panels
  float* bias;            // [B][key panels][16]: 0, or minus infinity where there is no key
  float* log_counts;      // [block_size + 1]: base-2 logarithm of a count of tokens
  int32_t* valid_tokens;  // [B][NK]
  float* scales;          // int8: [groups][sets][padded(V)]
  float* mean_keys;       // with summaries: [groups][NK][D]
  float* mean_values;     // with summaries: [groups][NK][V]
  float* shift;           // int8: [groups][D], taken off every key

  // Sizes everything, and adds the arrays to `scratch`.
  void plan(const Problem& problem, Scratch& scratch);
  void count_valid(const Problem& problem);

  int64_t local(int64_t group) const { return group - first_group; }
  int64_t panels_per_group() const { return key_blocks * panels_per_block + summary_panels; }
  // Part `key_blocks` and on are the summaries.
  int64_t panel_of(int64_t group, int64_t block, int64_t part) const {
    return local(group) * panels_per_group() + block * panels_per_block + part;
  }
  // int8: up to four panels of a block, or of summaries, that share the scales of their values.
  int64_t sets_per_block() const { return (panels_per_block + kUnitPanels - 1) / kUnitPanels; }
  int64_t sets_per_group() const {
    return key_blocks * sets_per_block() + (summary_panels + kUnitPanels - 1) / kUnitPanels;
  }
  float* scales_of(int64_t group, int64_t block, int64_t part) const {
    return scales +
           (local(group) * sets_per_group() + block * sets_per_block() + part / kUnitPanels) * value_stride;
  }
  float* mean_key_of(int64_t group, int64_t block, int64_t head_size) const {
    return mean_keys + (local(group) * key_blocks + block) * head_size;
  }
  float* mean_value_of(int64_t group, int64_t block, int64_t value_size) const {
    return mean_values + (local(group) * key_blocks + block) * value_size;
  }
  float* bias_of(int64_t group, int64_t block, int64_t part) const {
    return bias + ((group / kv_heads * key_blocks + block) * panels_per_block + part) * kPanelKeys;
  }
  char* keys_of(int64_t panel) const { return keys + panel * key_bytes; }
  char* values_of(int64_t panel) const { return values + panel * value_bytes; }

  Panel panel(int64_t group, int64_t block, int64_t part, int64_t last_for_row_0, int64_t lanes) const {
    const int64_t index = panel_of(group, block, part);
    return {keys_of(index),
            values_of(index),
            bias_of(group, block, part),
            last_for_row_0,
            scales_of(group, block, part),
            lanes,
            kSeenByAll};
  }
  Panel summary_panel(int64_t group, int64_t part, const float* weights) const {
    const int64_t index = panel_of(group, key_blocks, part);
    return {keys_of(index),
            values_of(index),
            weights,
            kNotDiagonal,
            scales_of(group, key_blocks, part),
            std::min<int64_t>(kPanelKeys, key_blocks - part * kPanelKeys),
            kSeenByAll};
  }
  // Sums of a block's tokens become means.
  void divide_means(int64_t group, int64_t block, const Problem& problem) const;
  float log_count(int64_t count) const { return log_counts[count]; }
};

// Where the tokens of a block lie, for one (batch, key/value head).
struct BlockTokens {
  BlockTokens(const Problem& problem, int64_t group)
      : p(problem), b(group / p.kv_heads), g(group % p.kv_heads) {
    key_stride = p.kv_heads * p.head_size;
    value_stride = p.kv_heads * p.value_size;
  }
  int64_t token(int64_t j) const { return b * p.key_tokens + j * p.block_size; }
  const float* key(int64_t j) const { return p.key + token(j) * key_stride + g * p.head_size; }
  const float* value(int64_t j) const { return p.value + token(j) * value_stride + g * p.value_size; }
  const uint8_t* mask(int64_t j) const { return p.key_mask + token(j); }
  // The rows of 16 tokens from `first` on; null where there is no token.
  void rows(int64_t j, int64_t first, const float** key_rows, const float** value_rows) const;
  // Asks for the 16 tokens that are packed two panels later: they lie H * D floats apart, too far for the
  // hardware to guess.
  void prefetch(int64_t j, int64_t first) const;

  const Problem& p;
  int64_t b, g, key_stride, value_stride;
};

// Each of these works on blocks first to end of one (batch, key/value head).
void pack_blocks(const Table& table, const Problem& problem, const Packed& packed, int64_t group,
                 int64_t first, int64_t end);
// Writes the blocks' mean keys and values into the summary panels.
void summarize_blocks(const Table& table, const Problem& problem, const Packed& packed, int64_t group,
                      int64_t first, int64_t end);

// int8, in this order: a head's shift, its blocks and their means, its summary panels out of the means.
void choose_shift(const Problem& problem, const Packed& packed, int64_t group);
void quantize_blocks(const Table& table, const Problem& problem, const Packed& packed, int64_t group,
                     int64_t first, int64_t end);
void quantize_summaries(const Table& table, const Problem& problem, const Packed& packed, int64_t group);

}  // namespace edgesparse
