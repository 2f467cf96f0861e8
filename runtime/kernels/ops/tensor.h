// Inputs and outputs of an operator, checked: what onnxruntime hands over is not trusted.
#pragma once

#include "ops/status.h"
#include "ort_abi.h"

namespace edgesparse {

// Larger sizes could overflow an index; nobody's model has them.
constexpr int64_t kLargest = int64_t{1} << 31;

struct Tensor {
  int64_t shape[4];
  size_t rank;
  void* data;

  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

struct InputRule {
  const char* name;
  ort::ElementType type;
  size_t least_rank, most_rank;  // at most 4
};

inline ort::Status* read_input(const ort::Functions& ort, const ort::KernelContext* context, size_t index,
                               const InputRule& rule, Tensor* tensor) {
  const ort::Value* value = nullptr;
  EDGESPARSE_RETURN_IF(ort.KernelContext_GetInput(context, index, &value));
  if (!value) return refuse(ort, "Input `%s` must be given; it is missing.", rule.name);
  ort::TensorInfo* info = nullptr;
  EDGESPARSE_RETURN_IF(ort.GetTensorTypeAndShape(value, &info));
  tensor->rank = 0;
  ort::ElementType type{};
  ort::Status* failed = ort.GetDimensionsCount(info, &tensor->rank);
  if (!failed) failed = ort.GetTensorElementType(info, &type);
  const bool fits = tensor->rank >= rule.least_rank && tensor->rank <= rule.most_rank;
  if (!failed && fits) failed = ort.GetDimensions(info, tensor->shape, tensor->rank);
  ort.ReleaseTensorTypeAndShapeInfo(info);
  if (failed) return failed;
  if (!fits)
    return refuse(ort, "Input `%s` must have rank %zu; got rank %zu.", rule.name, rule.most_rank, tensor->rank);
  if (type != rule.type)
    return refuse(ort, "Input `%s` must have element type %d; got %d.", rule.name, (int)rule.type, (int)type);
  for (size_t axis = 0; axis < tensor->rank; ++axis)
    if (tensor->shape[axis] < 0 || tensor->shape[axis] >= kLargest)
      return refuse(ort, "Input `%s` must have axes of 0 to 2147483647; got %lld.", rule.name,
                    (long long)tensor->shape[axis]);
  return ort.GetTensorMutableData(const_cast<ort::Value*>(value), &tensor->data);
}

inline ort::Status* make_output(const ort::Functions& ort, ort::KernelContext* context, size_t index,
                                const int64_t* shape, size_t rank, void** data) {
  ort::Value* value = nullptr;
  EDGESPARSE_RETURN_IF(ort.KernelContext_GetOutput(context, index, shape, rank, &value));
  return value ? ort.GetTensorMutableData(value, data) : nullptr;
}

// An integer attribute within bounds.
inline ort::Status* read_integer(const ort::Functions& ort, const ort::KernelInfo* info, const char* name,
                                 int64_t least, int64_t most, int64_t* to) {
  EDGESPARSE_RETURN_IF(ort.KernelInfoGetAttribute_int64(info, name, to));
  if (*to < least || *to > most)
    return refuse(ort, "`%s` must be from %lld to %lld; got %lld.", name, (long long)least, (long long)most,
                  (long long)*to);
  return nullptr;
}

}  // namespace edgesparse
