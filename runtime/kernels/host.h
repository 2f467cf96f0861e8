// What the native code needs from whoever calls it: threads and memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace edgesparse {

// `parallel` calls task(data, i) for every i below count, in any order; null, or a sentence about what
// failed.
struct Host {
  void* self;
  const char* (*parallel)(void* self, void (*task)(void* data, size_t i), size_t count, void* data);
  void* (*allocate)(void* self, size_t bytes);  // null when there is none left
  void (*release)(void* self, void* memory);
};

// One allocation for all arrays of a call or of a task, each 64-byte aligned, given back at the end of the
// scope.
//
//   Scratch scratch(host);
//   scratch.add(&sums, {columns});
//   if (!scratch.take()) ...    // too large to count, or there is no memory; no array is set
class Scratch {
 public:
  explicit Scratch(const Host& host) : host_(host) {}
  ~Scratch() {
    if (memory_) host_.release(host_.self, memory_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // An array with as many elements as the product of `sizes`; `take` points *array to it.
  template <class T>
  void add(T** array, std::initializer_list<int64_t> sizes) {
    int64_t bytes = sizeof(T);
    for (const int64_t size : sizes) fits_ &= !__builtin_mul_overflow(bytes, size, &bytes);
    if (parts_ == kMostParts || !fits_) {
      fits_ = false;
      return;
    }
    part_[parts_++] = {array, bytes_};
    fits_ &= !__builtin_add_overflow(bytes, kAlignment - 1, &bytes);
    fits_ &= !__builtin_add_overflow(bytes_, bytes / kAlignment * kAlignment, &bytes_);
  }

  bool take() {
    if (!fits_) return false;
    memory_ = host_.allocate(host_.self, static_cast<size_t>(bytes_) + kAlignment);
    if (!memory_) return false;
    const uintptr_t past = reinterpret_cast<uintptr_t>(memory_) % kAlignment;
    char* const start = static_cast<char*>(memory_) + (kAlignment - past) % kAlignment;
    for (int i = 0; i < parts_; ++i) {
      char* const at = start + part_[i].offset;
      std::memcpy(part_[i].array, &at, sizeof at);
    }
    return true;
  }

 private:
  static constexpr int64_t kAlignment = 64;
  static constexpr int kMostParts = 16;

  struct Part {
    void* array;  // T**
    int64_t offset;
  };

  const Host& host_;
  void* memory_ = nullptr;
  Part part_[kMostParts];
  int parts_ = 0;
  int64_t bytes_ = 0;
  bool fits_ = true;
};

}  // namespace edgesparse
