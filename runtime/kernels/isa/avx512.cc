// AVX-512 with VNNI. Compiled with its own flags; called only where the machine has them.
#include "isa/vector/avx512.h"

// The tiles are written in terms of `Vector`.
#include "isa/tiles/attention.h"

#include "isa/tiles/attention_int8.h"
// These use what the headers above define.
#include "isa/tiles/linear.h"

#include "isa/tiles/filter_bank.h"
#include "isa/tiles/pooling.h"

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
