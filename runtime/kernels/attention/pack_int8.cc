#include <cmath>

#include "attention/pack.h"

namespace edgesparse {
namespace {

// Block means above this are left out of the shift: one broken token must not cost every key its precision.
constexpr float kLargestMean = 1e18f;

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

void average_blocks(const Problem& p, const Packed& packed, int64_t group, int64_t first, int64_t end) {
  const BlockTokens block(p, group);
  for (int64_t j = first; j < end; ++j) {
    const int64_t row = packed.local(group) * packed.key_blocks + j, tokens = p.block_tokens(j, p.key_tokens);
    average(block.key(j), block.key_stride, block.mask(j), tokens, p.head_size,
            packed.mean_keys + row * p.head_size);
    if (p.summaries)
      average(block.value(j), block.value_stride, block.mask(j), tokens, p.value_size,
              packed.mean_values + row * p.value_size);
  }
}

void quantize_summaries(const Table& table, const Problem& p, const Packed& packed, int64_t group) {
  const int64_t blocks = packed.key_blocks, local = packed.local(group);
  const float* const means = packed.mean_keys + local * blocks * p.head_size;
  const float* const mean_values = packed.mean_values + local * blocks * p.value_size;
  const int32_t* const counts = packed.valid_tokens + group / p.kv_heads * blocks;
  float* const shift = packed.shift + local * p.head_size;

  // Softmax does not see what all logits of a row share, so the mean key is taken off every key and the
  // bytes are left for what tells keys apart. Causal attention may not look at later keys: no shift there.
  for (int64_t d = 0; d < p.head_size; ++d) {
    float sum = 0.0f, count = 0.0f;
    for (int64_t j = 0; j < blocks && !p.causal; ++j) {
      const float mean = means[j * p.head_size + d];
      if (!(std::fabs(mean) < kLargestMean)) continue;
      sum += mean * static_cast<float>(counts[j]);
      count += static_cast<float>(counts[j]);
    }
    shift[d] = count > 0.0f ? sum / count : 0.0f;
  }

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
    const int64_t all = (p.block_tokens(j, p.key_tokens) + kPanelKeys - 1) / kPanelKeys;
    for (int64_t part = 0; part < all; part += kUnitPanels) {
      const int panels = static_cast<int>(std::min<int64_t>(kUnitPanels, all - part));
      const float *key_rows[kUnitKeys], *value_rows[kUnitKeys];
      for (int i = 0; i < panels; ++i) {
        block.prefetch(j, (part + i) * kPanelKeys);
        block.rows(j, (part + i) * kPanelKeys, key_rows + i * kPanelKeys, value_rows + i * kPanelKeys);
      }
      quantize_set(table, p, packed, packed.panel_of(group, j, part), panels, key_rows, value_rows, shift,
                   packed.scales_of(group, j, part));
    }
  }
}

}  // namespace edgesparse
