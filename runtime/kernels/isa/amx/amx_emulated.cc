// For tests: what the AMX table does, over AVX2 and a matrix unit in plain C++.
#include "isa/amx/matrix_emulated.h"
#include "isa/vector/avx2.h"
// It is written in terms of `Vector` and `Matrix`.
#include "isa/amx/matrix_table.h"

namespace edgesparse {
namespace {

// Nothing of the unit's state may be there before a job, or be left behind by it.
template <class Run>
void leave_no_trace(const Run& run) {
  if (Matrix::is_configured()) std::abort();
  run();
  if (Matrix::is_configured()) std::abort();
}

Table with_checks(Table table) {
  table.attend_int8 = [](const Job& job) { leave_no_trace([&] { matrix_attend_int8<avx2_table>(job); }); };
  table.linear = [](const LinearJob& job) { leave_no_trace([&] { matrix_linear(job); }); };
  return table;
}

}  // namespace

const Table* amx_emulated_table() {
  if (!avx2_table()) return nullptr;
  static const Table table = with_checks(with_matrix_unit<avx2_table>("amx_emulated"));
  return &table;
}

}  // namespace edgesparse
