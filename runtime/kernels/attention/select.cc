#include "attention/select.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace edgesparse {
namespace {

// Orders by share, then by lower index: shares are not negative, so their bits order like themselves.
uint64_t rank_of(float share, int64_t block) {
  uint32_t bits;
  std::memcpy(&bits, &share, sizeof bits);
  return (uint64_t{bits} << 32) | (0xffffffffu - static_cast<uint32_t>(block));
}

int64_t block_of(uint64_t rank) { return 0xffffffffu - static_cast<uint32_t>(rank); }

// Softmax of the scores over the valid blocks. NaN counts as minus infinity, plus infinity as the
// largest float; where nothing is finite every share is 0.
void compute_shares(const float* scores, const int32_t* valid_tokens, int64_t blocks, float* share) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  float most = -kInfinity;
  for (int64_t j = 0; j < blocks; ++j) {
    float score = valid_tokens[j] > 0 && !std::isnan(scores[j]) ? scores[j] : -kInfinity;
    score = std::min(score, std::numeric_limits<float>::max());
    share[j] = score;
    most = std::max(most, score);
  }
  if (most == -kInfinity) {
    std::fill(share, share + blocks, 0.0f);
    return;
  }
  float total = 0.0f;
  for (int64_t j = 0; j < blocks; ++j) {
    share[j] = share[j] == -kInfinity ? 0.0f : std::exp(share[j] - most);
    total += share[j];
  }
  for (int64_t j = 0; j < blocks; ++j) share[j] /= total;
}

}  // namespace

void select_blocks(const float* scores, const int32_t* valid_tokens, int64_t key_blocks, int64_t i,
                   bool causal, int64_t window, float top_p, int64_t max_blocks,
                   const SelectionScratch& scratch, uint8_t* kept) {
  std::fill(kept, kept + key_blocks, uint8_t{0});
  const int64_t end = causal ? std::min(i + 1, key_blocks) : key_blocks;
  compute_shares(scores, valid_tokens, end, scratch.share);

  // `window` may be as large as an int64: compare distances, add nothing to it.
  float mass = 0.0f;
  int64_t count = 0, candidates = 0;
  for (int64_t j = 0; j < end; ++j) {
    if (valid_tokens[j] == 0) continue;
    const int64_t distance = i < j ? j - i : i - j;
    if (distance <= window) {
      kept[j] = 1;
      mass += scratch.share[j];
      ++count;
    } else {
      scratch.heap[candidates++] = rank_of(scratch.share[j], j);
    }
  }
  if (count >= max_blocks || std::isnan(top_p) || top_p <= 0.0f) return;
  const bool everything = top_p >= 1.0f;
  if (everything && candidates <= max_blocks - count) {
    for (int64_t c = 0; c < candidates; ++c) kept[block_of(scratch.heap[c])] = 1;
    return;
  }

  // Partial ordering: only the blocks that are kept leave the heap.
  uint64_t* const heap = scratch.heap;
  std::make_heap(heap, heap + candidates);
  while (candidates > 0 && count < max_blocks && (everything || mass < top_p)) {
    std::pop_heap(heap, heap + candidates);
    const int64_t j = block_of(heap[--candidates]);
    kept[j] = 1;
    mass += scratch.share[j];
    ++count;
  }
}

}  // namespace edgesparse
