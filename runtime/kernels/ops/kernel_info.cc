// edgesparse::KernelInfo: a string that names the instruction set, for tests and for `doctor`.
#include "isa/table.h"
#include "ops/custom_op.h"
#include "ops/operators.h"

namespace edgesparse {
namespace {

struct KernelInfo {
  static constexpr const char* kName = "KernelInfo";
  static constexpr ort::ElementType kOutputs[] = {ort::kString};

  ort::Status* read_attributes(const Node&) { return nullptr; }
  ort::Status* compute(const Call& call) const {
    const int64_t shape = 1;
    ort::Value* output = nullptr;
    EDGESPARSE_RETURN_IF(call.ort.KernelContext_GetOutput(call.context, 0, &shape, 1, &output));
    return call.ort.FillStringTensor(output, &chosen_table()->name, 1);
  }
};

}  // namespace

const ort::CustomOp* kernel_info_op() { return custom_op<KernelInfo>(); }

}  // namespace edgesparse
