// Built only with -DORT_INCLUDE_DIR: holds ort_abi.h to onnxruntime's own headers.
#include <onnxruntime_c_api.h>

#include "ort_abi.h"

namespace {
using namespace edgesparse::ort;

#define X(name, position, result, parameters) \
  static_assert(offsetof(::OrtApi, name) == position * sizeof(void*), #name " has moved");
EDGESPARSE_ORT_ENTRIES(X)
#undef X

#define SAME(member) \
  static_assert(offsetof(::OrtCustomOp, member) == offsetof(CustomOp, member), #member " has moved");
SAME(CreateKernel)
SAME(GetName)
SAME(GetExecutionProviderType)
SAME(GetInputType)
SAME(GetInputTypeCount)
SAME(GetOutputType)
SAME(GetOutputTypeCount)
SAME(KernelCompute)
SAME(KernelDestroy)
SAME(GetInputCharacteristic)
SAME(GetOutputCharacteristic)
SAME(GetInputMemoryType)
SAME(CreateKernelV2)
SAME(KernelComputeV2)
SAME(InferOutputShapeFn)
SAME(GetStartVersion)
SAME(GetEndVersion)
SAME(ReleaseAliasMap)
#undef SAME

static_assert(kFloat == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT &&
              kUint8 == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 &&
              kInt64 == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 &&
              kString == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING && kBool == ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL);
static_assert(kFail == ORT_FAIL && kInvalidArgument == ORT_INVALID_ARGUMENT);
static_assert(kRequired == INPUT_OUTPUT_REQUIRED && kOptional == INPUT_OUTPUT_OPTIONAL);
static_assert(kDefaultMemory == OrtMemTypeDefault && kInterfaceVersion <= ORT_API_VERSION);

}  // namespace
