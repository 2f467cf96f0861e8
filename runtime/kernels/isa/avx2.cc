// AVX2 with FMA. Compiled with its own flags; called only where the machine has them.
#include "isa/vector_avx2.h"

// The tiles are written in terms of `Vector`.
#include "isa/tiles.h"

#include "isa/int8_tiles.h"
// These use what the headers above define.
#include "isa/linear_tiles.h"

#include "isa/bank_tiles.h"
#include "isa/rows_tiles.h"

namespace edgesparse {

const Table* avx2_table() {
  static const Table table = {"avx2",        pack_keys,       pack_values, add_rows,
                              attend,        quantize_keys,   quantize_values, attend_int8,
                              linear,        sum_weights,     bank,        pool,
                              product,       mix};
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &table : nullptr;
}

}  // namespace edgesparse
