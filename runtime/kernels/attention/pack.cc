#include "attention/pack.h"

#include <cmath>
#include <cstdlib>

namespace edgesparse {
namespace {

// What is packed should still be in the cache when it is used; more heads at a time would only cost memory.
constexpr int64_t kPassBytes = int64_t{4} << 20;
constexpr int64_t kPrefetchTokens = 32;

// a += count * size, rounded up to a cache line; false on overflow.
bool grow(int64_t& total, int64_t count, int64_t size) {
  int64_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return false;
  if (__builtin_add_overflow(bytes, 63, &bytes)) return false;
  return !__builtin_add_overflow(total, bytes / 64 * 64, &total);
}

}  // namespace

int64_t Packed::plan(const Problem& p) {
  kv_heads = p.kv_heads;
  key_blocks = p.key_blocks();
  panels_a_block = p.panels_a_block();
  summary_panels = p.summaries ? (key_blocks + kPanelKeys - 1) / kPanelKeys : 0;
  key_floats = p.head_size * kPanelKeys;
  value_floats = padded_values(p.value_size) * kPanelKeys;
  log_entries = std::min(p.block_size, p.key_tokens) + 1;
  const int64_t group_bytes = 4 * panels_a_group() * (key_floats + value_floats);
  groups =
      std::min(p.batch * p.kv_heads, std::max<int64_t>(1, kPassBytes / std::max<int64_t>(1, group_bytes)));
  first_group = 0;
  const int64_t panels = groups * panels_a_group();

  const int64_t counts[5] = {panels * key_floats, panels * value_floats,
                             p.batch * key_blocks * panels_a_block * kPanelKeys, log_entries,
                             p.batch * key_blocks};
  int64_t total = 0;
  for (int k = 0; k < 5; ++k) {
    offsets[k] = total;
    if (!grow(total, counts[k], 4)) return -1;
  }
  return total;
}

void Packed::place(char* memory) {
  keys = reinterpret_cast<float*>(memory + offsets[0]);
  values = reinterpret_cast<float*>(memory + offsets[1]);
  bias = reinterpret_cast<float*>(memory + offsets[2]);
  log_counts = reinterpret_cast<float*>(memory + offsets[3]);
  valid_tokens = reinterpret_cast<int32_t*>(memory + offsets[4]);
}

void Packed::count_valid(const Problem& p) {
  log_counts[0] = -HUGE_VALF;
  for (int64_t n = 1; n < log_entries; ++n) log_counts[n] = std::log2(static_cast<float>(n));
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t j = 0; j < key_blocks; ++j) {
      const uint8_t* mask = p.key_mask + b * p.key_tokens + j * p.block_size;
      const int64_t tokens = p.block_tokens(j, p.key_tokens);
      float* to = bias + (b * key_blocks + j) * panels_a_block * kPanelKeys;
      int32_t count = 0;
      for (int64_t t = 0; t < panels_a_block * kPanelKeys; ++t) {
        const bool there = t < tokens && mask[t];
        count += there;
        to[t] = there ? 0.0f : -HUGE_VALF;
      }
      valid_tokens[b * key_blocks + j] = count;
    }
}

namespace {

// Where the tokens of a block lie, for one (batch, key/value head).
struct Block {
  Block(const Problem& problem, int64_t group) : p(problem), b(group / p.kv_heads), g(group % p.kv_heads) {
    key_stride = p.kv_heads * p.head_size;
    value_stride = p.kv_heads * p.value_size;
  }
  int64_t token(int64_t j) const { return b * p.key_tokens + j * p.block_size; }
  const float* key(int64_t j) const { return p.key + token(j) * key_stride + g * p.head_size; }
  const float* value(int64_t j) const { return p.value + token(j) * value_stride + g * p.value_size; }
  const uint8_t* mask(int64_t j) const { return p.key_mask + token(j); }

  const Problem& p;
  int64_t b, g, key_stride, value_stride;
};

// Mean of the valid tokens of a block, spread into one lane (keys) or one row (values) of a panel.
void summarize(const float* tokens, int64_t stride, const uint8_t* mask, int64_t count, int64_t size,
               float* sum, float* to, int64_t to_stride) {
  for (int64_t d = 0; d < size; ++d) sum[d] = 0.0f;
  int64_t valid = 0;
  for (int64_t t = 0; t < count; ++t) {
    if (!mask[t]) continue;
    ++valid;
    for (int64_t d = 0; d < size; ++d) sum[d] += tokens[t * stride + d];
  }
  const float divisor = valid > 0 ? static_cast<float>(valid) : 1.0f;
  for (int64_t d = 0; d < size; ++d) to[d * to_stride] = sum[d] / divisor;
}

// Asks for rows that are packed later: they lie H * D floats apart, too far for the hardware to guess.
void prefetch_rows(const float* first, int64_t stride, int64_t size, int64_t count) {
  for (int64_t t = 0; t < count; ++t)
    for (int64_t d = 0; d < size; d += 16) __builtin_prefetch(first + t * stride + d, 0, 2);
}

}  // namespace

void pack_blocks(const Table& table, const Problem& p, const Packed& packed, int64_t group, int64_t first,
                 int64_t end) {
  const Block block(p, group);
  for (int64_t j = first; j < end; ++j) {
    const int64_t tokens = p.block_tokens(j, p.key_tokens);
    const float *key = block.key(j), *value = block.value(j);
    const uint8_t* mask = block.mask(j);
    for (int64_t part = 0; part * kPanelKeys < tokens; ++part) {
      const int64_t ahead = part * kPanelKeys + kPrefetchTokens;
      const int64_t coming = std::min<int64_t>(kPanelKeys, p.key_tokens - j * p.block_size - ahead);
      prefetch_rows(key + ahead * block.key_stride, block.key_stride, p.head_size, coming);
      prefetch_rows(value + ahead * block.value_stride, block.value_stride, p.value_size, coming);
      const float *key_rows[kPanelKeys], *value_rows[kPanelKeys];
      for (int64_t lane = 0; lane < kPanelKeys; ++lane) {
        const int64_t t = part * kPanelKeys + lane;
        const bool there = t < tokens && mask[t];
        key_rows[lane] = there ? key + t * block.key_stride : nullptr;
        value_rows[lane] = there ? value + t * block.value_stride : nullptr;
      }
      const int64_t panel = packed.panel_of(group, j, part);
      table.pack_keys(key_rows, p.head_size, packed.keys + panel * packed.key_floats);
      table.pack_values(value_rows, p.value_size, packed.values + panel * packed.value_floats);
    }
  }
}

bool summarize_blocks(const Problem& p, const Packed& packed, int64_t group, int64_t first, int64_t end) {
  float* const sum = static_cast<float*>(std::malloc(sizeof(float) * std::max(p.head_size, p.value_size)));
  if (!sum) return false;
  const Block block(p, group);
  const int64_t padded = padded_values(p.value_size);
  for (int64_t j = first; j < end; ++j) {
    const int64_t tokens = p.block_tokens(j, p.key_tokens), lane = j % kPanelKeys;
    const Panel panel = packed.summary_panel(group, j / kPanelKeys);
    float* key_lane = static_cast<float*>(const_cast<void*>(panel.keys)) + lane;
    float* value_row = static_cast<float*>(const_cast<void*>(panel.values)) + lane * padded;
    summarize(block.key(j), block.key_stride, block.mask(j), tokens, p.head_size, sum, key_lane, kPanelKeys);
    summarize(block.value(j), block.value_stride, block.mask(j), tokens, p.value_size, sum, value_row, 1);
    for (int64_t d = p.value_size; d < padded; ++d) value_row[d] = 0.0f;
    // The lanes after the last block belong to no block: finite, so that a weight of 0 gives 0.
    if (j + 1 == p.key_blocks())
      for (int64_t rest = lane + 1; rest < kPanelKeys; ++rest) {
        for (int64_t d = 0; d < p.head_size; ++d) key_lane[d * kPanelKeys + rest - lane] = 0.0f;
        for (int64_t d = 0; d < padded; ++d) value_row[(rest - lane) * padded + d] = 0.0f;
      }
  }
  std::free(sum);
  return true;
}

}  // namespace edgesparse
