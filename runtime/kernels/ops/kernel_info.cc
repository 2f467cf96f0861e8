// edgesparse::KernelInfo: a string that names the instruction set, for tests and for `doctor`.
#include <new>

#include "isa/table.h"
#include "ops/operators.h"
#include "ops/status.h"

namespace edgesparse {
namespace {

ort::Status* create(const ort::CustomOp*, const ort::Api* api, const ort::KernelInfo*, void** kernel) {
  const ort::Functions ort(api);
  *kernel = new (std::nothrow) ort::Functions(api);
  return *kernel ? nullptr : ort.CreateStatus(ort::kFail, "There is not enough memory for `KernelInfo`.");
}

ort::Status* compute(void* kernel, ort::KernelContext* context) {
  const auto& ort = *static_cast<const ort::Functions*>(kernel);
  const int64_t shape = 1;
  ort::Value* output = nullptr;
  EDGESPARSE_RETURN_IF(ort.KernelContext_GetOutput(context, 0, &shape, 1, &output));
  return ort.FillStringTensor(output, &chosen_table()->name, 1);
}

}  // namespace

const ort::CustomOp* kernel_info_op() {
  static const ort::CustomOp op = [] {
    ort::CustomOp made{};
    made.version = ort::kInterfaceVersion;
    made.GetName = [](const ort::CustomOp*) { return "KernelInfo"; };
    made.GetExecutionProviderType = [](const ort::CustomOp*) -> const char* { return nullptr; };
    made.GetInputTypeCount = [](const ort::CustomOp*) -> size_t { return 0; };
    made.GetOutputTypeCount = [](const ort::CustomOp*) -> size_t { return 1; };
    made.GetInputType = [](const ort::CustomOp*, size_t) { return ort::kFloat; };
    made.GetOutputType = [](const ort::CustomOp*, size_t) { return ort::kString; };
    made.GetInputCharacteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
    made.GetOutputCharacteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
    made.GetInputMemoryType = [](const ort::CustomOp*, size_t) { return ort::kDefaultMemory; };
    made.GetStartVersion = [](const ort::CustomOp*) { return 1; };
    made.GetEndVersion = [](const ort::CustomOp*) { return 1; };
    made.CreateKernelV2 = create;
    made.KernelComputeV2 = compute;
    made.KernelDestroy = [](void* kernel) { delete static_cast<ort::Functions*>(kernel); };
    return made;
  }();
  return &op;
}

}  // namespace edgesparse
