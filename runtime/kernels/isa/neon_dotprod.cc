// AArch64 NEON with the dot product. Compiled with its own flags; called only where the machine has them.
#ifndef __ARM_FEATURE_DOTPROD
#error "without +dotprod this table would be that of NEON under another name"
#endif

#include "isa/vector/neon.h"
// It is written in terms of `Vector`.
#include "isa/tiles/all.h"

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

const Table* neon_dotprod_table() {
  static constexpr Table table = fill_table("neon_dotprod");
  return has_dot_product() ? &table : nullptr;
}

}  // namespace edgesparse
