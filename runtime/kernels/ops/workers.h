// onnxruntime's threads and memory for the pieces of one call.
#pragma once

#include "ops/status.h"
#include "ort_abi.h"

namespace edgesparse {

// Calls task(data, i) for every i below count, in any order and on onnxruntime's own threads.
inline ort::Status* run_pieces(const ort::Functions& ort, ort::KernelContext* context,
                               void (*task)(void*, size_t), size_t count, void* data) {
  if (count == 0) return nullptr;
  if (count == 1) {
    task(data, 0);
    return nullptr;
  }
  return ort.KernelContext_ParallelFor(context, task, count, 0, data);
}

// Memory of a call from onnxruntime's allocator, 64-byte aligned, given back when it goes out of scope.
class Scratch {
 public:
  Scratch(const ort::Functions& ort, ort::Allocator* allocator) : ort_(ort), allocator_(allocator) {}
  ~Scratch() {
    if (!memory_) return;
    if (ort::Status* const failed = ort_.AllocatorFree(allocator_, memory_)) ort_.ReleaseStatus(failed);
  }
  Scratch(const Scratch&) = delete;

  ort::Status* take(size_t bytes, void** aligned) {
    EDGESPARSE_RETURN_IF(ort_.AllocatorAlloc(allocator_, bytes + 64, &memory_));
    if (!memory_) return ort_.CreateStatus(ort::kFail, "There is not enough memory; shorten the input.");
    *aligned = static_cast<char*>(memory_) + (64 - reinterpret_cast<uintptr_t>(memory_) % 64) % 64;
    return nullptr;
  }

 private:
  const ort::Functions& ort_;
  ort::Allocator* allocator_;
  void* memory_ = nullptr;
};

}  // namespace edgesparse
