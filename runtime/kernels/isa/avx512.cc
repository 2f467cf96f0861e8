// AVX-512 with VNNI. Compiled with its own flags; called only where the machine has them.
#include "isa/vector/avx512.h"
// It is written in terms of `Vector`.
#include "isa/tiles/all.h"

namespace edgesparse {

const Table* avx512_table() {
  static constexpr Table table = fill_table("avx512vnni");
  const bool here = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
  return here ? &table : nullptr;
}

}  // namespace edgesparse
