// AArch64 NEON with dot product. Compiled with its own flags; called only where the machine has them.
#include "isa/vector/neon.h"

// The tiles are written in terms of `Vector`.
#include "isa/tiles/attention.h"

#include "isa/tiles/attention_int8.h"
// These use what the headers above define.
#include "isa/tiles/linear.h"

#include "isa/tiles/filter_bank.h"
#include "isa/tiles/pooling.h"

#if defined(__linux__)
#include <sys/auxv.h>
#endif

namespace edgesparse {
namespace {

bool has_dot_product() {
#if defined(__linux__)
  constexpr unsigned long kDotProduct = 1ul << 20;  // HWCAP_ASIMDDP
  return (getauxval(AT_HWCAP) & kDotProduct) != 0;
#else
  return true;  // every Apple core that runs AArch64 macOS has it
#endif
}

}  // namespace

const Table* neon_table() {
  static const Table table = {"neon",        pack_keys,       pack_values, add_rows,
                              attend,        quantize_keys,   quantize_values, attend_int8,
                              linear,        sum_weights,     bank,        pool,
                              product,       mix};
  return has_dot_product() ? &table : nullptr;
}

}  // namespace edgesparse
