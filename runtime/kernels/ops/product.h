// The int8 product that several operators end in: its inputs checked, and its rows shared out.
#pragma once

#include <algorithm>

#include "isa/linear.h"
#include "isa/table.h"
#include "ops/tensor.h"

namespace edgesparse {

// Sets what a job knows of its weight, scale and bias, which are the inputs `first` to `first + 2`.
inline ort::Status* check_product(const Call& call, const InputRule* rules, int first, int64_t depth,
                                  LinearJob& job) {
  const Tensor* const in = call.in + first;
  const int64_t* const weight = in[0].shape;
  job.depth = depth;
  job.columns = weight[0] * kPanelKeys;
  job.parts = 1;
  if (depth == 0 || depth % kPanelKeys != 0 || depth > kLargestInt8Head)
    return refuse(call.ort,
                  "Rows for `%s` must have a length that is a multiple of 16 from 16 to %lld; got %lld.",
                  rules[first].name, (long long)kLargestInt8Head, (long long)depth);
  if (weight[0] == 0 || weight[1] != depth / 4 || weight[2] != kPanelKeys || weight[3] != 4)
    return refuse(call.ort,
                  "Input `%s` must have shape [columns / 16, %lld, 16, 4]; got [%lld, %lld, %lld, %lld].",
                  rules[first].name, (long long)(depth / 4), (long long)weight[0], (long long)weight[1],
                  (long long)weight[2], (long long)weight[3]);
  for (const int i : {1, 2}) EDGESPARSE_RETURN_IF(check_values(call, rules[first + i], in[i], job.columns));
  job.weight = in[0].as<int8_t>();
  job.scale = in[1].as<float>();
  job.bias = in[2].as<float>();
  return nullptr;
}

// Calls work(row, count) for every run of kRows rows that falls to piece `index` of `pieces`: every
// `pieces`-th.
template <class Function>
void for_runs_of_rows(size_t index, int64_t pieces, int64_t rows, const Function& work) {
  for (int64_t row = static_cast<int64_t>(index) * kRows; row < rows; row += pieces * kRows)
    work(row, std::min<int64_t>(kRows, rows - row));
}

// More pieces than threads, so that an unlucky thread does not hold up the others; scratch is bounded by
// them.
inline int64_t count_pieces(int64_t rows, int64_t max) { return std::min(max, (rows + kRows - 1) / kRows); }

}  // namespace edgesparse
