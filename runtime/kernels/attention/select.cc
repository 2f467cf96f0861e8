#include "attention/select.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace edgesparse {
namespace {

// Orders by share, then by lower index: shares are not negative, so their bits order like themselves.
uint64_t rank_of(float share, int64_t block) {
  uint32_t bits;
  std::memcpy(&bits, &share, sizeof bits);
  return (uint64_t{bits} << 32) | (0xffffffffu - static_cast<uint32_t>(block));
}

int64_t block_of(uint64_t rank) { return 0xffffffffu - static_cast<uint32_t>(rank); }

uint64_t largest(const uint64_t* ranks, int64_t count) {
  uint64_t even = 0, odd = 0;
  int64_t k = 0;
  for (; k + 2 <= count; k += 2) {
    even = std::max(even, ranks[k]);
    odd = std::max(odd, ranks[k + 1]);
  }
  if (k < count) even = std::max(even, ranks[k]);
  return std::max(even, odd);
}

uint64_t largest_of_group(const uint64_t* ranks, int64_t group, int64_t end) {
  const int64_t first = group * kRankGroup;
  return largest(ranks + first, std::min(kRankGroup, end - first));
}

}  // namespace

void select_blocks(const Table& table, const float* scores, const int32_t* valid_tokens, int64_t key_blocks,
                   int64_t i, bool causal, int64_t window, float top_p, int64_t max_blocks,
                   const SelectionArrays& arrays, uint8_t* kept) {
  std::fill(kept, kept + key_blocks, uint8_t{0});
  const int64_t end = causal ? std::min(i + 1, key_blocks) : key_blocks;
  table.shares(scores, valid_tokens, end, arrays.share);

  // `window` may be as large as an int64: compare distances, add nothing to it.
  uint64_t* const ranks = arrays.ranks;
  float mass = 0.0f;
  int64_t count = 0, candidates = 0;
  for (int64_t j = 0; j < end; ++j) {
    ranks[j] = 0;
    if (valid_tokens[j] == 0) continue;
    const int64_t distance = i < j ? j - i : i - j;
    if (distance <= window) {
      kept[j] = 1;
      mass += arrays.share[j];
      ++count;
    } else {
      ranks[j] = rank_of(arrays.share[j], j);
      ++candidates;
    }
  }
  if (count >= max_blocks || std::isnan(top_p) || top_p <= 0.0f) return;
  const bool everything = top_p >= 1.0f;
  if (everything && candidates <= max_blocks - count) {
    for (int64_t j = 0; j < end; ++j) kept[j] |= ranks[j] != 0;
    return;
  }

  // The largest rank of every group of blocks is at hand, so taking the next block looks at the groups and at
  // one of them again. A heap, whose branches nobody can predict, took more than twice the time.
  const int64_t groups = (end + kRankGroup - 1) / kRankGroup;
  uint64_t* const best = arrays.best;
  for (int64_t g = 0; g < groups; ++g) best[g] = largest_of_group(ranks, g, end);
  while (candidates > 0 && count < max_blocks && (everything || mass < top_p)) {
    const int64_t j = block_of(largest(best, groups));
    ranks[j] = 0;
    best[j / kRankGroup] = largest_of_group(ranks, j / kRankGroup, end);
    --candidates;
    kept[j] = 1;
    mass += arrays.share[j];
    ++count;
  }
}

}  // namespace edgesparse
