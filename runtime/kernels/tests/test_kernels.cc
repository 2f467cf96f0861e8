// The kernels' own test: the chosen table against the scalar one, without onnxruntime; for sanitizers and
// qemu. `test_kernels --tables` prints the names that EDGESPARSE_ISA may take here.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "attention/problem.h"

int test_layers(int* ran);  // test_layers.cc

namespace {

using namespace edgesparse;

const char* serial(void*, void (*task)(void*, size_t), size_t count, void* data) {
  for (size_t i = 0; i < count; ++i) task(data, i);
  return nullptr;
}
// Two threads that share the tasks, so that they write side by side.
const char* threaded(void*, void (*task)(void*, size_t), size_t count, void* data) {
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next++; i < count; i = next++) task(data, i);
  };
  std::thread other(work);
  work();
  other.join();
  return nullptr;
}
void* allocate(void*, size_t bytes) { return std::malloc(bytes); }
void release(void*, void* memory) { std::free(memory); }

// What a case puts in place of random numbers.
enum class Input { kRandom, kAllMasked, kTies, kInfinite, kNan };
constexpr const char* kInputNames[] = {"random", "all masked", "ties", "infinite", "NaN"};

struct Case {
  int64_t n, m, heads, groups, d, v, block;
  bool causal;
  Input input;
  int64_t offset;  // floats by which every buffer starts off the allocator's alignment
};

// Ends where its memory ends, so that a sanitizer sees every step outside.
class Buffer {
 public:
  Buffer(int64_t count, int64_t offset) : memory_(static_cast<size_t>(count + offset)), offset_(offset) {}
  float* data() { return memory_.data() + offset_; }
  size_t size() const { return memory_.size() - static_cast<size_t>(offset_); }

 private:
  std::vector<float> memory_;
  int64_t offset_;
};

bool same(float a, float b, bool to_the_bit) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  if (to_the_bit || std::isinf(a) || std::isinf(b)) return a == b;
  return std::fabs(a - b) <= 1e-5f + 1e-4f * std::fabs(b);
}

// Runs the chosen table with its output `shift` floats after the beginning of its own queries: to the bit
// what it gives apart.
bool in_place(Problem p, int64_t shift, const Host& host, Buffer& expected, int64_t offset) {
  const int64_t queries = p.batch * p.query_tokens * p.heads * p.head_size;
  const int64_t outputs = static_cast<int64_t>(expected.size());
  Buffer shared(std::max(queries, shift + outputs), offset);
  std::copy(p.query, p.query + queries, shared.data());
  p.query = shared.data();
  p.output = shared.data() + shift;
  if (run(*chosen_table(), p, host)) return false;
  return outputs == 0 || std::memcmp(p.output, expected.data(), expected.size() * sizeof(float)) == 0;
}

// Runs both tables on the same inputs, and the chosen one where its output overwrites its queries.
bool agree(const Case& c, bool int8) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const auto fill = [&](int64_t count) {
    Buffer values(count, c.offset);
    for (size_t i = 0; i < values.size(); ++i) values.data()[i] = normal(random);
    return values;
  };
  Problem p{};
  p.batch = 2;
  p.query_tokens = c.n;
  p.key_tokens = c.m;
  p.heads = c.heads;
  p.kv_heads = c.groups;
  p.head_size = c.d;
  p.value_size = c.v;
  p.block_size = c.block;
  p.max_blocks = 3;
  p.scale = 0.3f;
  p.summaries = true;
  p.causal = c.causal;
  p.int8 = int8;
  Buffer query = fill(2 * c.n * c.heads * c.d), key = fill(2 * c.m * c.groups * c.d),
         value = fill(2 * c.m * c.groups * c.v),
         scores = fill(2 * c.heads * p.query_blocks() * p.key_blocks());
  // One byte off, and of the exact size as well.
  std::vector<uint8_t> mask(static_cast<size_t>(2 * c.m + 1));
  for (uint8_t& x : mask) x = c.input != Input::kAllMasked && random() % 4 != 0;
  if (c.input == Input::kTies)
    for (size_t i = 0; i < scores.size(); ++i) scores.data()[i] = 0.0f;
  if (c.input == Input::kInfinite || c.input == Input::kNan) {
    const float poison = c.input == Input::kNan ? std::numeric_limits<float>::quiet_NaN()
                                                : std::numeric_limits<float>::infinity();
    for (Buffer* buffer : {&query, &key, &value, &scores})
      for (size_t i = 0; i < buffer->size(); i += 37) buffer->data()[i] = i % 2 ? poison : -poison;
  }
  const float top_p = 0.8f;
  p.query = query.data();
  p.key = key.data();
  p.value = value.data();
  p.block_scores = scores.data();
  p.top_p = &top_p;
  p.key_mask = mask.data() + 1;
  Buffer expected(2 * c.n * c.heads * c.v, c.offset), output(2 * c.n * c.heads * c.v, c.offset);
  const Host host{nullptr, serial, allocate, release};
  p.output = expected.data();
  if (run(*scalar_table(), p, host)) return false;
  p.output = output.data();
  if (run(*chosen_table(), p, host)) return false;
  for (size_t i = 0; i < output.size(); ++i) {
    if (!same(output.data()[i], expected.data()[i], int8)) return false;
    if (c.input == Input::kAllMasked && output.data()[i] != 0.0f) return false;
  }
  const Host two{nullptr, threaded, allocate, release};
  return in_place(p, 0, host, output, c.offset) && in_place(p, 0, two, output, c.offset) &&
         in_place(p, 5, two, output, c.offset);
}

std::vector<Case> all_cases() {
  std::vector<Case> cases = {
      {1, 1, 1, 1, 8, 8, 16, false, Input::kRandom, 0},
      {40, 1, 2, 2, 8, 8, 16, false, Input::kRandom, 0},
      {40, 0, 1, 1, 8, 8, 16, false, Input::kRandom, 0},
      {0, 40, 1, 1, 8, 8, 16, false, Input::kRandom, 0},
      {65, 63, 2, 2, 16, 24, 16, false, Input::kRandom, 1},
      {97, 131, 2, 2, 64, 48, 64, false, Input::kRandom, 3},
  };
  for (const int64_t n : {15, 16, 17, 63, 64, 65, 131})
    for (const bool causal : {false, true})
      cases.push_back({n, n, 2, 1, 40, 24, n < 60 ? 16 : 20, causal, Input::kRandom, n % 4});
  for (const int64_t d : {1, 7, 8, 12, 16, 24, 32, 48, 64, 68, 80, 96, 100, 112, 128})
    cases.push_back({130, 130, 2, 2, d, d, 64, d % 16 != 0, Input::kRandom, 1});
  for (const int64_t block : {1, 3, 16, 64, 100, 128, 1000})
    cases.push_back({150, 150, 2, 1, 32, 40, block, block != 64, Input::kRandom, 0});
  for (const Input input : {Input::kAllMasked, Input::kTies, Input::kInfinite, Input::kNan})
    for (const bool causal : {false, true}) cases.push_back({131, 131, 2, 2, 24, 32, 16, causal, input, 3});
  return cases;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--tables") == 0) return std::puts(available_tables()) < 0;
  if (!chosen_table()) return std::puts("EDGESPARSE_ISA names nothing that this machine has"), 1;
  int failed = 0, ran = 0;
  for (const Case& c : all_cases())
    for (const bool int8 : {false, true}) {
      ++ran;
      if (agree(c, int8)) continue;
      ++failed;
      std::printf("FAIL %s N %lld M %lld D %lld V %lld block %lld %s%s\n", int8 ? "int8" : "float32",
                  (long long)c.n, (long long)c.m, (long long)c.d, (long long)c.v, (long long)c.block,
                  kInputNames[static_cast<int>(c.input)], c.causal ? " causal" : "");
    }
  failed += test_layers(&ran);
  std::printf("%s: %d of %d failed\n", chosen_table()->name, failed, ran);
  return failed != 0;
}
