// The int8 products of a table on the matrix unit; the rest is that of the vectors they are written in.
#pragma once

#include "isa/amx/attention_int8.h"
#include "isa/amx/linear.h"

namespace edgesparse {
namespace {

template <const Table* (*vectors)()>
Table with_matrix_unit(const char* name) {
  Table table = *vectors();
  table.name = name;
  table.attend_int8 = matrix_attend_int8<vectors>;
  table.linear = matrix_linear;
  return table;
}

}  // namespace
}  // namespace edgesparse
