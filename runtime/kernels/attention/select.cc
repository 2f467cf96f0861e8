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

typedef float F4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));

F4 load(const float* p) {
  F4 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
void store(float* p, F4 v) { std::memcpy(p, &v, sizeof v); }

// e^x for x <= 0, to 2e-7 of its value; exactly 0 from -88 down, minus infinity included.
F4 exp_nonpositive(F4 x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const F4 log2 = x * 1.44269504f;
  const F4 power = log2 > -127.0f ? log2 : F4{} - 127.0f;
  const F4 shifted = power + kMagic, whole = shifted - kMagic;
  // x - whole * ln 2, in two parts so that nothing is lost.
  const F4 kept = log2 > -127.0f ? x : F4{};
  const F4 left = log2 > -127.0f ? (kept - whole * 0.693359375f) + whole * 2.12194440e-4f : F4{};
  F4 p = left * (1.0f / 720.0f) + (1.0f / 120.0f);
  p = p * left + (1.0f / 24.0f);
  p = p * left + (1.0f / 6.0f);
  p = p * left + 0.5f;
  p = p * left + 1.0f;
  p = p * left + 1.0f;
  return (F4)((I4)p + ((I4)shifted << 23));
}

// Softmax of the scores over the valid blocks. NaN counts as minus infinity, plus infinity as the
// largest float; where nothing is finite every share is 0. `share` has room for four more than `blocks`.
void compute_shares(const float* scores, const int32_t* valid_tokens, int64_t blocks, float* share) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  float most = -kInfinity;
  for (int64_t j = 0; j < blocks; ++j) {
    // A comparison with NaN is false.
    const float score = scores[j] < kInfinity ? scores[j] : std::numeric_limits<float>::max();
    share[j] = (valid_tokens[j] > 0) & (scores[j] == scores[j]) ? score : -kInfinity;
    most = std::max(most, share[j]);
  }
  if (most == -kInfinity) {
    std::fill(share, share + blocks, 0.0f);
    return;
  }
  for (int64_t j = blocks; j % 4 != 0; ++j) share[j] = -kInfinity;
  F4 totals = {};
  for (int64_t j = 0; j < blocks; j += 4) {
    const F4 exponential = exp_nonpositive(load(share + j) - most);
    store(share + j, exponential);
    totals += exponential;
  }
  const float total = (totals[0] + totals[1]) + (totals[2] + totals[3]);
  for (int64_t j = 0; j < blocks; j += 4) store(share + j, load(share + j) / total);
}

}  // namespace

void select_blocks(const float* scores, const int32_t* valid_tokens, int64_t key_blocks, int64_t i,
                   bool causal, int64_t window, float top_p, int64_t max_blocks,
                   const SelectionScratch& scratch, uint8_t* kept) {
  std::fill(kept, kept + key_blocks, uint8_t{0});
  const int64_t end = causal ? std::min(i + 1, key_blocks) : key_blocks;
  compute_shares(scores, valid_tokens, end, scratch.share);

  // `window` may be as large as an int64: compare distances, add nothing to it.
  uint64_t* const ranks = scratch.ranks;
  float mass = 0.0f;
  int64_t count = 0, candidates = 0;
  for (int64_t j = 0; j < end; ++j) {
    ranks[j] = 0;
    if (valid_tokens[j] == 0) continue;
    const int64_t distance = i < j ? j - i : i - j;
    if (distance <= window) {
      kept[j] = 1;
      mass += scratch.share[j];
      ++count;
    } else {
      ranks[j] = rank_of(scratch.share[j], j);
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
  uint64_t* const best = scratch.best;
  for (int64_t g = 0; g < groups; ++g) best[g] = largest_of_group(ranks, g, end);
  while (candidates > 0 && count < max_blocks && (everything || mass < top_p)) {
    const int64_t j = block_of(largest(best, groups));
    ranks[j] = 0;
    best[j / kRankGroup] = largest_of_group(ranks, j / kRankGroup, end);
    --candidates;
    kept[j] = 1;
    mass += scratch.share[j];
    ++count;
  }
}

}  // namespace edgesparse
