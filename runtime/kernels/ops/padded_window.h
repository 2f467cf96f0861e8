// What the operators over a window share: their dilations, and one entry of the batch with zeros around it.
#pragma once

#include <algorithm>

#include "ops/tensor.h"

namespace edgesparse {

struct Dilations {
  static constexpr int64_t kMost = 64;

  ort::Status* read(const Node& node) {
    const ort::Functions& ort = node.ort;
    count = kMost;
    ort::Status* const failed = ort.KernelInfoGetAttributeArray_int64(node.info, "dilations", values, &count);
    if (failed) ort.ReleaseStatus(failed);
    if (failed || count == 0)
      return refuse(ort, "`dilations` must hold 1 to %lld whole numbers.", (long long)kMost);
    for (size_t l = 0; l < count; ++l)
      if (values[l] < 1 || values[l] > (1 << 20))
        return refuse(ort, "`dilations` must be from 1 to 1048576; got %lld.", (long long)values[l]);
    return nullptr;
  }
  // For a window of so many steps. A tap that lies further away than the window is long meets zeros, however
  // far: a large dilation must not make the zeros around the window many times as long as the window.
  Dilations within(int64_t steps) const {
    Dilations spans = *this;
    for (size_t l = 0; l < count; ++l) spans.values[l] = std::min(values[l], steps);
    return spans;
  }
  int64_t largest() const { return *std::max_element(values, values + count); }

  int64_t values[kMost] = {};
  size_t count = 0;
};

// `real` [B, T] belongs to `window` [B, C, T].
inline ort::Status* check_real(const Call& call, const Tensor& window, const Tensor& real) {
  if (real.shape[0] == window.shape[0] && real.shape[1] == window.shape[2]) return nullptr;
  return refuse(call.ort, "Input `real` must have shape [%lld, %lld]; got [%lld, %lld].",
                (long long)window.shape[0], (long long)window.shape[2], (long long)real.shape[0],
                (long long)real.shape[1]);
}

struct PaddedWindow {
  // Adds its arrays to the scratch of the call; `counted_steps` may be more than the window has.
  void plan(const Tensor& given, int64_t counted_steps, int64_t zeros_around, Scratch& scratch) {
    channels = given.shape[1];
    steps = given.shape[2];
    padded_steps = counted_steps;
    reach = zeros_around;
    stride = steps + 2 * reach;
    scratch.add(&window, {channels, stride});
    scratch.add(&real, {padded_steps});
  }
  void clear() const {
    std::fill(window, window + channels * stride, 0.0f);
    std::fill(real, real + padded_steps, uint8_t{0});
  }
  // One entry of the batch; what lies around it stays zero.
  void load(const Tensor& given, const Tensor& given_real, int64_t entry) const {
    const float* from = given.as<float>() + entry * channels * steps;
    for (int64_t c = 0; c < channels; ++c, from += steps)
      std::copy(from, from + steps, window + c * stride + reach);
    const uint8_t* const counts = given_real.as<uint8_t>() + entry * steps;
    std::copy(counts, counts + steps, real);
  }
  const float* first_step() const { return window + reach; }

  int64_t channels, steps, padded_steps, reach, stride;
  float* window;
  uint8_t* real;
};

}  // namespace edgesparse
