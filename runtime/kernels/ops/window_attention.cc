// edgesparse::WindowAttention: exact attention of each token to a window of tokens of its own text.
#include <algorithm>
#include <cmath>

#include "attention/problem.h"
#include "ops/custom_op.h"
#include "ops/operators.h"

namespace edgesparse {
namespace {

enum Input { kQuery, kKey, kValue, kKeyMask, kStarts };

struct WindowAttention {
  static constexpr const char* kName = "WindowAttention";
  static constexpr InputRule kInputs[] = {{"query", ort::kFloat, 3, 3},
                                          {"key", ort::kFloat, 3, 3},
                                          {"value", ort::kFloat, 3, 3},
                                          {"key_mask", ort::kBool, 2, 2},
                                          {"starts", ort::kInt64, 1, 1}};
  static constexpr ort::ElementType kOutputs[] = {ort::kFloat};
  static constexpr InPlace kInPlace = {kQuery, 0};

  ort::Status* read_attributes(const Node& node);
  ort::Status* compute(const Call& call) const;

  int64_t num_heads = 0, kv_num_heads = 0, left_window = 0, right_window = 0;
  float scale = 0.0f;
};

ort::Status* WindowAttention::read_attributes(const Node& node) {
  EDGESPARSE_RETURN_IF(read_heads(node, &num_heads, &kv_num_heads));
  EDGESPARSE_RETURN_IF(read_integer(node, "left_window", -1, kLargest, &left_window));
  EDGESPARSE_RETURN_IF(read_integer(node, "right_window", -1, kLargest, &right_window));
  EDGESPARSE_RETURN_IF(node.ort.KernelInfoGetAttribute_float(node.info, "scale", &scale));
  if (!std::isfinite(scale)) return refuse(node.ort, "`scale` must be finite; got %g.", scale);
  return nullptr;
}

ort::Status* check_starts(const Call& call, int64_t length) {
  const int64_t* const starts = call.in[kStarts].as<int64_t>();
  int64_t before = 0;
  for (int64_t s = 0; s < call.in[kStarts].shape[0]; ++s) {
    if (starts[s] < before || starts[s] > length)
      return refuse(call.ort, "Input `starts` must rise from 0 to at most %lld; got %lld after %lld.",
                    (long long)length, (long long)starts[s], (long long)before);
    before = starts[s];
  }
  return nullptr;
}

ort::Status* check(const WindowAttention& kernel, const Call& call, Problem& p) {
  const ort::Functions& ort = call.ort;
  const Tensor* const in = call.in;
  const int64_t *query = in[kQuery].shape, *key = in[kKey].shape, *value = in[kValue].shape,
                *mask = in[kKeyMask].shape;
  const int64_t h = kernel.num_heads, g = kernel.kv_num_heads;
  const struct {
    const char* name;
    const int64_t* shape;
    int64_t heads;
  } given[] = {{"query", query, h}, {"key", key, g}, {"value", value, g}};
  for (const auto& x : given)
    if (x.shape[2] == 0 || x.shape[2] % x.heads != 0)
      return refuse(ort, "Input `%s` must have a last axis that is a multiple of its %lld heads; got %lld.",
                    x.name, (long long)x.heads, (long long)x.shape[2]);
  p.head_size = query[2] / h;
  p.value_size = value[2] / g;
  if (key[2] / g != p.head_size)
    return refuse(ort, "Inputs `query` and `key` must have one head size; got %lld and %lld.",
                  (long long)p.head_size, (long long)(key[2] / g));
  for (const int64_t* shape : {key, value, mask})
    if (shape[0] != query[0] || shape[1] != query[1])
      return refuse(
          ort, "Inputs `key`, `value`, `key_mask` must have the query's batch and length; got %lld, %lld.",
          (long long)shape[0], (long long)shape[1]);
  p.batch = query[0];
  p.query_tokens = p.key_tokens = query[1];
  p.heads = h;
  p.kv_heads = g;
  p.block_size = std::min<int64_t>(kRows, std::max<int64_t>(1, query[1]));
  p.scale = kernel.scale;
  p.query = in[kQuery].as<float>();
  p.key = in[kKey].as<float>();
  p.value = in[kValue].as<float>();
  p.key_mask = in[kKeyMask].as<uint8_t>();
  return check_starts(call, query[1]);
}

// A text's tokens see each other only: the span of each token is its window, cut to its text.
void find_spans(const WindowAttention& kernel, const Tensor& starts, int64_t length, int32_t* first,
                int32_t* last) {
  const int64_t* const begin = starts.as<int64_t>();
  int64_t text = 0, text_start = 0;  // `text` is the first start behind token i
  for (int64_t i = 0; i < length; ++i) {
    for (; text < starts.shape[0] && begin[text] <= i; ++text) text_start = begin[text];
    const int64_t text_end = text < starts.shape[0] ? begin[text] : length;
    const int64_t left = kernel.left_window < 0 ? 0 : i - kernel.left_window;
    const int64_t right = kernel.right_window < 0 ? length : i + kernel.right_window;
    first[i] = static_cast<int32_t>(std::max(text_start, left));
    last[i] = static_cast<int32_t>(std::min(text_end - 1, right));
  }
}

ort::Status* WindowAttention::compute(const Call& call) const {
  Problem p{};
  EDGESPARSE_RETURN_IF(check(*this, call, p));
  const int64_t output_shape[] = {p.batch, p.query_tokens, p.heads * p.value_size};
  EDGESPARSE_RETURN_IF(call.output(0, output_shape, 3, &p.output));
  // Sizes of an empty batch are free.
  if (p.batch == 0 || p.query_tokens == 0) return nullptr;
  Scratch scratch(call.host);
  int32_t *first = nullptr, *last = nullptr;
  scratch.add(&first, {p.query_tokens});
  scratch.add(&last, {p.query_tokens});
  if (!scratch.take()) return call.out_of_memory();
  find_spans(*this, call.in[kStarts], p.query_tokens, first, last);
  p.first_key = first;
  p.last_key = last;
  return call.fail_with(run(*chosen_table(), p, call.host));
}

}  // namespace

const ort::CustomOp* window_attention_op() { return custom_op<WindowAttention>(); }

}  // namespace edgesparse
