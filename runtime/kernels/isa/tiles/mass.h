// `MassJob` of every vector instruction set: the score tiles of isa/tiles/attention.h. Each block has a
// largest score and a sum of its own, so no row is ever corrected; rows lie side by side in what follows.
#pragma once

#include "isa/mass.h"
#include "isa/tiles/attention.h"

namespace edgesparse {
namespace {

// Takes the scores of one unit into the largest score and the sum of W rows.
template <int NV>
EDGESPARSE_INLINE void take_scores(const float* scores, float* largest, float* sum) {
  const F before = Vector::LoadU(largest);
  const F now = Vector::Max(largest_scores<NV>(scores), before);
  F total[W];
  EDGESPARSE_NO_UNROLL
  for (int r = 0; r < W; ++r) {
    const F shift = Vector::Set(now[r]);
    total[r] = F{};
    EDGESPARSE_UNROLL
    for (int v = 0; v < NV; ++v)
      total[r] = total[r] + exp2_fine(Vector::LoadU(scores + r * kUnitKeys + v * W) - shift);
  }
  const F added = reduce_rows(total, [](F a, F b) { return a + b; });
  Vector::StoreU(sum, Vector::LoadU(sum) * exp2_fine(before - now) + added);
  Vector::StoreU(largest, now);
}

// Rows `first_row` to the end of one block, in panels that fill a unit.
void weigh_unit(const MassJob& job, const Job& unit_job, int64_t first_panel, int panels, int64_t first_row,
                float* scores, float* largest, float* sum) {
  const Strips unit(unit_job, first_panel, panels, 0);
  const NextUnit nothing{{}, 0, 0};
  const int64_t rows = job.rows - first_row;
  const float* const query = job.query + first_row * job.head_size;
  for_column_tiles(unit.count * kPerStrip, [&](auto tile, int64_t vector) {
    constexpr int NV = decltype(tile)::value;
    run_row_tiles<Vector::kTileRows[NV]>(
        rows, ScoreRows<NV>{query, job.head_size, job.head_size, unit, nothing, (int)vector, scores});
  });
  for (int i = 0; i < unit.count; ++i)
    if (unit.token[i] + kStripKeys - 1 > job.last_key[first_row])
      mask_spans<kStripKeys>(scores + i * kStripKeys, unit_job, unit.token[i]);
  soften_unit<kPerStrip>(unit_job, unit.count, [&](auto vectors) {
    for (int64_t r = 0; r < rows; r += W)
      take_scores<decltype(vectors)::value>(scores + r * kUnitKeys, largest + first_row + r,
                                            sum + first_row + r);
  });
}

// Sums under the largest score of each block become shares of all.
void divide_mass(const MassJob& job, const float* largest) {
  for (int64_t r = 0; r < job.rows; r += W) {
    F most = Vector::Set(kLowest), total = {};
    for (int64_t j = 0; j < job.blocks; ++j) most = Vector::Max(Vector::LoadU(largest + j * kRows + r), most);
    for (int64_t j = 0; j < job.blocks; ++j) {
      float* const at = job.mass + j * kRows + r;
      const F part = Vector::LoadU(at) * exp2_fine(Vector::LoadU(largest + j * kRows + r) - most);
      Vector::StoreU(at, part);
      total = total + part;
    }
    const F divisor = total == F{} ? F{} + 1.0f : total;
    for (int64_t j = 0; j < job.blocks; ++j) {
      float* const at = job.mass + j * kRows + r;
      Vector::StoreU(at, Vector::LoadU(at) / divisor);
    }
  }
}

void mass(const MassJob& job) {
  int32_t first_key[kRows] = {};
  float* const scores = job.scratch;
  float* const largest = scores + kRows * kUnitKeys;
  for (int64_t i = 0; i < kRows * kUnitKeys; ++i) scores[i] = 0.0f;
  for (int64_t i = 0; i < job.blocks * kRows; ++i) largest[i] = kLowest, job.mass[i] = 0.0f;
  Job unit_job{};
  unit_job.panels = job.panels;
  unit_job.head_size = job.head_size;
  unit_job.first_key = first_key;
  int64_t first_row = 0;
  for (int64_t j = 0; j < job.blocks; ++j) {
    while (first_row < job.rows && job.last_key[first_row] < j * job.block_keys) ++first_row;
    if (first_row == job.rows) break;
    // Whole vectors of rows: one that sees nothing of this block has scores of minus infinity.
    const int64_t from = first_row / W * W;
    unit_job.rows = job.rows - from;
    unit_job.last_key = job.last_key + from;
    for (int64_t part = 0; part < job.panels_per_block; part += kUnitPanels) {
      const int64_t first = j * job.panels_per_block + part, left = job.panels_per_block - part;
      const int panels = left < kUnitPanels ? (int)left : kUnitPanels;
      if (job.panels[first].lanes <= 0) break;
      weigh_unit(job, unit_job, first, panels, from, scores, largest + j * kRows, job.mass + j * kRows);
    }
  }
  divide_mass(job, largest);
}

}  // namespace
}  // namespace edgesparse
