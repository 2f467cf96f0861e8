// What up to kRows queries attend to, summed over the keys of each block: shares of all, without values.
#pragma once

#include <cstdint>

#include "isa/table.h"

namespace edgesparse {

struct MassJob {
  const float* query;  // rows of D, one behind the other, times scale and log2(e)
  int64_t rows, head_size;
  const Panel* panels;  // of every block, in order; their values, scales and last_for_row_0 are not read
  int64_t blocks, panels_per_block;
  int64_t block_keys;       // key 0 of block j is key j * block_keys; a last block may be shorter
  const int32_t* last_key;  // [rows], ascending: row r sees the keys up to this one
  float* mass;              // [blocks][kRows]; 0 throughout for a row that sees nothing
  float* scratch;           // mass_scratch() floats, 64-byte aligned
};

// Scores of a tile, and the largest score of each row in each block.
inline int64_t mass_scratch(int64_t blocks) { return kRows * (kUnitKeys + blocks); }

}  // namespace edgesparse
