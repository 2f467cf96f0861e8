// AVX2 with FMA. Compiled with its own flags; called only where the machine has them.
#include "isa/vector/avx2.h"
// It is written in terms of `Vector`.
#include "isa/tiles/all.h"

namespace edgesparse {

const Table* avx2_table() {
  static constexpr Table table = fill_table("avx2");
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &table : nullptr;
}

}  // namespace edgesparse
