// The registration list: every operator of the domain `edgesparse`.
#pragma once

#include "ort_abi.h"

namespace edgesparse {

const ort::CustomOp* sparse_attention_op();
const ort::CustomOp* kernel_info_op();

}  // namespace edgesparse
