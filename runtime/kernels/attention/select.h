// Which key blocks a query block attends to: rules 1 to 4 of docs/reference/operator.md.
#pragma once

#include <cstdint>

#include "isa/table.h"

namespace edgesparse {

// Blocks that share one entry of `SelectionArrays::best`.
constexpr int64_t kRankGroup = 16;

struct SelectionArrays {
  float* share;     // [NK rounded up to a multiple of kShareLanes]
  uint64_t* ranks;  // [NK]: 0 = not there to be taken
  uint64_t* best;   // [ceil(NK / kRankGroup)]: the largest rank of each group
};

// Marks in kept[NK] the blocks kept for query block i. valid_tokens[NK] counts the tokens of each block
// that are not padding; blocks after `i` are not valid when causal.
void select_blocks(const Table& table, const float* scores, const int32_t* valid_tokens, int64_t key_blocks,
                   int64_t i, bool causal, int64_t window, float top_p, int64_t max_blocks,
                   const SelectionArrays& arrays, uint8_t* kept);

}  // namespace edgesparse
