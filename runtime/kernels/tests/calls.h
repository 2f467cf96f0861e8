// Random calls of every operator, most of them valid, some hostile in one or two places.
#pragma once

#include <random>

#include "fake_onnxruntime.h"

namespace edgesparse::tests {

// Draws from a seed alone, the same on every machine: the standard library's distributions are not.
class Draw {
 public:
  explicit Draw(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint64_t bits();
  int64_t below(int64_t count) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(count)); }
  bool chance(int percent) { return below(100) < percent; }
  template <class T, size_t n>
  T pick(const T (&values)[n]) {
    return values[below(static_cast<int64_t>(n))];
  }

 private:
  uint64_t state_;
};

// Call number `seed`. Without `hostile`, shapes and attributes fit and every number is finite.
Call draw_call(uint64_t seed, bool hostile);

// The operator, its attributes and the shapes of its inputs, for a person.
std::string describe(const Call& call);

}  // namespace edgesparse::tests
