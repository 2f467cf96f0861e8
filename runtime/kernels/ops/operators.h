// The registration list: every operator of the domain `edgesparse`.
#pragma once

#include "ort_abi.h"

namespace edgesparse {

const ort::CustomOp* sparse_attention_op();
const ort::CustomOp* window_attention_op();
const ort::CustomOp* kernel_info_op();
const ort::CustomOp* linear_op();
const ort::CustomOp* linear_split_op();
const ort::CustomOp* filter_bank_op();
const ort::CustomOp* filter_bank_linear_op();
// The names that the filter banks had in files made before November 2026.
const ort::CustomOp* kernel_bank_op();
const ort::CustomOp* kernel_bank_linear_op();
const ort::CustomOp* competing_filters_op();
const ort::CustomOp* feed_forward_op();
const ort::CustomOp* block_scores_op();
const ort::CustomOp* sampled_scores_op();
const ort::CustomOp* value_convolution_op();
const ort::CustomOp* token_step_op();
const ort::CustomOp* close_block_op();

}  // namespace edgesparse
