// AVX2 with FMA. Compiled with its own flags; called only where the machine has them.
#include "isa/vector/avx2.h"

// The tiles are written in terms of `Vector`.
#include "isa/tiles/attention.h"

#include "isa/tiles/attention_int8.h"
// These use what the headers above define.
#include "isa/tiles/linear.h"

#include "isa/tiles/filter_bank.h"
#include "isa/tiles/pooling.h"

namespace edgesparse {

const Table* avx2_table() {
  static const Table table = {"avx2",        pack_keys,       pack_values, add_rows,
                              attend,        quantize_keys,   quantize_values, attend_int8,
                              linear,        sum_weights,     bank,        pool,
                              product,       mix};
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &table : nullptr;
}

}  // namespace edgesparse
