// AArch64 NEON, which every AArch64 has.
#include "isa/vector/neon.h"
// It is written in terms of `Vector`.
#include "isa/tiles/all.h"

namespace edgesparse {

const Table* neon_table() {
  static constexpr Table table = fill_table("neon");
  return &table;
}

}  // namespace edgesparse
