// edgesparse::KernelInfo: the name of the instruction set, and what is to be said of the choice or "", for
// tests and for `doctor`.
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
    const int64_t shape = 2;
    const char* const refused = what_was_refused();
    const char* const texts[] = {chosen_table()->name, refused ? refused : ""};
    ort::Value* output = nullptr;
    EDGESPARSE_RETURN_IF(call.ort.KernelContext_GetOutput(call.context, 0, &shape, 1, &output));
    return call.ort.FillStringTensor(output, texts, 2);
  }
};

}  // namespace

const ort::CustomOp* kernel_info_op() { return custom_op<KernelInfo>(); }

}  // namespace edgesparse
