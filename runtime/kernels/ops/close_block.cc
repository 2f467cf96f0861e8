// edgesparse::CloseBlock: a block of a stream is full; chooses what the tokens of the next one attend to, and
// lays it out for TokenStep.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention/select.h"
#include "isa/pooling.h"
#include "ops/custom_op.h"
#include "ops/operators.h"

namespace edgesparse {
namespace {

enum Input {
  kQuery,
  kKeys,
  kValues,
  kMeanKeys,
  kMeanValues,
  kRouteKeys,
  kTopP,
  kMaxBlocks,
  kQueryWeight,
  kKeyWeight
};

struct CloseBlock {
  static constexpr const char* kName = "CloseBlock";
  static constexpr InputRule kInputs[] = {
      {"query", ort::kFloat, 4, 4},        {"keys", ort::kFloat, 5, 5},
      {"values", ort::kFloat, 5, 5},       {"mean_keys", ort::kFloat, 4, 4},
      {"mean_values", ort::kFloat, 4, 4},  {"route_keys", ort::kFloat, 4, 4},
      {"top_p", ort::kFloat, 2, 2},        {"max_blocks", ort::kInt64, 1, 1},
      {"query_weight", ort::kFloat, 4, 4}, {"key_weight", ort::kFloat, 4, 4}};
  static constexpr ort::ElementType kOutputs[] = {ort::kFloat, ort::kFloat, ort::kFloat,
                                                  ort::kFloat, ort::kFloat, ort::kFloat};

  ort::Status* read_attributes(const Node& node) {
    EDGESPARSE_RETURN_IF(read_integer(node, "window", 0, kLargest, &window));
    return read_integer(node, "summaries", 0, 1, &summaries);
  }
  ort::Status* compute(const Call& call) const;

  int64_t window = 0, summaries = 0;
};

// L layers, H and G query and key heads, b tokens of a block, D head size, R width of a projection, n full
// blocks.
struct Work {
  const CloseBlock* kernel;
  const float *query, *keys, *values, *mean_keys, *mean_values, *route_keys, *query_weight, *key_weight,
      *top_p;
  int64_t max_blocks;
  float *past_key, *past_value, *past_bias, *mean_key, *mean_value, *route_key;
  uint8_t *real, *kept;  // [b]; [L, H, n + 1]
  float *pooled, *routed, *scores;
  int32_t* valid;
  SelectionArrays selection;
  int64_t layers, heads, groups, block, size, rank, blocks;

  int64_t entries() const { return layers * groups; }
  int64_t block_floats() const { return block * size; }
  const float* newest(const float* of) const { return of + (blocks - 1) * entries() * block_floats(); }
};

// Means of the block that is full, and what the router makes of its keys.
void summarize(const Work& w) {
  const Table& table = *chosen_table();
  for (int64_t i = 0; i < w.entries(); ++i) {
    float* const pooled = w.pooled;  // mean, largest, smallest of a head
    table.pool({w.newest(w.keys) + i * w.block_floats(), w.real, w.block, w.size, pooled, pooled + w.size,
                pooled + 2 * w.size});
    std::copy(pooled, pooled + w.size, w.mean_key + i * w.size);
    table.pool({w.newest(w.values) + i * w.block_floats(), w.real, w.block, w.size, w.mean_value + i * w.size,
                nullptr, nullptr});
    table.product({pooled, w.key_weight + i * 3 * w.size * w.rank, w.route_key + i * w.rank, 1, 3 * w.size,
                   w.rank, 3 * w.size, w.rank, w.rank});
  }
}

// Marks in `kept` the blocks that a head of a layer keeps, the coming block among them; how many lie before
// it.
int64_t select(const Work& w, int64_t l, int64_t h) {
  const Table& table = *chosen_table();
  const int64_t i = l * w.heads + h, g = h / (w.heads / w.groups), entry = l * w.groups + g, n = w.blocks;
  table.pool({w.query + i * w.block_floats(), w.real, w.block, w.size, w.pooled, nullptr, nullptr});
  table.product(
      {w.pooled, w.query_weight + i * w.size * w.rank, w.routed, 1, w.size, w.rank, w.size, w.rank, w.rank});
  for (int64_t j = 0; j < n; ++j) {
    const float* const key =
        j + 1 < n ? w.route_keys + (j * w.entries() + entry) * w.rank : w.route_key + entry * w.rank;
    float score = 0.0f;
    for (int64_t r = 0; r < w.rank; ++r) score += w.routed[r] * key[r];
    w.scores[j] = score;
  }
  // The coming block is its own window, and has no share.
  w.scores[n] = -HUGE_VALF;
  uint8_t* const kept = w.kept + i * (n + 1);
  select_blocks(table, w.scores, w.valid, n + 1, n, true, w.kernel->window, w.top_p[i], w.max_blocks,
                w.selection, kept);
  return std::count(kept, kept + n, uint8_t{1});
}

// What a head attends to: its kept blocks, room up to `slots` of them, and a summary of each dropped block.
void lay_out(const Work& w, int64_t l, int64_t h, int64_t slots, int64_t tokens) {
  const int64_t i = l * w.heads + h, entry = l * w.groups + h / (w.heads / w.groups), n = w.blocks;
  const uint8_t* const kept = w.kept + i * (n + 1);
  float *key = w.past_key + i * tokens * w.size, *value = w.past_value + i * tokens * w.size,
        *bias = w.past_bias + i * tokens;
  std::fill(bias, bias + tokens, -HUGE_VALF);
  int64_t slot = 0;
  for (int64_t j = 0; j < n; ++j) {
    if (!kept[j]) continue;
    const int64_t from = (j * w.entries() + entry) * w.block_floats(), to = slot * w.block_floats();
    std::copy(w.keys + from, w.keys + from + w.block_floats(), key + to);
    std::copy(w.values + from, w.values + from + w.block_floats(), value + to);
    std::fill(bias + slot * w.block, bias + (slot + 1) * w.block, 0.0f);
    ++slot;
  }
  std::fill(key + slot * w.block_floats(), key + slots * w.block_floats(), 0.0f);
  std::fill(value + slot * w.block_floats(), value + slots * w.block_floats(), 0.0f);
  if (!w.kernel->summaries) return;
  const float weight = std::log(static_cast<float>(w.block));
  for (int64_t j = 0; j < n; ++j) {
    const int64_t to = slots * w.block + j;
    const bool is_newest = j + 1 == n;
    const int64_t from = ((is_newest ? 0 : j) * w.entries() + entry) * w.size;
    const float* const mean_key = (is_newest ? w.mean_key : w.mean_keys) + from;
    const float* const mean_value = (is_newest ? w.mean_value : w.mean_values) + from;
    std::copy(mean_key, mean_key + w.size, key + to * w.size);
    std::copy(mean_value, mean_value + w.size, value + to * w.size);
    if (!kept[j]) bias[to] = weight;
  }
}

ort::Status* check(const CloseBlock& kernel, const Call& call, Work& w) {
  const Tensor* const in = call.in;
  w.kernel = &kernel;
  w.layers = in[kQuery].shape[0];
  w.heads = in[kQuery].shape[1];
  w.block = in[kQuery].shape[2];
  w.size = in[kQuery].shape[3];
  w.blocks = in[kKeys].shape[0];
  w.groups = in[kKeys].shape[2];
  w.rank = in[kQueryWeight].shape[3];
  for (const int64_t size : {w.layers, w.heads, w.block, w.size, w.blocks, w.groups})
    if (size < 1) return refuse(call.ort, "Inputs `query` and `keys` must have no axis of 0; got one.");
  if (w.heads % w.groups != 0)
    return refuse(call.ort, "The heads of `keys` must divide those of `query`; got %lld and %lld.",
                  (long long)w.groups, (long long)w.heads);
  const struct {
    int index;
    int64_t shape[5];
  } wanted[] = {{kKeys, {w.blocks, w.layers, w.groups, w.block, w.size}},
                {kValues, {w.blocks, w.layers, w.groups, w.block, w.size}},
                {kMeanKeys, {w.blocks - 1, w.layers, w.groups, w.size}},
                {kMeanValues, {w.blocks - 1, w.layers, w.groups, w.size}},
                {kRouteKeys, {w.blocks - 1, w.layers, w.groups, w.rank}},
                {kQueryWeight, {w.layers, w.heads, w.size, w.rank}},
                {kKeyWeight, {w.layers, w.groups, 3 * w.size, w.rank}},
                {kTopP, {w.layers, w.heads}},
                {kMaxBlocks, {1}}};
  for (const auto& [index, shape] : wanted)
    for (size_t axis = 0; axis < in[index].rank; ++axis)
      if (in[index].shape[axis] != shape[axis])
        return refuse(call.ort, "Input `%s` must have %lld along axis %zu; got %lld.",
                      CloseBlock::kInputs[index].name, (long long)shape[axis], axis,
                      (long long)in[index].shape[axis]);
  const struct {
    int index;
    const float** to;
  } read[] = {{kQuery, &w.query},
              {kKeys, &w.keys},
              {kValues, &w.values},
              {kMeanKeys, &w.mean_keys},
              {kMeanValues, &w.mean_values},
              {kRouteKeys, &w.route_keys},
              {kTopP, &w.top_p},
              {kQueryWeight, &w.query_weight},
              {kKeyWeight, &w.key_weight}};
  for (const auto& [index, to] : read) *to = in[index].as<float>();
  w.max_blocks = *in[kMaxBlocks].as<int64_t>();
  return nullptr;
}

ort::Status* CloseBlock::compute(const Call& call) const {
  Work w{};
  EDGESPARSE_RETURN_IF(check(*this, call, w));
  const int64_t means[] = {w.layers, w.groups, w.size}, routes[] = {w.layers, w.groups, w.rank};
  EDGESPARSE_RETURN_IF(call.output(3, means, 3, &w.mean_key));
  EDGESPARSE_RETURN_IF(call.output(4, means, 3, &w.mean_value));
  EDGESPARSE_RETURN_IF(call.output(5, routes, 3, &w.route_key));
  Scratch scratch(call.host);
  scratch.add(&w.real, {w.block});
  scratch.add(&w.kept, {w.layers, w.heads, w.blocks + 1});
  scratch.add(&w.pooled, {3, w.size});
  scratch.add(&w.routed, {w.rank});
  scratch.add(&w.scores, {w.blocks + 1});
  scratch.add(&w.valid, {w.blocks + 1});
  scratch.add(&w.selection.share, {round_up(w.blocks + 1, kShareLanes)});
  scratch.add(&w.selection.ranks, {w.blocks + 1});
  scratch.add(&w.selection.best, {(w.blocks + kRankGroup) / kRankGroup});
  if (!scratch.take()) return call.out_of_memory();
  std::fill(w.real, w.real + w.block, uint8_t{1});
  std::fill(w.valid, w.valid + w.blocks + 1, 1);
  summarize(w);
  int64_t slots = 1;
  for (int64_t l = 0; l < w.layers; ++l)
    for (int64_t h = 0; h < w.heads; ++h) slots = std::max(slots, select(w, l, h));
  const int64_t tokens = slots * w.block + (summaries ? w.blocks : 0);
  const int64_t past[] = {w.layers, w.heads, tokens, w.size}, biases[] = {w.layers, w.heads, 1, tokens};
  EDGESPARSE_RETURN_IF(call.output(0, past, 4, &w.past_key));
  EDGESPARSE_RETURN_IF(call.output(1, past, 4, &w.past_value));
  EDGESPARSE_RETURN_IF(call.output(2, biases, 4, &w.past_bias));
  for (int64_t l = 0; l < w.layers; ++l)
    for (int64_t h = 0; h < w.heads; ++h) lay_out(w, l, h, slots, tokens);
  return nullptr;
}

}  // namespace

const ort::CustomOp* close_block_op() { return custom_op<CloseBlock>(); }

}  // namespace edgesparse
