// One node and one call of it: onnxruntime's functions, threads and memory at hand.
#pragma once

#include "host.h"
#include "ops/status.h"
#include "ort_abi.h"

namespace edgesparse {

struct Node {
  const ort::Functions& ort;
  const ort::KernelInfo* info;
};

struct Tensor {
  int64_t shape[5];
  size_t rank;
  void* data;

  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

struct Call {
  Call(const ort::Functions& ort_, ort::Allocator* allocator_, ort::KernelContext* context_,
       const char* name_, const Tensor* in_)
      : ort(ort_), allocator(allocator_), context(context_), name(name_), in(in_) {}
  Call(const Call&) = delete;

  const ort::Functions& ort;
  ort::Allocator* const allocator;
  ort::KernelContext* const context;
  const char* const name;
  const Tensor* const in;
  const Host host{const_cast<Call*>(this), parallel, allocate, release};

  // The memory of an output; null where the node does not name it, which a required output must not be.
  template <class T>
  ort::Status* output(size_t index, const int64_t* shape, size_t rank, T** data, bool required = true) const {
    ort::Value* value = nullptr;
    void* memory = nullptr;
    size_t outputs = 0;
    EDGESPARSE_RETURN_IF(ort.KernelContext_GetOutputCount(context, &outputs));
    if (index < outputs)
      EDGESPARSE_RETURN_IF(ort.KernelContext_GetOutput(context, index, shape, rank, &value));
    if (value) EDGESPARSE_RETURN_IF(ort.GetTensorMutableData(value, &memory));
    if (!value && required)
      return refuse(ort, "Output %zu of `%s` must be used; it has no name.", index, name);
    *data = static_cast<T*>(memory);
    return nullptr;
  }

  // Calls task(data, i) for every i below count, in any order and on onnxruntime's own threads.
  ort::Status* run(void (*task)(void*, size_t), int64_t count, void* data) const {
    return fail_with(parallel(const_cast<Call*>(this), task, static_cast<size_t>(count), data));
  }
  ort::Status* out_of_memory() const {
    return refuse(ort, "There is not enough memory for `%s`; shorten the input.", name);
  }
  ort::Status* fail_with(const char* sentence) const {
    return sentence ? ort.CreateStatus(ort::kFail, sentence) : nullptr;
  }

 private:
  static const char* parallel(void* self, void (*task)(void*, size_t), size_t count, void* data) {
    const Call& call = *static_cast<const Call*>(self);
    if (count == 1) task(data, 0);
    if (count <= 1) return nullptr;
    ort::Status* const failed = call.ort.KernelContext_ParallelFor(call.context, task, count, 0, data);
    if (!failed) return nullptr;
    call.ort.ReleaseStatus(failed);
    return "onnxruntime could not run the operator on its threads.";
  }
  static void* allocate(void* self, size_t bytes) {
    const Call& call = *static_cast<const Call*>(self);
    void* memory = nullptr;
    if (ort::Status* const failed = call.ort.AllocatorAlloc(call.allocator, bytes, &memory)) {
      call.ort.ReleaseStatus(failed);
      return nullptr;
    }
    return memory;
  }
  static void release(void* self, void* memory) {
    const Call& call = *static_cast<const Call*>(self);
    if (ort::Status* const failed = call.ort.AllocatorFree(call.allocator, memory))
      call.ort.ReleaseStatus(failed);
  }
};

}  // namespace edgesparse
