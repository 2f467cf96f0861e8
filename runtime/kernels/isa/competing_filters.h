// One job of `edgesparse::CompetingFilters`: sums over the steps of a window, of one dilation and 16 groups.
//
// Groups stand in the lanes of a panel: weight [channels][9][8][16], sharpness [16], sums [3][8][16]; lanes
// without a group are zero, and their sums mean nothing.
#pragma once

#include <cstdint>

#include "isa/table.h"

namespace edgesparse {

// Filters of a group.
constexpr int kGroup = 8;
// Steps whose sums are added up before they join the others: a long window loses no digits.
constexpr int64_t kStepsPerSum = 64;
// Floats of a job's sums: per filter of each group, of `wins * most`, of `wins` and of `loses`.
constexpr int64_t kCompeteSums = 3 * kGroup * kPanelKeys;

struct CompeteJob {
  const float* window;  // [channels] rows of window_stride; entry 0 is step 0, zeros reach far enough around
  int64_t window_stride;
  const uint8_t* real;  // one byte per step; false = the step does not count
  int64_t steps, channels, dilation;
  const float* weight;
  const float* sharpness;
  float* sums;
};

}  // namespace edgesparse
