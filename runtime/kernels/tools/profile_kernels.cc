// Runs the operator without onnxruntime, one thread, and prints where the time went as one JSON line.
//
//   profile_kernels N HEADS HEAD_SIZE BLOCK_SIZE BLOCKS_KEPT float32|int8 REPEATS
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "attention/problem.h"

namespace {

using namespace edgesparse;

// Gives the same memory again, as onnxruntime's arena does: what is released last is handed out first.
struct Arena {
  std::vector<std::pair<size_t, void*>> free;
  std::map<void*, size_t> used;
};

const char* serial(void*, void (*task)(void*, size_t), size_t count, void* data) {
  for (size_t i = 0; i < count; ++i) task(data, i);
  return nullptr;
}

void* allocate(void* self, size_t bytes) {
  Arena& arena = *static_cast<Arena*>(self);
  for (auto block = arena.free.begin(); block != arena.free.end(); ++block)
    if (block->first == bytes) {
      void* const memory = block->second;
      arena.free.erase(block);
      arena.used[memory] = bytes;
      return memory;
    }
  void* const memory = std::malloc(bytes);
  if (memory) arena.used[memory] = bytes;
  return memory;
}

void release(void* self, void* memory) {
  Arena& arena = *static_cast<Arena*>(self);
  arena.free.push_back({arena.used[memory], memory});
  arena.used.erase(memory);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8) {
    std::fprintf(stderr,
                 "usage: profile_kernels N HEADS HEAD_SIZE BLOCK_SIZE BLOCKS_KEPT float32|int8 REPEATS\n");
    return 2;
  }
  const Table* const table = chosen_table();
  if (!table) return 1;
  const int64_t tokens = std::atoll(argv[1]), heads = std::atoll(argv[2]), size = std::atoll(argv[3]);
  Problem p{};
  p.batch = 1;
  p.query_tokens = p.key_tokens = tokens;
  p.heads = p.kv_heads = heads;
  p.head_size = p.value_size = size;
  p.block_size = std::atoll(argv[4]);
  p.max_blocks = std::atoll(argv[5]);
  p.int8 = std::strcmp(argv[6], "int8") == 0;
  const int repeats = std::atoi(argv[7]);
  p.scale = 1.0f / std::sqrt(static_cast<float>(size));
  p.summaries = true;

  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto fill = [&](int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& x : values) x = normal(random);
    return values;
  };
  const auto query = fill(tokens * heads * size), key = fill(tokens * heads * size),
             value = fill(tokens * heads * size), scores = fill(heads * p.query_blocks() * p.key_blocks());
  std::vector<float> output(query.size());
  std::vector<uint8_t> mask(static_cast<size_t>(tokens), 1);
  const float top_p = 1.0f;
  p.query = query.data();
  p.key = key.data();
  p.value = value.data();
  p.block_scores = scores.data();
  p.top_p = &top_p;
  p.key_mask = mask.data();
  p.output = output.data();

  Arena arena;
  const Host host{&arena, serial, allocate, release};
  std::vector<double> total, packing, summaries, selection, softmax;
  for (int i = 0; i < repeats + 1; ++i) {
    Timing timing;
    const auto start = std::chrono::steady_clock::now();
    if (const char* error = run(*table, p, host, i % 2 ? nullptr : &timing)) {
      std::fprintf(stderr, "%s\n", error);
      return 1;
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (i == 0) continue;
    if (i % 2) {
      total.push_back(seconds);
    } else {
      packing.push_back(timing.packing);
      summaries.push_back(timing.summaries);
      selection.push_back(timing.selection);
      softmax.push_back(timing.softmax);
    }
  }
  std::printf(
      "{\"isa\": \"%s\", \"seconds\": %.9f, \"packing\": %.9f, \"summaries\": %.9f, \"selection\": %.9f, "
      "\"softmax\": %.9f}\n",
      table->name, median(total), median(packing), median(summaries), median(selection), median(softmax));
  return 0;
}
