// The table of the file that includes this last: its functions by their names.
//
// It is filled while compiling: code that ran to fill it would run on machines without the instructions.
#pragma once

#include "isa/table.h"

namespace edgesparse {
namespace {

constexpr Table fill_table(const char* name) {
  Table table{};
  table.name = name;
  table.shares = shares;
  table.pack_keys = pack_keys;
  table.pack_values = pack_values;
  table.add_rows = add_rows;
  table.attend = attend;
  table.mass = mass;
  table.quantize_keys = quantize_keys;
  table.quantize_values = quantize_values;
  table.attend_int8 = attend_int8;
  table.linear = linear;
  table.sum_weights = sum_weights;
  table.bank = bank;
  table.compete = compete;
  table.pool = pool;
  table.product = product;
  table.mix = mix;
  return table;
}

}  // namespace
}  // namespace edgesparse
