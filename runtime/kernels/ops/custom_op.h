// The glue between onnxruntime and an operator that is described as data.
//
// An operator is a struct K, one object per node:
//
//   static constexpr const char* kName
//   static constexpr InputRule kInputs[]           each input is checked by its rule before `compute`
//   static constexpr ort::ElementType kOutputs[]
//   static constexpr size_t kRequiredOutputs       those behind may be left out; all are required without it
//   static constexpr InPlace kInPlace              optional
//   ort::Status* read_attributes(const Node& node)
//   ort::Status* compute(const Call& call) const
#pragma once

#include <new>

#include "ops/tensor.h"

namespace edgesparse {

// The output that may take the memory of an input which nothing else reads later. An operator that says so
// reads an entry of the input before it writes the same entry of the output, in the same thread.
struct InPlace {
  int input, output;
};

namespace custom_op_detail {

template <class K, class = void>
struct Inputs {
  static constexpr const InputRule* rules = nullptr;
  static constexpr size_t count = 0;
};
template <class K>
struct Inputs<K, decltype(void(K::kInputs[0]))> {
  static constexpr const InputRule* rules = K::kInputs;
  static constexpr size_t count = sizeof(K::kInputs) / sizeof(K::kInputs[0]);
};

template <class K>
constexpr size_t output_count = sizeof(K::kOutputs) / sizeof(K::kOutputs[0]);

template <class K, class = void>
constexpr size_t required_outputs = output_count<K>;
template <class K>
constexpr size_t required_outputs<K, decltype(void(K::kRequiredOutputs))> = K::kRequiredOutputs;

// The kernel of one node, and what onnxruntime lent it.
template <class K>
struct Bound {
  explicit Bound(const ort::Api* api) : ort(api) {}
  ~Bound() {
    if (allocator) ort.ReleaseAllocator(allocator);
  }
  const ort::Functions ort;
  ort::Allocator* allocator = nullptr;
  K kernel;
};

template <class K>
ort::Status* create(const ort::CustomOp*, const ort::Api* api, const ort::KernelInfo* info, void** made) {
  const ort::Functions ort(api);
  auto* const bound = new (std::nothrow) Bound<K>(api);
  if (!bound) return refuse(ort, "There is not enough memory for `%s`.", K::kName);
  ort::Status* failed = bound->kernel.read_attributes(Node{ort, info});
  if (!failed) failed = ort.KernelInfoGetAllocator(info, ort::kDefaultMemory, &bound->allocator);
  if (failed) {
    delete bound;
    return failed;
  }
  *made = bound;
  return nullptr;
}

template <class K>
ort::Status* compute(void* opaque, ort::KernelContext* context) {
  const auto& bound = *static_cast<const Bound<K>*>(opaque);
  Tensor in[Inputs<K>::count + 1];
  const Call call(bound.ort, bound.allocator, context, K::kName, in);
  for (size_t i = 0; i < Inputs<K>::count; ++i)
    EDGESPARSE_RETURN_IF(read_input(call, i, Inputs<K>::rules[i], &in[i]));
  return bound.kernel.compute(call);
}

template <class K>
auto set_in_place(ort::CustomOp& op, int) -> decltype(void(K::kInPlace)) {
  op.GetMayInplace = [](int** input, int** output) -> size_t {
    static InPlace places = K::kInPlace;
    *input = &places.input;
    *output = &places.output;
    return 1;
  };
  op.ReleaseMayInplace = [](int*, int*) {};
}
template <class K>
void set_in_place(ort::CustomOp&, long) {}

template <class K>
ort::CustomOp describe() {
  using Op = const ort::CustomOp*;
  ort::CustomOp op{};
  op.version = ort::kInterfaceVersion;
  op.GetName = [](Op) { return K::kName; };
  op.GetExecutionProviderType = [](Op) -> const char* { return nullptr; };
  op.GetInputTypeCount = [](Op) -> size_t { return Inputs<K>::count; };
  op.GetInputType = [](Op, size_t i) {
    return i < Inputs<K>::count ? Inputs<K>::rules[i].type : ort::kFloat;
  };
  op.GetInputCharacteristic = [](Op, size_t) { return ort::kRequired; };
  op.GetInputMemoryType = [](Op, size_t) { return ort::kDefaultMemory; };
  op.GetOutputTypeCount = [](Op) -> size_t { return output_count<K>; };
  op.GetOutputType = [](Op, size_t i) { return i < output_count<K> ? K::kOutputs[i] : ort::kFloat; };
  op.GetOutputCharacteristic = [](Op, size_t i) {
    return i < required_outputs<K> ? ort::kRequired : ort::kOptional;
  };
  op.GetStartVersion = [](Op) { return 1; };
  op.GetEndVersion = [](Op) { return 1; };
  op.CreateKernelV2 = create<K>;
  op.KernelComputeV2 = compute<K>;
  op.KernelDestroy = [](void* bound) { delete static_cast<Bound<K>*>(bound); };
  set_in_place<K>(op, 0);
  return op;
}

}  // namespace custom_op_detail

template <class K>
const ort::CustomOp* custom_op() {
  static const ort::CustomOp op = custom_op_detail::describe<K>();
  return &op;
}

}  // namespace edgesparse
