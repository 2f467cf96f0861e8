// edgesparse::SampledScores: the router that asks. What a few queries of each block attend to, and what the
// means of its parts attend to, summed over the keys of each block; no matrix of weights is held.
//
// Shape legend: B batch, N tokens, H and G query and key/value heads, D head size, K blocks.
#include <algorithm>
#include <atomic>
#include <cmath>

#include "attention/problem.h"
#include "isa/mass.h"
#include "isa/pooling.h"
#include "ops/custom_op.h"
#include "ops/operators.h"

namespace edgesparse {
namespace {

enum Input { kQuery, kKey, kKeyMask };

// Of a block: more would take a hostile file's one token hours.
constexpr int64_t kMostQueries = 4096;
// Tokens of a part, what its squared mass counts beside that of the samples, and the mass below which a block
// has none.
constexpr int64_t kPartTokens = 8;
constexpr float kPartWeight = 0.5f, kLeastMass = 1e-30f;

struct SampledScores {
  static constexpr const char* kName = "SampledScores";
  static constexpr InputRule kInputs[] = {
      {"query", ort::kFloat, 3, 3}, {"key", ort::kFloat, 3, 3}, {"key_mask", ort::kBool, 2, 2}};
  static constexpr ort::ElementType kOutputs[] = {ort::kFloat};

  ort::Status* read_attributes(const Node& node);
  ort::Status* compute(const Call& call) const;

  int64_t num_heads = 0, kv_num_heads = 0, block_size = 0, queries = 0, is_causal = 0;
  float scale = 0.0f;
};

ort::Status* SampledScores::read_attributes(const Node& node) {
  EDGESPARSE_RETURN_IF(read_heads(node, &num_heads, &kv_num_heads));
  EDGESPARSE_RETURN_IF(read_integer(node, "block_size", 1, kLargest, &block_size));
  EDGESPARSE_RETURN_IF(read_integer(node, "queries", 1, std::min(block_size, kMostQueries), &queries));
  EDGESPARSE_RETURN_IF(read_integer(node, "is_causal", 0, 1, &is_causal));
  EDGESPARSE_RETURN_IF(node.ort.KernelInfoGetAttribute_float(node.info, "scale", &scale));
  if (!std::isfinite(scale)) return refuse(node.ort, "`scale` must be finite; got %g.", scale);
  return nullptr;
}

// Rows of keys of one kind, tokens or means of parts, in blocks of `block` of them, and the rows of queries
// that ask them.
struct Rows {
  const float *query, *key;  // [B, rows, H*D] and [B, rows, G*D]
  const uint8_t* real;       // [B, rows]
  int64_t rows, block;
  float* panels;  // [B, G, K, panels of a block] of [D][16]
  float* bias;    // [B, K, panels of a block, 16]
  int64_t panels_per_block() const { return (block + kPanelKeys - 1) / kPanelKeys; }
  int64_t block_rows(int64_t j) const { return std::min(block, rows - j * block); }
};

struct Work {
  const SampledScores* kernel;
  const Host* host;
  Rows tokens, parts;
  float *query_means, *key_means;  // [B, P, H*D] and [B, P, G*D]
  uint8_t* part_real;              // [B, P]
  int64_t* last_real;              // [B]
  float* scores;                   // [B, H, K, K]; the squares of the mass until all are there
  int64_t batch, heads, groups, size, blocks, part;
  int64_t blocks_per_item;
  std::atomic<bool> out_of_memory{false};

  int64_t items() const { return batch * heads * ((blocks + blocks_per_item - 1) / blocks_per_item); }
};

ort::Status* check(const SampledScores& kernel, const Call& call, Work& work) {
  const ort::Functions& ort = call.ort;
  const Tensor* const in = call.in;
  const int64_t *query = in[kQuery].shape, *key = in[kKey].shape, *mask = in[kKeyMask].shape;
  work.batch = query[0];
  work.heads = kernel.num_heads;
  work.groups = kernel.kv_num_heads;
  work.size = query[2] / work.heads;
  if (query[2] == 0 || query[2] != work.heads * work.size)
    return refuse(ort, "Input `query` must have a last axis that is a multiple of its %lld heads; got %lld.",
                  (long long)work.heads, (long long)query[2]);
  if (key[0] != query[0] || key[1] != query[1] || key[2] != work.groups * work.size)
    return refuse(ort, "Input `key` must have shape [%lld, %lld, %lld]; got [%lld, %lld, %lld].",
                  (long long)query[0], (long long)query[1], (long long)(work.groups * work.size),
                  (long long)key[0], (long long)key[1], (long long)key[2]);
  if (mask[0] != query[0] || mask[1] != query[1])
    return refuse(ort, "Input `key_mask` must have shape [%lld, %lld]; got [%lld, %lld].",
                  (long long)query[0], (long long)query[1], (long long)mask[0], (long long)mask[1]);
  // The greatest common divisor of the two.
  work.part = kPartTokens;
  while (kernel.block_size % work.part != 0) work.part /= 2;
  work.blocks = (query[1] + kernel.block_size - 1) / kernel.block_size;
  const int64_t length = query[1], part_count = (length + work.part - 1) / work.part;
  // A block longer than the input is as long as the input, in memory.
  work.tokens = {in[kQuery].as<float>(),
                 in[kKey].as<float>(),
                 in[kKeyMask].as<uint8_t>(),
                 length,
                 std::min(kernel.block_size, std::max<int64_t>(1, length)),
                 nullptr,
                 nullptr};
  work.parts = {nullptr,
                nullptr,
                nullptr,
                part_count,
                std::min(kernel.block_size / work.part, std::max<int64_t>(1, part_count)),
                nullptr,
                nullptr};
  return nullptr;
}

void plan(const Work& work, Rows& rows, Scratch& scratch) {
  scratch.add(&rows.panels,
              {work.batch, work.groups, work.blocks, rows.panels_per_block(), kPanelKeys * work.size});
  scratch.add(&rows.bias, {work.batch, work.blocks, rows.panels_per_block(), kPanelKeys});
}

// The means of one part of one entry of the batch.
void pool_item(void* data, size_t index) {
  const Work& work = *static_cast<Work*>(data);
  const int64_t i = static_cast<int64_t>(index), b = i / work.parts.rows, length = work.tokens.rows;
  const int64_t first = i % work.parts.rows * work.part, token = b * length + first;
  PoolJob job{};
  job.tokens = std::min(work.part, length - first);
  job.real = work.tokens.real + token;
  job.width = work.heads * work.size;
  job.rows = work.tokens.query + token * job.width;
  job.mean = work.query_means + i * job.width;
  chosen_table()->pool(job);
  job.width = work.groups * work.size;
  job.rows = work.tokens.key + token * job.width;
  job.mean = work.key_means + i * job.width;
  chosen_table()->pool(job);
  work.part_real[i] = std::any_of(job.real, job.real + job.tokens, [](uint8_t real) { return real != 0; });
}

// Packs the keys of one block of one entry of the batch, all heads.
void pack_rows(const Work& work, const Rows& rows, int64_t b, int64_t j) {
  const int64_t panels = rows.panels_per_block(), width = work.groups * work.size, count = rows.block_rows(j);
  const int64_t first = b * rows.rows + j * rows.block;
  for (int64_t part = 0; part < panels; ++part) {
    const float* keys[kPanelKeys];
    float* const bias = rows.bias + ((b * work.blocks + j) * panels + part) * kPanelKeys;
    for (int64_t g = 0; g < work.groups; ++g) {
      for (int64_t lane = 0; lane < kPanelKeys; ++lane) {
        const int64_t row = part * kPanelKeys + lane;
        const bool there = row < count && rows.real[first + row];
        keys[lane] = there ? rows.key + (first + row) * width + g * work.size : nullptr;
        bias[lane] = there ? 0.0f : -HUGE_VALF;
      }
      float* const panel =
          rows.panels + (((b * work.groups + g) * work.blocks + j) * panels + part) * kPanelKeys * work.size;
      chosen_table()->pack_keys(keys, work.size, panel);
    }
  }
}

void pack_item(void* data, size_t index) {
  const Work& work = *static_cast<Work*>(data);
  const int64_t b = static_cast<int64_t>(index) / work.blocks, j = static_cast<int64_t>(index) % work.blocks;
  pack_rows(work, work.tokens, b, j);
  pack_rows(work, work.parts, b, j);
}

// Up to kRows queries that ask, all of one head, with ascending places.
struct Asked {
  float* query;  // [kRows, D], times the scale
  float* mass;   // [K, kRows]
  float* scratch;
  Panel* panels;            // of every block
  int32_t last_key[kRows];  // what each may see
  int64_t block[kRows];     // that each speaks for
  float weight[kRows];      // of its squared mass
  int64_t count;
};

// The panels of every block for one entry of the batch and one key/value head.
void list_panels(const Work& work, const Rows& rows, Panel* panels, int64_t b, int64_t g) {
  const int64_t per_block = rows.panels_per_block();
  for (int64_t j = 0; j < work.blocks; ++j)
    for (int64_t part = 0; part < per_block; ++part) {
      Panel& panel = panels[j * per_block + part];
      panel = {};
      panel.keys = rows.panels +
                   (((b * work.groups + g) * work.blocks + j) * per_block + part) * kPanelKeys * work.size;
      panel.bias = rows.bias + ((b * work.blocks + j) * per_block + part) * kPanelKeys;
      panel.lanes = std::min<int64_t>(kPanelKeys, rows.block_rows(j) - part * kPanelKeys);
      panel.token = static_cast<int32_t>(j * rows.block + part * kPanelKeys);
    }
}

// Takes up row `row` of the queries, which stands at `place` and speaks for block i.
void ask(const Work& work, const Rows& rows, Asked& asked, int64_t b, int64_t h, int64_t row, int64_t place,
         int64_t i, float weight) {
  const float scale = work.kernel->scale * 1.44269504088896341f;
  const float* const from = rows.query + (b * rows.rows + row) * work.heads * work.size + h * work.size;
  const int64_t r = asked.count++;
  for (int64_t d = 0; d < work.size; ++d) asked.query[r * work.size + d] = from[d] * scale;
  asked.last_key[r] = static_cast<int32_t>(work.kernel->is_causal ? place : rows.rows - 1);
  asked.block[r] = i;
  asked.weight[r] = weight;
}

// Adds the squared mass of the queries to the blocks that they speak for.
void add_squares(const Work& work, const Rows& rows, Asked& asked, int64_t b, int64_t h) {
  if (asked.count == 0) return;
  MassJob job{};
  job.query = asked.query;
  job.rows = asked.count;
  job.head_size = work.size;
  job.panels = asked.panels;
  job.blocks = std::min(work.blocks, asked.last_key[asked.count - 1] / rows.block + 1);
  job.panels_per_block = rows.panels_per_block();
  job.block_keys = rows.block;
  job.last_key = asked.last_key;
  job.mass = asked.mass;
  job.scratch = asked.scratch;
  chosen_table()->mass(job);
  for (int64_t r = 0; r < asked.count; ++r) {
    float* const squares = work.scores + ((b * work.heads + h) * work.blocks + asked.block[r]) * work.blocks;
    for (int64_t j = 0; j < job.blocks; ++j) {
      const float mass = asked.mass[j * kRows + r];
      squares[j] += mass * mass * asked.weight[r];
    }
  }
  asked.count = 0;
}

// The tokens that speak for blocks first to end: those of each block that are real.
void ask_tokens(const Work& work, Asked& asked, int64_t b, int64_t h, int64_t first, int64_t end) {
  const int64_t queries = work.kernel->queries, block = work.kernel->block_size;
  const uint8_t* const real = work.tokens.real + b * work.tokens.rows;
  // A last block that is short is asked at its last token, padding at the end at the last real one.
  const auto place = [&](int64_t i, int64_t s) {
    return std::min(work.tokens.rows - 1, i * block + (s + 1) * block / queries - 1);
  };
  const auto token = [&](int64_t at) { return std::min(at, work.last_real[b]); };
  for (int64_t i = first; i < end; ++i) {
    int64_t count = 0;
    for (int64_t s = 0; s < queries; ++s) count += real[token(place(i, s))] != 0;
    for (int64_t s = 0; s < queries; ++s) {
      const int64_t at = place(i, s);
      if (!real[token(at)]) continue;
      ask(work, work.tokens, asked, b, h, token(at), at, i, 1.0f / static_cast<float>(count));
      if (asked.count == kRows) add_squares(work, work.tokens, asked, b, h);
    }
  }
  add_squares(work, work.tokens, asked, b, h);
}

// The means that speak for blocks first to end.
void ask_parts(const Work& work, Asked& asked, int64_t b, int64_t h, int64_t first, int64_t end) {
  const uint8_t* const real = work.part_real + b * work.parts.rows;
  for (int64_t i = first; i < end; ++i) {
    const int64_t from = i * work.parts.block, to = from + work.parts.block_rows(i);
    const int64_t count = std::count_if(real + from, real + to, [](uint8_t x) { return x != 0; });
    for (int64_t p = from; p < to; ++p) {
      if (!real[p]) continue;
      ask(work, work.parts, asked, b, h, p, p, i, kPartWeight / static_cast<float>(count));
      if (asked.count == kRows) add_squares(work, work.parts, asked, b, h);
    }
  }
  add_squares(work, work.parts, asked, b, h);
}

// A run of query blocks of one head.
void score_item(void* data, size_t index) {
  Work& work = *static_cast<Work*>(data);
  const int64_t runs = (work.blocks + work.blocks_per_item - 1) / work.blocks_per_item;
  const int64_t i = static_cast<int64_t>(index), b = i / (work.heads * runs), h = i / runs % work.heads;
  const int64_t first = i % runs * work.blocks_per_item,
                end = std::min(work.blocks, first + work.blocks_per_item);
  Scratch scratch(*work.host);
  Asked asked;
  asked.count = 0;
  scratch.add(&asked.query, {kRows, work.size});
  scratch.add(&asked.mass, {work.blocks, kRows});
  scratch.add(&asked.scratch, {mass_scratch(work.blocks)});
  scratch.add(&asked.panels,
              {work.blocks, std::max(work.tokens.panels_per_block(), work.parts.panels_per_block())});
  if (!scratch.take()) {
    work.out_of_memory = true;
    return;
  }
  float* const scores = work.scores + ((b * work.heads + h) * work.blocks + first) * work.blocks;
  const int64_t count = (end - first) * work.blocks;
  std::fill(scores, scores + count, 0.0f);
  const int64_t g = h / (work.heads / work.groups);
  list_panels(work, work.tokens, asked.panels, b, g);
  ask_tokens(work, asked, b, h, first, end);
  list_panels(work, work.parts, asked.panels, b, g);
  ask_parts(work, asked, b, h, first, end);
  for (int64_t k = 0; k < count; ++k) {
    const float mass = std::sqrt(scores[k]);
    // NaN stays.
    scores[k] = std::log(mass < kLeastMass ? kLeastMass : mass);
  }
  for (int64_t j = first; work.kernel->is_causal && j < end; ++j)
    scores[(j - first) * work.blocks + j] = -HUGE_VALF;
}

ort::Status* SampledScores::compute(const Call& call) const {
  Work work{};
  work.kernel = this;
  work.host = &call.host;
  EDGESPARSE_RETURN_IF(check(*this, call, work));
  const int64_t shape[] = {work.batch, work.heads, work.blocks, work.blocks};
  EDGESPARSE_RETURN_IF(call.output(0, shape, 4, &work.scores));
  const int64_t pools = work.batch * work.parts.rows;
  if (pools == 0) return nullptr;
  work.blocks_per_item = std::max<int64_t>(1, kRows / std::max(queries, work.parts.block));
  Scratch scratch(call.host);
  plan(work, work.tokens, scratch);
  plan(work, work.parts, scratch);
  scratch.add(&work.query_means, {pools, work.heads * work.size});
  scratch.add(&work.key_means, {pools, work.groups * work.size});
  scratch.add(&work.part_real, {pools});
  scratch.add(&work.last_real, {work.batch});
  if (!scratch.take()) return call.out_of_memory();
  work.parts.query = work.query_means;
  work.parts.key = work.key_means;
  work.parts.real = work.part_real;
  for (int64_t b = 0; b < work.batch; ++b) {
    const uint8_t* const real = work.tokens.real + b * work.tokens.rows;
    work.last_real[b] = work.tokens.rows - 1;
    while (work.last_real[b] > 0 && !real[work.last_real[b]]) --work.last_real[b];
  }
  EDGESPARSE_RETURN_IF(call.run(pool_item, pools, &work));
  EDGESPARSE_RETURN_IF(call.run(pack_item, work.batch * work.blocks, &work));
  EDGESPARSE_RETURN_IF(call.run(score_item, work.items(), &work));
  return work.out_of_memory ? call.out_of_memory() : nullptr;
}

}  // namespace

const ort::CustomOp* sampled_scores_op() { return custom_op<SampledScores>(); }

}  // namespace edgesparse
