// AVX-512 with VNNI. Compiled with its own flags; called only where the machine has them.
#include "isa/vector_avx512.h"

// The tiles are written in terms of `Vector`.
#include "isa/tiles.h"

#include "isa/int8_tiles.h"
// These use what the headers above define.
#include "isa/linear_tiles.h"

#include "isa/bank_tiles.h"
#include "isa/rows_tiles.h"

namespace edgesparse {

const Table* avx512_table() {
  static const Table table = {"avx512vnni",  pack_keys,       pack_values, add_rows,
                              attend,        quantize_keys,   quantize_values, attend_int8,
                              linear,        sum_weights,     bank,        pool,
                              product,       mix};
  const bool here = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
  return here ? &table : nullptr;
}

}  // namespace edgesparse
