// One job of `edgesparse::FilterBank`: the features of a run of tokens.
//
// Filters stand in panels of 16 lanes: weight [dilations][panels][channels][9][16], slope
// [dilations][panels][16], offset [dilations][panels][thresholds][16]; lanes without a filter are zero.
#pragma once

#include <cstdint>

#include "isa/table.h"

namespace edgesparse {

constexpr int kBankLength = 9;

struct BankJob {
  const float* window;  // [channels] rows of window_stride; entry 0 is step 0, zeros reach far enough around
  int64_t window_stride;
  const uint8_t* real;  // one byte per step; false = the step does not count
  int64_t first_token, tokens, patch;
  int64_t channels, filters, thresholds, dilation_count;
  int64_t before;  // taps before the step: 4 = around it, 8 = ending at it
  const int64_t* dilations;
  const float* weight;
  const float* slope;
  const float* offset;
  const float* center;   // [features]
  const float* inverse;  // [features], one over the spread
  float* output;         // the first token's features
};

inline int64_t bank_panels(int64_t filters) { return (filters + kPanelKeys - 1) / kPanelKeys; }
inline int64_t bank_features(const BankJob& job) { return job.dilation_count * job.filters * job.thresholds; }

}  // namespace edgesparse
