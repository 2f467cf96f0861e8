// The reference: the same operations in plain loops, one element after the other.
#include "isa/scalar/attention.h"
#include "isa/scalar/attention_int8.h"
#include "isa/scalar/competing_filters.h"
#include "isa/scalar/filter_bank.h"
#include "isa/scalar/linear.h"
#include "isa/scalar/mass.h"
#include "isa/scalar/pooling.h"
#include "isa/scalar/shares.h"

// It names what the headers above define.
#include "isa/fill_table.h"

namespace edgesparse {

const Table* scalar_table() {
  static constexpr Table table = fill_table("scalar");
  return &table;
}

}  // namespace edgesparse
