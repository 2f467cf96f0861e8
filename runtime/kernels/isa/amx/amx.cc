// AVX-512 with VNNI, and AMX for products of bytes. Compiled with its own flags; called only where the
// machine has them.
#include "isa/amx/matrix.h"
#include "isa/amx/permission.h"
#include "isa/vector/avx512.h"
// It is written in terms of `Vector` and `Matrix`.
#include "isa/amx/matrix_table.h"

namespace edgesparse {

const Table* amx_table() {
  if (!avx512_table() || ask_for_amx() != Amx::kGranted) return nullptr;
  static const Table table = with_matrix_unit<avx512_table>("amx");
  return &table;
}

}  // namespace edgesparse
