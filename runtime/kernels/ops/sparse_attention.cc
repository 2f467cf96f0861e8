// edgesparse::SparseAttention: checks what onnxruntime hands over and calls attention/run.cc.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention/problem.h"
#include "ops/custom_op.h"
#include "ops/operators.h"

namespace edgesparse {
namespace {

enum Input { kQuery, kKey, kValue, kBlockScores, kTopP, kMaxBlocks, kKeyMask };

struct SparseAttention {
  static constexpr const char* kName = "SparseAttention";
  static constexpr InputRule kInputs[] = {{"query", ort::kFloat, 3, 3},  {"key", ort::kFloat, 3, 3},
                                          {"value", ort::kFloat, 3, 3},  {"block_scores", ort::kFloat, 4, 4},
                                          {"top_p", ort::kFloat, 1, 1},  {"max_blocks", ort::kInt64, 1, 1},
                                          {"key_mask", ort::kBool, 2, 2}};
  static constexpr ort::ElementType kOutputs[] = {ort::kFloat, ort::kBool};
  static constexpr size_t kRequiredOutputs = 1;
  static constexpr InPlace kInPlace = {kQuery, 0};

  ort::Status* read_attributes(const Node& node);
  ort::Status* compute(const Call& call) const;

  int64_t num_heads = 0, kv_num_heads = 0, block_size = 0, window = 0, summaries = 0, is_causal = 0;
  float scale = 0.0f;
  bool int8 = false;
};

ort::Status* read_precision(const Node& node, bool* int8) {
  const ort::Functions& ort = node.ort;
  char text[32] = "";
  size_t size = sizeof text;
  if (ort::Status* const failed = ort.KernelInfoGetAttribute_string(node.info, "precision", text, &size)) {
    ort.ReleaseStatus(failed);
    return refuse(ort, "`precision` must be float32 or int8; it is missing or longer than %zu characters.",
                  sizeof text);
  }
  *int8 = std::strcmp(text, "int8") == 0;
  if (!*int8 && std::strcmp(text, "float32") != 0)
    return refuse(ort, "`precision` must be float32 or int8; got %s.", text);
  return nullptr;
}

ort::Status* SparseAttention::read_attributes(const Node& node) {
  EDGESPARSE_RETURN_IF(read_heads(node, &num_heads, &kv_num_heads));
  EDGESPARSE_RETURN_IF(read_integer(node, "block_size", 1, INT64_MAX, &block_size));
  EDGESPARSE_RETURN_IF(read_integer(node, "window", 0, INT64_MAX, &window));
  EDGESPARSE_RETURN_IF(read_integer(node, "summaries", 0, 1, &summaries));
  EDGESPARSE_RETURN_IF(read_integer(node, "is_causal", 0, 1, &is_causal));
  EDGESPARSE_RETURN_IF(node.ort.KernelInfoGetAttribute_float(node.info, "scale", &scale));
  if (!std::isfinite(scale)) return refuse(node.ort, "`scale` must be finite; got %g.", scale);
  return read_precision(node, &int8);
}

ort::Status* check(const SparseAttention& kernel, const Call& call, Problem& p) {
  const ort::Functions& ort = call.ort;
  const Tensor* const in = call.in;
  const int64_t *query = in[kQuery].shape, *key = in[kKey].shape, *value = in[kValue].shape;
  const int64_t h = kernel.num_heads, g = kernel.kv_num_heads;
  const struct {
    const char* name;
    int64_t width, heads;
  } widths[] = {{"query", query[2], h}, {"key", key[2], g}, {"value", value[2], g}};
  for (const auto& w : widths)
    if (w.width == 0 || w.width % w.heads != 0)
      return refuse(ort, "Input `%s` must have a last axis that is a multiple of its %lld heads; got %lld.",
                    w.name, (long long)w.heads, (long long)w.width);
  p.head_size = query[2] / h;
  p.value_size = value[2] / g;
  if (key[2] / g != p.head_size)
    return refuse(ort, "Inputs `query` and `key` must have one head size; got %lld and %lld.",
                  (long long)p.head_size, (long long)(key[2] / g));
  if (kernel.int8 && p.head_size > kLargestInt8Head)
    return refuse(ort, "With precision int8, the head size must be at most %lld; got %lld. Use float32.",
                  (long long)kLargestInt8Head, (long long)p.head_size);
  if (key[0] != query[0] || value[0] != query[0] || in[kKeyMask].shape[0] != query[0])
    return refuse(
        ort, "Inputs `query`, `key`, `value`, `key_mask` must share their batch; got %lld, %lld, %lld, %lld.",
        (long long)query[0], (long long)key[0], (long long)value[0], (long long)in[kKeyMask].shape[0]);
  if (value[1] != key[1] || in[kKeyMask].shape[1] != key[1])
    return refuse(ort, "Inputs `key`, `value`, `key_mask` must have one length; got %lld, %lld, %lld.",
                  (long long)key[1], (long long)value[1], (long long)in[kKeyMask].shape[1]);
  if (kernel.is_causal && query[1] != key[1])
    return refuse(ort, "With `is_causal`, `query` and `key` must have one length; got %lld and %lld.",
                  (long long)query[1], (long long)key[1]);
  p.batch = query[0];
  p.query_tokens = query[1];
  p.key_tokens = key[1];
  p.heads = h;
  p.kv_heads = g;
  // A block longer than the input is the input; clamping keeps sums with block_size in range.
  p.block_size = std::min(kernel.block_size, std::max({p.query_tokens, p.key_tokens, int64_t{1}}));
  const int64_t* scores = in[kBlockScores].shape;
  if (scores[0] != p.batch || scores[1] != h || scores[2] != p.query_blocks() || scores[3] != p.key_blocks())
    return refuse(
        ort, "Input `block_scores` must have shape [%lld, %lld, %lld, %lld]; got [%lld, %lld, %lld, %lld].",
        (long long)p.batch, (long long)h, (long long)p.query_blocks(), (long long)p.key_blocks(),
        (long long)scores[0], (long long)scores[1], (long long)scores[2], (long long)scores[3]);
  const int64_t shares = in[kTopP].shape[0];
  if (shares != 1 && shares != h)
    return refuse(ort, "Input `top_p` must have 1 or %lld values; got %lld.", (long long)h,
                  (long long)shares);
  if (in[kMaxBlocks].shape[0] != 1)
    return refuse(ort, "Input `max_blocks` must have 1 value; got %lld.", (long long)in[kMaxBlocks].shape[0]);
  p.top_p_per_head = shares == h;
  p.query = in[kQuery].as<float>();
  p.key = in[kKey].as<float>();
  p.value = in[kValue].as<float>();
  p.block_scores = in[kBlockScores].as<float>();
  p.top_p = in[kTopP].as<float>();
  p.max_blocks = *in[kMaxBlocks].as<int64_t>();
  p.key_mask = in[kKeyMask].as<uint8_t>();
  p.window = kernel.window;
  p.scale = kernel.scale;
  p.summaries = kernel.summaries != 0;
  p.causal = kernel.is_causal != 0;
  p.int8 = kernel.int8;
  return nullptr;
}

// A head's row of queries is read to its end before the output's row is written, by the same thread.
ort::Status* SparseAttention::compute(const Call& call) const {
  Problem p{};
  EDGESPARSE_RETURN_IF(check(*this, call, p));
  const int64_t output_shape[] = {p.batch, p.query_tokens, p.heads * p.value_size};
  EDGESPARSE_RETURN_IF(call.output(0, output_shape, 3, &p.output));
  EDGESPARSE_RETURN_IF(call.output(1, call.in[kBlockScores].shape, 4, &p.selection, false));
  return call.fail_with(run(*chosen_table(), p, call.host));
}

}  // namespace

const ort::CustomOp* sparse_attention_op() { return custom_op<SparseAttention>(); }

}  // namespace edgesparse
