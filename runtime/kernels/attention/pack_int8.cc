#include <cmath>

#include "attention/pack.h"

namespace edgesparse {
namespace {

// Softmax does not see what all logits of a row share, so an average key is taken off every key and the bytes
// are left for what tells keys apart. Any key near the average will do: this many tokens per block are read.
constexpr int64_t kSamples = 4;

// Keys beyond this are left out of the average: one broken token must not cost every key its precision.
bool is_moderate(const float* key, int64_t size) {
  bool moderate = true;
  for (int64_t d = 0; d < size; ++d) moderate &= std::fabs(key[d]) < 1e6f;
  return moderate;
}

void spoil(float* scales, int64_t count) {
  for (int64_t d = 0; d < count; ++d) scales[d] = std::nanf("");
}

// Packs up to four panels that share the scales of their values. Where an input is not finite, NaN scales
// give NaN to whoever reads these keys and to nobody else.
void quantize_set(const Table& table, const Problem& p, const Packed& packed, int64_t first_panel, int panels,
                  Rows16 key_rows, Rows16 value_rows, const float* shift, float* scales) {
  bool finite = true;
  for (int i = 0; i < panels; ++i)
    finite &=
        table.quantize_keys(key_rows + i * kPanelKeys, p.head_size, shift, packed.keys_of(first_panel + i));
  finite &= table.quantize_values(value_rows, panels, p.value_size, packed.values_of(first_panel), scales);
  if (!finite) spoil(scales, packed.value_stride);
}

}  // namespace

// Causal attention may not look at later keys: no shift there.
void choose_shift(const Problem& p, const Packed& packed, int64_t group) {
  const BlockTokens block(p, group);
  float* const shift = packed.shift + packed.local(group) * p.head_size;
  std::fill(shift, shift + p.head_size, 0.0f);
  if (p.causal) return;
  int64_t count = 0;
  for (int64_t j = 0; j < packed.key_blocks; ++j) {
    const int64_t tokens = p.block_tokens(j, p.key_tokens), step = (tokens + kSamples - 1) / kSamples;
    for (int64_t t = 0; t < tokens; t += step) {
      const float* const key = block.key(j) + t * block.key_stride;
      if (!block.mask(j)[t] || !is_moderate(key, p.head_size)) continue;
      for (int64_t d = 0; d < p.head_size; ++d) shift[d] += key[d];
      ++count;
    }
  }
  for (int64_t d = 0; d < p.head_size && count > 0; ++d) shift[d] /= static_cast<float>(count);
}

void quantize_summaries(const Table& table, const Problem& p, const Packed& packed, int64_t group) {
  const int64_t blocks = packed.key_blocks, local = packed.local(group);
  const float* const means = packed.mean_keys + local * blocks * p.head_size;
  const float* const mean_values = packed.mean_values + local * blocks * p.value_size;
  const int32_t* const counts = packed.valid_tokens + group / p.kv_heads * blocks;
  const float* const shift = packed.shift + local * p.head_size;
  for (int64_t part = 0; part < packed.summary_panels; part += kUnitPanels) {
    const int panels = static_cast<int>(std::min<int64_t>(kUnitPanels, packed.summary_panels - part));
    const float *key_rows[kUnitKeys], *value_rows[kUnitKeys];
    for (int64_t lane = 0; lane < panels * kPanelKeys; ++lane) {
      const int64_t j = part * kPanelKeys + lane;
      const bool there = j < blocks && counts[j] > 0;
      key_rows[lane] = there ? means + j * p.head_size : nullptr;
      value_rows[lane] = there ? mean_values + j * p.value_size : nullptr;
    }
    quantize_set(table, p, packed, packed.panel_of(group, blocks, part), panels, key_rows, value_rows, shift,
                 packed.scales_of(group, blocks, part));
  }
}

void quantize_blocks(const Table& table, const Problem& p, const Packed& packed, int64_t group, int64_t first,
                     int64_t end) {
  const BlockTokens block(p, group);
  const float* const shift = packed.shift + packed.local(group) * p.head_size;
  for (int64_t j = first; j < end; ++j) {
    const int64_t tokens = p.block_tokens(j, p.key_tokens);
    float* const mean_key = packed.mean_key_of(group, j, p.head_size);
    float* const mean_value = packed.mean_value_of(group, j, p.value_size);
    if (p.summaries) std::fill(mean_key, mean_key + p.head_size, 0.0f);
    if (p.summaries) std::fill(mean_value, mean_value + p.value_size, 0.0f);
    for (int64_t t = 0; t < tokens; t += kUnitKeys) {
      const int64_t some = std::min<int64_t>(kUnitKeys, tokens - t);
      const int panels = static_cast<int>((some + kPanelKeys - 1) / kPanelKeys);
      const float *key_rows[kUnitKeys], *value_rows[kUnitKeys];
      for (int first_row = 0; first_row < panels * kPanelKeys; first_row += kPanelKeys) {
        block.prefetch(j, t + first_row);
        block.rows(j, t + first_row, key_rows + first_row, value_rows + first_row);
        if (!p.summaries) continue;
        table.add_rows(key_rows + first_row, p.head_size, mean_key);
        table.add_rows(value_rows + first_row, p.value_size, mean_value);
      }
      quantize_set(table, p, packed, packed.panel_of(group, j, t / kPanelKeys), panels, key_rows, value_rows,
                   shift, packed.scales_of(group, j, t / kPanelKeys));
    }
    if (p.summaries) packed.divide_means(group, j, p);
  }
}

}  // namespace edgesparse
