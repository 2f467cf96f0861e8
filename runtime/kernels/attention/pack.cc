#include "attention/pack.h"

#include <cmath>

namespace edgesparse {
namespace {

// What is packed should still be in the last-level cache when it is used. Several heads at a time, so that a
// pass reads whole rows of the inputs, each page once: a last pass with one of eight heads is slow.
constexpr int64_t kPassBytes = int64_t{32} << 20;
constexpr int64_t kPrefetchTokens = 32;

}  // namespace

void Packed::plan(const Problem& p, Scratch& scratch) {
  kv_heads = p.kv_heads;
  key_blocks = p.key_blocks();
  panels_per_block = p.panels_per_block();
  summary_panels = p.summaries ? (key_blocks + kPanelKeys - 1) / kPanelKeys : 0;
  value_stride = padded_values(p.value_size);
  key_bytes = p.int8 ? int8_key_bytes(p.head_size) : p.head_size * kPanelKeys * 4;
  value_bytes = value_stride * kPanelKeys * (p.int8 ? 1 : 4);
  log_entries = std::min(p.block_size, p.key_tokens) + 1;
  const int64_t group_bytes = panels_per_group() * (key_bytes + value_bytes);
  const int64_t every = p.batch * p.kv_heads;
  const int64_t most = std::min(every, std::max<int64_t>(1, kPassBytes / std::max<int64_t>(1, group_bytes)));
  // As few passes as fit, all of about one size.
  groups = every == 0 ? 0 : (every + (every + most - 1) / most - 1) / ((every + most - 1) / most);
  first_group = 0;

  const int64_t panels = groups * panels_per_group();
  const int64_t means = p.summaries ? groups * key_blocks : 0;
  scratch.add(&keys, {panels, key_bytes});
  scratch.add(&values, {panels, value_bytes});
  scratch.add(&bias, {p.batch, key_blocks, panels_per_block, kPanelKeys});
  scratch.add(&log_counts, {log_entries});
  scratch.add(&valid_tokens, {p.batch, key_blocks});
  scratch.add(&scales, {p.int8 ? groups : 0, sets_per_group(), value_stride});
  scratch.add(&mean_keys, {means, p.head_size});
  scratch.add(&mean_values, {means, p.value_size});
  scratch.add(&shift, {p.int8 ? groups : 0, p.head_size});
}

void Packed::count_valid(const Problem& p) {
  log_counts[0] = -HUGE_VALF;
  for (int64_t n = 1; n < log_entries; ++n) log_counts[n] = std::log2(static_cast<float>(n));
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t j = 0; j < key_blocks; ++j) {
      const uint8_t* mask = p.key_mask + b * p.key_tokens + j * p.block_size;
      const int64_t tokens = p.block_tokens(j, p.key_tokens);
      float* to = bias + (b * key_blocks + j) * panels_per_block * kPanelKeys;
      int32_t count = 0;
      for (int64_t t = 0; t < panels_per_block * kPanelKeys; ++t) {
        const bool there = t < tokens && mask[t];
        count += there;
        to[t] = there ? 0.0f : -HUGE_VALF;
      }
      valid_tokens[b * key_blocks + j] = count;
    }
}

void Packed::divide_means(int64_t group, int64_t block, const Problem& p) const {
  const int32_t count = valid_tokens[group / kv_heads * key_blocks + block];
  const float divisor = count > 0 ? static_cast<float>(count) : 1.0f;
  float* const mean_key = mean_key_of(group, block, p.head_size);
  float* const mean_value = mean_value_of(group, block, p.value_size);
  for (int64_t d = 0; d < p.head_size; ++d) mean_key[d] /= divisor;
  for (int64_t d = 0; d < p.value_size; ++d) mean_value[d] /= divisor;
}

void BlockTokens::rows(int64_t j, int64_t first, const float** key_rows, const float** value_rows) const {
  const int64_t tokens = p.block_tokens(j, p.key_tokens);
  const float *keys = key(j), *values = value(j);
  const uint8_t* masks = mask(j);
  for (int64_t lane = 0; lane < kPanelKeys; ++lane) {
    const int64_t t = first + lane;
    const bool there = t < tokens && masks[t];
    key_rows[lane] = there ? keys + t * key_stride : nullptr;
    value_rows[lane] = there ? values + t * value_stride : nullptr;
  }
}

void BlockTokens::prefetch(int64_t j, int64_t first) const {
  const int64_t ahead = first + kPrefetchTokens;
  const int64_t end = std::min(ahead + kPanelKeys, p.key_tokens - j * p.block_size);
  for (int64_t t = ahead; t < end; ++t) {
    for (int64_t d = 0; d < p.head_size; d += 16) __builtin_prefetch(key(j) + t * key_stride + d, 0, 2);
    for (int64_t d = 0; d < p.value_size; d += 16) __builtin_prefetch(value(j) + t * value_stride + d, 0, 2);
  }
}

void pack_blocks(const Table& table, const Problem& p, const Packed& packed, int64_t group, int64_t first,
                 int64_t end) {
  const BlockTokens block(p, group);
  for (int64_t j = first; j < end; ++j)
    for (int64_t part = 0; part * kPanelKeys < p.block_tokens(j, p.key_tokens); ++part) {
      const float *key_rows[kPanelKeys], *value_rows[kPanelKeys];
      block.prefetch(j, part * kPanelKeys);
      block.rows(j, part * kPanelKeys, key_rows, value_rows);
      const int64_t panel = packed.panel_of(group, j, part);
      table.pack_keys(key_rows, p.head_size, reinterpret_cast<float*>(packed.keys_of(panel)));
      table.pack_values(value_rows, p.value_size, reinterpret_cast<float*>(packed.values_of(panel)));
    }
}

void summarize_blocks(const Table& table, const Problem& p, const Packed& packed, int64_t group,
                      int64_t first, int64_t end) {
  const BlockTokens block(p, group);
  const int64_t padded = packed.value_stride;
  for (int64_t j = first; j < end; ++j) {
    const int64_t tokens = p.block_tokens(j, p.key_tokens), lane = j % kPanelKeys;
    float* const mean_key = packed.mean_key_of(group, j, p.head_size);
    float* const mean_value = packed.mean_value_of(group, j, p.value_size);
    std::fill(mean_key, mean_key + p.head_size, 0.0f);
    std::fill(mean_value, mean_value + p.value_size, 0.0f);
    for (int64_t t = 0; t < tokens; t += kPanelKeys) {
      const float *key_rows[kPanelKeys], *value_rows[kPanelKeys];
      block.rows(j, t, key_rows, value_rows);
      table.add_rows(key_rows, p.head_size, mean_key);
      table.add_rows(value_rows, p.value_size, mean_value);
    }
    packed.divide_means(group, j, p);

    const int64_t panel = packed.panel_of(group, packed.key_blocks, j / kPanelKeys);
    float* const keys = reinterpret_cast<float*>(packed.keys_of(panel));
    float* const values = reinterpret_cast<float*>(packed.values_of(panel)) + lane * padded;
    for (int64_t d = 0; d < p.head_size; ++d) keys[d * kPanelKeys + lane] = mean_key[d];
    std::copy(mean_value, mean_value + p.value_size, values);
    std::fill(values + p.value_size, values + padded, 0.0f);
    // The lanes after the last block belong to no block: finite, so that a weight of 0 gives 0.
    if (j + 1 < p.key_blocks()) continue;
    for (int64_t rest = lane + 1; rest < kPanelKeys; ++rest) {
      for (int64_t d = 0; d < p.head_size; ++d) keys[d * kPanelKeys + rest] = 0.0f;
      std::fill(values + (rest - lane) * padded, values + (rest - lane + 1) * padded, 0.0f);
    }
  }
}

}  // namespace edgesparse
