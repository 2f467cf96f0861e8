// Attributes, inputs and outputs of an operator, checked: what onnxruntime hands over is not trusted.
#pragma once

#include <cmath>

#include "ops/call.h"

namespace edgesparse {

// Larger sizes could overflow an index; nobody's model has them.
constexpr int64_t kLargest = int64_t{1} << 31;

struct InputRule {
  const char* name;
  ort::ElementType type;
  size_t min_rank, max_rank;  // at most 5
};

inline ort::Status* read_input(const Call& call, size_t index, const InputRule& rule, Tensor* tensor) {
  const ort::Functions& ort = call.ort;
  const ort::Value* value = nullptr;
  EDGESPARSE_RETURN_IF(ort.KernelContext_GetInput(call.context, index, &value));
  if (!value) return refuse(ort, "Input `%s` must be given; it is missing.", rule.name);
  ort::TensorInfo* info = nullptr;
  EDGESPARSE_RETURN_IF(ort.GetTensorTypeAndShape(value, &info));
  tensor->rank = 0;
  ort::ElementType type{};
  ort::Status* failed = ort.GetDimensionsCount(info, &tensor->rank);
  if (!failed) failed = ort.GetTensorElementType(info, &type);
  const bool fits = tensor->rank >= rule.min_rank && tensor->rank <= rule.max_rank;
  if (!failed && fits) failed = ort.GetDimensions(info, tensor->shape, tensor->rank);
  ort.ReleaseTensorTypeAndShapeInfo(info);
  if (failed) return failed;
  if (!fits)
    return refuse(ort, "Input `%s` must have rank %zu; got rank %zu.", rule.name, rule.max_rank,
                  tensor->rank);
  if (type != rule.type)
    return refuse(ort, "Input `%s` must have element type %d; got %d.", rule.name, (int)rule.type, (int)type);
  for (size_t axis = 0; axis < tensor->rank; ++axis)
    if (tensor->shape[axis] < 0 || tensor->shape[axis] >= kLargest)
      return refuse(ort, "Input `%s` must have axes of 0 to 2147483647; got %lld.", rule.name,
                    (long long)tensor->shape[axis]);
  return ort.GetTensorMutableData(const_cast<ort::Value*>(value), &tensor->data);
}

// An integer attribute within bounds.
inline ort::Status* read_integer(const Node& node, const char* name, int64_t min, int64_t max, int64_t* to) {
  EDGESPARSE_RETURN_IF(node.ort.KernelInfoGetAttribute_int64(node.info, name, to));
  if (*to < min || *to > max)
    return refuse(node.ort, "`%s` must be from %lld to %lld; got %lld.", name, (long long)min, (long long)max,
                  (long long)*to);
  return nullptr;
}

// `num_heads` and `kv_num_heads`, which divides it.
inline ort::Status* read_heads(const Node& node, int64_t* heads, int64_t* kv_heads) {
  EDGESPARSE_RETURN_IF(read_integer(node, "num_heads", 1, kLargest, heads));
  EDGESPARSE_RETURN_IF(read_integer(node, "kv_num_heads", 1, kLargest, kv_heads));
  if (*heads % *kv_heads != 0)
    return refuse(node.ort, "`kv_num_heads` must divide `num_heads`; got %lld and %lld.",
                  (long long)*kv_heads, (long long)*heads);
  return nullptr;
}

// `epsilon` of a layer normalization.
inline ort::Status* read_epsilon(const Node& node, float* to) {
  EDGESPARSE_RETURN_IF(node.ort.KernelInfoGetAttribute_float(node.info, "epsilon", to));
  if (!(*to >= 0.0f) || !std::isfinite(*to))
    return refuse(node.ort, "`epsilon` must be finite and at least 0; got %g.", *to);
  return nullptr;
}

// A vector of `count` values.
inline ort::Status* check_values(const Call& call, const InputRule& rule, const Tensor& tensor,
                                 int64_t count) {
  if (tensor.shape[0] == count) return nullptr;
  return refuse(call.ort, "Input `%s` must have %lld values; got %lld.", rule.name, (long long)count,
                (long long)tensor.shape[0]);
}

}  // namespace edgesparse
