// edgesparse::BlockScores: the router. Pools blocks of queries and keys in one pass each, projects them and
// scores every query block for every key block.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "isa/pooling.h"
#include "isa/table.h"
#include "ops/custom_op.h"
#include "ops/operators.h"

namespace edgesparse {
namespace {

enum Input { kQuery, kKey, kQueryWeight, kKeyWeight, kKeyMask };

struct BlockScores {
  static constexpr const char* kName = "BlockScores";
  static constexpr InputRule kInputs[] = {{"query", ort::kFloat, 3, 3},
                                          {"key", ort::kFloat, 3, 3},
                                          {"query_weight", ort::kFloat, 3, 3},
                                          {"key_weight", ort::kFloat, 3, 3},
                                          {"key_mask", ort::kBool, 2, 2}};
  static constexpr ort::ElementType kOutputs[] = {ort::kFloat};

  ort::Status* read_attributes(const Node& node);
  ort::Status* compute(const Call& call) const;

  int64_t num_heads = 0, kv_num_heads = 0, block_size = 0, is_causal = 0;
};

ort::Status* BlockScores::read_attributes(const Node& node) {
  EDGESPARSE_RETURN_IF(read_heads(node, &num_heads, &kv_num_heads));
  EDGESPARSE_RETURN_IF(read_integer(node, "block_size", 1, kLargest, &block_size));
  return read_integer(node, "is_causal", 0, 1, &is_causal);
}

// B batch, N tokens, H and G query and key heads, D head size, R width of a projection, K blocks.
struct Work {
  const BlockScores* kernel;
  const float *query, *key, *query_weight, *key_weight;
  const uint8_t* mask;
  float* scores;      // [B, H, K, K]
  float* query_pool;  // [B, K, H*D]
  float* key_pool;    // [B, K, 3, G*D]: mean, largest, smallest
  float* rooms;       // [B, H] of room_floats
  int64_t batch, tokens, heads, groups, size, rank, blocks, room_floats;

  int64_t query_width() const { return heads * size; }
  int64_t key_width() const { return groups * size; }
};

ort::Status* check(const BlockScores& kernel, const Call& call, Work& work) {
  const ort::Functions& ort = call.ort;
  const Tensor* const in = call.in;
  const int64_t *query = in[kQuery].shape, *key = in[kKey].shape;
  work.batch = query[0];
  work.tokens = query[1];
  work.heads = kernel.num_heads;
  work.groups = kernel.kv_num_heads;
  work.size = query[2] / work.heads;
  work.rank = in[kQueryWeight].shape[2];
  work.blocks = (work.tokens + kernel.block_size - 1) / kernel.block_size;
  if (query[2] != work.query_width() || query[2] == 0)
    return refuse(ort, "Input `query` must have a last axis that is a multiple of its %lld heads; got %lld.",
                  (long long)work.heads, (long long)query[2]);
  if (key[0] != query[0] || key[1] != query[1] || key[2] != work.key_width())
    return refuse(ort, "Input `key` must have shape [%lld, %lld, %lld]; got [%lld, %lld, %lld].",
                  (long long)query[0], (long long)query[1], (long long)work.key_width(), (long long)key[0],
                  (long long)key[1], (long long)key[2]);
  if (in[kKeyMask].shape[0] != query[0] || in[kKeyMask].shape[1] != query[1])
    return refuse(ort, "Input `key_mask` must have shape [%lld, %lld]; got [%lld, %lld].",
                  (long long)query[0], (long long)query[1], (long long)in[kKeyMask].shape[0],
                  (long long)in[kKeyMask].shape[1]);
  const struct {
    int index;
    int64_t heads, depth;
  } weights[] = {{kQueryWeight, work.heads, work.size}, {kKeyWeight, work.groups, 3 * work.size}};
  for (const auto& w : weights) {
    const int64_t* shape = in[w.index].shape;
    if (shape[0] != w.heads || shape[1] != w.depth || shape[2] != work.rank)
      return refuse(ort, "Input `%s` must have shape [%lld, %lld, %lld]; got [%lld, %lld, %lld].",
                    BlockScores::kInputs[w.index].name, (long long)w.heads, (long long)w.depth,
                    (long long)work.rank, (long long)shape[0], (long long)shape[1], (long long)shape[2]);
  }
  work.query = in[kQuery].as<float>();
  work.key = in[kKey].as<float>();
  work.query_weight = in[kQueryWeight].as<float>();
  work.key_weight = in[kKeyWeight].as<float>();
  work.mask = in[kKeyMask].as<uint8_t>();
  return nullptr;
}

// One block of one entry of the batch.
void pool_piece(void* data, size_t index) {
  const Work& work = *static_cast<Work*>(data);
  const int64_t i = static_cast<int64_t>(index), b = i / work.blocks;
  const int64_t first = b * work.tokens + i % work.blocks * work.kernel->block_size;
  const int64_t left = (b + 1) * work.tokens - first;
  PoolJob job{};
  job.tokens = std::min(work.kernel->block_size, left);
  job.real = work.mask + first;
  job.rows = work.query + first * work.query_width();
  job.width = work.query_width();
  job.mean = work.query_pool + i * work.query_width();
  chosen_table()->pool(job);
  job.rows = work.key + first * work.key_width();
  job.width = work.key_width();
  job.mean = work.key_pool + i * 3 * work.key_width();
  job.largest = job.mean + work.key_width();
  job.smallest = job.largest + work.key_width();
  chosen_table()->pool(job);
}

// One head of one entry of the batch.
void score_piece(void* data, size_t index) {
  const Work& work = *static_cast<Work*>(data);
  const Table& table = *chosen_table();
  const int64_t i = static_cast<int64_t>(index), b = i / work.heads, h = i % work.heads;
  const int64_t g = h / (work.heads / work.groups), blocks = work.blocks, size = work.size, rank = work.rank;
  float* const query = work.rooms + i * work.room_floats;  // [K, R]
  float* const key = query + blocks * rank;                // [K, R]
  float* const turned = key + blocks * rank;               // [R, K]
  float* const pooled = turned + blocks * rank;            // [K, 3*D]: this head's mean, largest, smallest
  for (int64_t j = 0; j < blocks; ++j)
    for (int64_t part = 0; part < 3; ++part)
      std::memcpy(pooled + (j * 3 + part) * size,
                  work.key_pool + ((b * blocks + j) * 3 + part) * work.key_width() + g * size,
                  static_cast<size_t>(size) * sizeof(float));
  table.product({work.query_pool + b * blocks * work.query_width() + h * size,
                 work.query_weight + h * size * rank, query, blocks, size, rank, work.query_width(), rank,
                 rank});
  table.product(
      {pooled, work.key_weight + g * 3 * size * rank, key, blocks, 3 * size, rank, 3 * size, rank, rank});
  for (int64_t j = 0; j < blocks; ++j)
    for (int64_t r = 0; r < rank; ++r) turned[r * blocks + j] = key[j * rank + r];
  float* const scores = work.scores + i * blocks * blocks;
  if (!work.kernel->is_causal) {
    table.product({query, turned, scores, blocks, rank, blocks, rank, blocks, blocks});
    return;
  }
  // A query block is scored by the block before it, the first by nothing; the diagonal block gets minus
  // infinity.
  std::fill(scores, scores + blocks, 0.0f);
  if (blocks > 1)
    table.product({query, turned, scores + blocks, blocks - 1, rank, blocks, rank, blocks, blocks});
  for (int64_t j = 0; j < blocks; ++j) scores[j * blocks + j] = -HUGE_VALF;
}

ort::Status* BlockScores::compute(const Call& call) const {
  Work work{};
  work.kernel = this;
  EDGESPARSE_RETURN_IF(check(*this, call, work));
  const int64_t shape[] = {work.batch, work.heads, work.blocks, work.blocks};
  EDGESPARSE_RETURN_IF(call.output(0, shape, 4, &work.scores));
  const int64_t pools = work.batch * work.blocks;
  if (pools == 0) return nullptr;
  work.room_floats = work.blocks * (3 * work.rank + 3 * work.size);
  Scratch scratch(call.host);
  scratch.add(&work.query_pool, {pools, work.query_width()});
  scratch.add(&work.key_pool, {pools, 3, work.key_width()});
  scratch.add(&work.rooms, {work.batch, work.heads, work.room_floats});
  if (!scratch.take()) return call.out_of_memory();
  EDGESPARSE_RETURN_IF(call.run(pool_piece, pools, &work));
  return call.run(score_piece, work.batch * work.heads, &work);
}

}  // namespace

const ort::CustomOp* block_scores_op() { return custom_op<BlockScores>(); }

}  // namespace edgesparse
