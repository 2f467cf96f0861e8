// One call of the operator, in raw pointers, and what it needs from its host.
//
// Shape legend: B batch, N query tokens, M key tokens, H query heads, G key/value heads, D head size,
// V value head size, NQ and NK blocks of queries and keys.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host.h"
#include "isa/table.h"

namespace edgesparse {

struct Problem {
  const float* query;         // [B, N, H*D]
  const float* key;           // [B, M, G*D]
  const float* value;         // [B, M, G*V]
  const float* block_scores;  // [B, H, NQ, NK]
  const float* top_p;         // [H], or [1] with top_p_per_head false
  const uint8_t* key_mask;    // [B, M]
  float* output;              // [B, N, H*V]; may begin where `query` begins, whose memory is then overwritten
  uint8_t* selection;         // [B, H, NQ, NK], or null
  // [N], or null: query i sees the keys first_key[i] to last_key[i], neither of which falls as i rises.
  // Nothing is selected then: `block_scores`, `top_p`, `max_blocks` and `window` are not read.
  const int32_t* first_key;
  const int32_t* last_key;

  int64_t batch, query_tokens, key_tokens, heads, kv_heads, head_size, value_size, block_size;
  int64_t max_blocks, window;
  float scale;
  bool top_p_per_head, summaries, causal, int8;

  int64_t query_blocks() const { return (query_tokens + block_size - 1) / block_size; }
  int64_t key_blocks() const { return (key_tokens + block_size - 1) / block_size; }
  int64_t block_tokens(int64_t block, int64_t tokens) const {
    const int64_t left = tokens - block * block_size;
    return left < block_size ? left : block_size;
  }
  int64_t panels_per_block() const {
    const int64_t tokens = block_size < key_tokens ? block_size : key_tokens;
    return (tokens + kPanelKeys - 1) / kPanelKeys;
  }
};

// Where the time went, in seconds; filled only on request, and correct only on one thread.
// `packing` is without `summaries`; `softmax` is a part of `attention`.
struct Timing {
  double packing = 0, summaries = 0, selection = 0, attention = 0, softmax = 0;
};

// Null, or one sentence that says what went wrong.
const char* run(const Table& table, const Problem& problem, const Host& host, Timing* timing = nullptr);

}  // namespace edgesparse
