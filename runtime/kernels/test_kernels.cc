// The kernels' own test: the chosen table against the scalar one, without onnxruntime; for sanitizers and
// qemu.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "attention/problem.h"

namespace {

using namespace edgesparse;

const char* serial(void*, void (*task)(void*, size_t), size_t count, void* data) {
  for (size_t i = 0; i < count; ++i) task(data, i);
  return nullptr;
}
void* allocate(void*, size_t bytes) { return std::malloc(bytes); }
void release(void*, void* memory) { std::free(memory); }

struct Shape {
  int64_t n, m, heads, groups, d, v, block;
  bool causal;
};

// Runs both tables on buffers of the exact size, so that a sanitizer sees every step outside.
bool agree(const Shape& s, bool int8) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const auto fill = [&](int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& x : values) x = normal(random);
    return values;
  };
  Problem p{};
  p.batch = 2;
  p.query_tokens = s.n;
  p.key_tokens = s.m;
  p.heads = s.heads;
  p.kv_heads = s.groups;
  p.head_size = s.d;
  p.value_size = s.v;
  p.block_size = s.block;
  p.max_blocks = 3;
  p.scale = 0.3f;
  p.summaries = true;
  p.causal = s.causal;
  p.int8 = int8;
  const auto query = fill(2 * s.n * s.heads * s.d), key = fill(2 * s.m * s.groups * s.d),
             value = fill(2 * s.m * s.groups * s.v),
             scores = fill(2 * s.heads * p.query_blocks() * p.key_blocks());
  std::vector<uint8_t> mask(static_cast<size_t>(2 * s.m));
  for (uint8_t& x : mask) x = random() % 4 != 0;
  const float top_p = 0.8f;
  p.query = query.data();
  p.key = key.data();
  p.value = value.data();
  p.block_scores = scores.data();
  p.top_p = &top_p;
  p.key_mask = mask.data();
  std::vector<float> expected(static_cast<size_t>(2 * s.n * s.heads * s.v)), output(expected.size());
  const Host host{nullptr, serial, allocate, release};
  p.output = expected.data();
  if (run(*scalar_table(), p, host)) return false;
  p.output = output.data();
  if (run(*chosen_table(), p, host)) return false;
  if (int8) return std::memcmp(output.data(), expected.data(), output.size() * 4) == 0;
  for (size_t i = 0; i < output.size(); ++i)
    if (!(std::fabs(output[i] - expected[i]) <= 1e-5f + 1e-4f * std::fabs(expected[i]))) return false;
  return true;
}

}  // namespace

int main() {
  if (!chosen_table()) return std::puts("EDGESPARSE_ISA names nothing that this machine has"), 1;
  const Shape shapes[] = {{1, 1, 1, 1, 8, 8, 16, false},         {17, 17, 2, 1, 7, 5, 16, true},
                          {65, 63, 2, 2, 16, 24, 16, false},     {130, 130, 4, 2, 32, 32, 64, true},
                          {97, 131, 2, 2, 64, 48, 64, false},    {70, 70, 2, 1, 40, 112, 20, true},
                          {150, 150, 1, 1, 128, 128, 100, true}, {40, 0, 1, 1, 8, 8, 16, false}};
  int failed = 0;
  for (const Shape& s : shapes)
    for (const bool int8 : {false, true})
      if (!agree(s, int8)) {
        ++failed;
        std::printf("FAIL %s N %lld M %lld D %lld block %lld\n", int8 ? "int8" : "float32", (long long)s.n,
                    (long long)s.m, (long long)s.d, (long long)s.block);
      }
  std::printf("%s: %d of %zu failed\n", chosen_table()->name, failed, 2 * sizeof shapes / sizeof *shapes);
  return failed != 0;
}
