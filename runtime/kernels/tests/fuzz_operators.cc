// Calls every operator of a library at random: `fuzz_operators LIBRARY COUNT [SEED]`, under the pin of
// EDGESPARSE_ISA. Each call runs under two conditions that no output may depend on: another fill of fresh
// memory, another order of the work, other threads, the output in the place of an input. For sanitizers, too.
//
// Prints what ran, a hash of all outputs, and one of those that are equal on every instruction set. `--valid`
// draws no hostile calls.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "calls.h"

namespace {

using namespace edgesparse;
using namespace edgesparse::tests;

uint64_t add(uint64_t hash, uint64_t word) {
  hash ^= word;
  return (hash << 27 | hash >> 37) * 0x9e3779b97f4a7c15u;
}

// One NaN is as good as another where instruction sets are compared.
uint64_t add_outputs(uint64_t hash, const Result& result, bool one_nan) {
  for (const Tensor& output : result.outputs) {
    for (const int64_t axis : output.shape) hash = add(hash, static_cast<uint64_t>(axis));
    const char* const bytes = output.data.get();
    if (output.type != ort::kFloat) {
      for (int64_t i = 0; i < output.bytes(); ++i) hash = add(hash, static_cast<unsigned char>(bytes[i]));
      continue;
    }
    for (int64_t i = 0; i < output.bytes(); i += 4) {
      uint32_t word;
      std::memcpy(&word, bytes + i, 4);
      if (one_nan && (word & 0x7fffffff) > 0x7f800000) word = 0x7fc00000;
      hash = add(hash, word);
    }
  }
  return hash;
}

bool same(const Result& a, const Result& b) {
  if (a.error.empty() != b.error.empty() || a.outputs.size() != b.outputs.size()) return false;
  for (size_t i = 0; i < a.outputs.size(); ++i) {
    const Tensor &x = a.outputs[i], &y = b.outputs[i];
    if (x.shape != y.shape) return false;
    if (x.bytes() > 0 && std::memcmp(x.data.get(), y.data.get(), static_cast<size_t>(x.bytes())) != 0)
      return false;
  }
  return true;
}

bool in_float(const Call& call) {
  const auto found = call.attributes.find("precision");
  if (call.op == "WindowAttention" || call.op == "SampledScores") return true;
  return call.op == "SparseAttention" && (found == call.attributes.end() || found->second.text != "int8");
}

}  // namespace

int main(int argc, char** argv) {
  bool valid = false;
  int at = 1;
  if (argc > 1 && std::strcmp(argv[1], "--valid") == 0) valid = true, ++at;
  if (argc < at + 2) return std::fprintf(stderr, "usage: fuzz_operators [--valid] LIBRARY COUNT [SEED]\n"), 2;
  const Library library(argv[at]);
  const int64_t count = std::atoll(argv[at + 1]);
  const uint64_t first = argc > at + 2 ? std::strtoull(argv[at + 2], nullptr, 10) : 0;
  int64_t ran = 0, refused = 0, failed = 0;
  uint64_t every = 0, equal = 0;
  for (uint64_t i = 0; i < static_cast<uint64_t>(count); ++i) {
    Draw draw(~(first + i));
    const Call call = draw_call(first + i, !valid && draw.chance(70));
    Conditions one, two;
    two.fill = 0x41;
    two.in_place = true;
    two.reversed = draw.chance(50);
    two.threads = draw.chance(10) ? 2 : 1;
    const Result a = library.run(call, one), b = library.run(call, two);
    if (!same(a, b)) {
      ++failed;
      std::printf("FAIL call %llu depends on memory that it did not write: %s (%s | %s)\n",
                  (unsigned long long)(first + i), describe(call).c_str(), a.error.c_str(), b.error.c_str());
    }
    if (!a.error.empty()) {
      ++refused;
      if (valid)
        ++failed,
            std::printf("FAIL a valid call is refused: %s: %s\n", describe(call).c_str(), a.error.c_str());
    } else {
      ++ran;
      every = add_outputs(every, a, false);
      if (!in_float(call)) equal = add_outputs(equal, a, true);
    }
    // The host's memory runs out at the first or second allocation.
    if (draw.chance(2)) {
      Conditions poor;
      poor.allocations = draw.below(3);
      library.run(call, poor);
    }
  }
  std::printf("%s: %lld ran, %lld refused, %lld failed; outputs %016llx, equal everywhere %016llx\n",
              library.instruction_set().c_str(), (long long)ran, (long long)refused, (long long)failed,
              (unsigned long long)every, (unsigned long long)equal);
  return failed != 0;
}
