// AVX2 with FMA and AVX-VNNI. Compiled with its own flags; called only where the machine has them.
#ifndef __AVXVNNI__
#error "without -mavxvnni this table would be that of AVX2 under another name"
#endif

#include "isa/vector/avx2.h"
// It is written in terms of `Vector`.
#include "isa/tiles/all.h"

namespace edgesparse {

const Table* avxvnni_table() {
  static constexpr Table table = fill_table("avxvnni");
  const bool here =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("avxvnni");
  return here ? &table : nullptr;
}

}  // namespace edgesparse
