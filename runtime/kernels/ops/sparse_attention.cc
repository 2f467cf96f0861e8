// edgesparse::SparseAttention: checks what onnxruntime hands over and calls attention/run.cc.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "attention/problem.h"
#include "ops/operators.h"
#include "ops/status.h"

namespace edgesparse {
namespace {

enum Input { kQuery, kKey, kValue, kBlockScores, kTopP, kMaxBlocks, kKeyMask, kInputs };
constexpr const char* kInputNames[kInputs] = {"query", "key",        "value",   "block_scores",
                                              "top_p", "max_blocks", "key_mask"};
constexpr ort::ElementType kInputTypes[kInputs] = {ort::kFloat, ort::kFloat, ort::kFloat, ort::kFloat,
                                                   ort::kFloat, ort::kInt64, ort::kBool};
constexpr size_t kInputRanks[kInputs] = {3, 3, 3, 4, 1, 1, 2};
// Larger sizes could overflow an index; nobody's attention has them.
constexpr int64_t kLargest = int64_t{1} << 31;

struct Kernel {
  explicit Kernel(const ort::Api* api) : ort(api) {}
  ort::Functions ort;
  ort::Allocator* allocator = nullptr;
  int64_t num_heads = 0, kv_num_heads = 0, block_size = 0, window = 0, summaries = 0, is_causal = 0;
  float scale = 0.0f;
  bool int8 = false;
};

struct Tensor {
  int64_t shape[4];
  void* data;
};

ort::Status* read_precision(const ort::Functions& ort, const ort::KernelInfo* info, bool* int8) {
  char text[32] = "";
  size_t size = sizeof text;
  if (ort::Status* const failed = ort.KernelInfoGetAttribute_string(info, "precision", text, &size)) {
    ort.ReleaseStatus(failed);
    return refuse(ort, "`precision` must be float32 or int8; it is missing or longer than %zu characters.",
                  sizeof text);
  }
  *int8 = std::strcmp(text, "int8") == 0;
  if (!*int8 && std::strcmp(text, "float32") != 0)
    return refuse(ort, "`precision` must be float32 or int8; got %s.", text);
  return nullptr;
}

ort::Status* read_attributes(Kernel& kernel, const ort::KernelInfo* info) {
  const ort::Functions& ort = kernel.ort;
  const struct {
    const char* name;
    int64_t* to;
    int64_t least, most;
  } integers[] = {
      {"num_heads", &kernel.num_heads, 1, kLargest},    {"kv_num_heads", &kernel.kv_num_heads, 1, kLargest},
      {"block_size", &kernel.block_size, 1, INT64_MAX}, {"window", &kernel.window, 0, INT64_MAX},
      {"summaries", &kernel.summaries, 0, 1},           {"is_causal", &kernel.is_causal, 0, 1}};
  for (const auto& integer : integers) {
    EDGESPARSE_RETURN_IF(ort.KernelInfoGetAttribute_int64(info, integer.name, integer.to));
    if (*integer.to < integer.least || *integer.to > integer.most)
      return refuse(ort, "`%s` must be from %lld to %lld; got %lld.", integer.name, (long long)integer.least,
                    (long long)integer.most, (long long)*integer.to);
  }
  if (kernel.num_heads % kernel.kv_num_heads != 0)
    return refuse(ort, "`kv_num_heads` must divide `num_heads`; got %lld and %lld.",
                  (long long)kernel.kv_num_heads, (long long)kernel.num_heads);
  EDGESPARSE_RETURN_IF(ort.KernelInfoGetAttribute_float(info, "scale", &kernel.scale));
  if (!std::isfinite(kernel.scale)) return refuse(ort, "`scale` must be finite; got %g.", kernel.scale);
  return read_precision(ort, info, &kernel.int8);
}

ort::Status* read_input(const ort::Functions& ort, const ort::KernelContext* context, int index,
                        Tensor* tensor) {
  const char* const name = kInputNames[index];
  const ort::Value* value = nullptr;
  EDGESPARSE_RETURN_IF(ort.KernelContext_GetInput(context, index, &value));
  if (!value) return refuse(ort, "Input `%s` must be given; it is missing.", name);
  ort::TensorInfo* info = nullptr;
  EDGESPARSE_RETURN_IF(ort.GetTensorTypeAndShape(value, &info));
  size_t rank = 0;
  ort::ElementType type{};
  ort::Status* failed = ort.GetDimensionsCount(info, &rank);
  if (!failed) failed = ort.GetTensorElementType(info, &type);
  if (!failed && rank == kInputRanks[index]) failed = ort.GetDimensions(info, tensor->shape, rank);
  ort.ReleaseTensorTypeAndShapeInfo(info);
  if (failed) return failed;
  if (rank != kInputRanks[index])
    return refuse(ort, "Input `%s` must have rank %zu; got rank %zu.", name, kInputRanks[index], rank);
  if (type != kInputTypes[index])
    return refuse(ort, "Input `%s` must have element type %d; got %d.", name, (int)kInputTypes[index],
                  (int)type);
  for (size_t axis = 0; axis < rank; ++axis)
    if (tensor->shape[axis] < 0 || tensor->shape[axis] >= kLargest)
      return refuse(ort, "Input `%s` must have axes of 0 to 2147483647; got %lld.", name,
                    (long long)tensor->shape[axis]);
  return ort.GetTensorMutableData(const_cast<ort::Value*>(value), &tensor->data);
}

ort::Status* check(const Kernel& kernel, const Tensor* in, Problem& p) {
  const ort::Functions& ort = kernel.ort;
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
  p.query = static_cast<const float*>(in[kQuery].data);
  p.key = static_cast<const float*>(in[kKey].data);
  p.value = static_cast<const float*>(in[kValue].data);
  p.block_scores = static_cast<const float*>(in[kBlockScores].data);
  p.top_p = static_cast<const float*>(in[kTopP].data);
  p.max_blocks = *static_cast<const int64_t*>(in[kMaxBlocks].data);
  p.key_mask = static_cast<const uint8_t*>(in[kKeyMask].data);
  p.window = kernel.window;
  p.scale = kernel.scale;
  p.summaries = kernel.summaries != 0;
  p.causal = kernel.is_causal != 0;
  p.int8 = kernel.int8;
  return nullptr;
}

struct Call {
  const Kernel& kernel;
  ort::KernelContext* context;
};

const char* parallel(void* self, void (*task)(void*, size_t), size_t count, void* data) {
  const Call& call = *static_cast<Call*>(self);
  const ort::Functions& ort = call.kernel.ort;
  ort::Status* const failed = ort.KernelContext_ParallelFor(call.context, task, count, 0, data);
  if (!failed) return nullptr;
  ort.ReleaseStatus(failed);
  return "onnxruntime's threads did not run the attention.";
}

void* allocate(void* self, size_t bytes) {
  const Call& call = *static_cast<Call*>(self);
  void* memory = nullptr;
  ort::Status* const failed = call.kernel.ort.AllocatorAlloc(call.kernel.allocator, bytes, &memory);
  if (failed) call.kernel.ort.ReleaseStatus(failed);
  return failed ? nullptr : memory;
}

void release(void* self, void* memory) {
  const Call& call = *static_cast<Call*>(self);
  ort::Status* const failed = call.kernel.ort.AllocatorFree(call.kernel.allocator, memory);
  if (failed) call.kernel.ort.ReleaseStatus(failed);
}

ort::Status* make_output(const ort::Functions& ort, ort::KernelContext* context, size_t index,
                         const int64_t* shape, size_t rank, void** data) {
  ort::Value* value = nullptr;
  EDGESPARSE_RETURN_IF(ort.KernelContext_GetOutput(context, index, shape, rank, &value));
  return value ? ort.GetTensorMutableData(value, data) : nullptr;
}

ort::Status* compute(void* opaque, ort::KernelContext* context) {
  Kernel& kernel = *static_cast<Kernel*>(opaque);
  const ort::Functions& ort = kernel.ort;
  Tensor in[kInputs];
  for (int i = 0; i < kInputs; ++i) EDGESPARSE_RETURN_IF(read_input(ort, context, i, &in[i]));
  Problem p{};
  EDGESPARSE_RETURN_IF(check(kernel, in, p));

  void *output = nullptr, *selection = nullptr;
  const int64_t output_shape[] = {p.batch, p.query_tokens, p.heads * p.value_size};
  EDGESPARSE_RETURN_IF(make_output(ort, context, 0, output_shape, 3, &output));
  size_t outputs = 0;
  EDGESPARSE_RETURN_IF(ort.KernelContext_GetOutputCount(context, &outputs));
  if (outputs > 1) EDGESPARSE_RETURN_IF(make_output(ort, context, 1, in[kBlockScores].shape, 4, &selection));
  if (!output && p.batch * p.query_tokens > 0)
    return refuse(ort, "Output `output` must be used; it has no name.");
  p.output = static_cast<float*>(output);
  p.selection = static_cast<uint8_t*>(selection);

  Call call{kernel, context};
  const char* const error = run(*chosen_table(), p, Host{&call, parallel, allocate, release});
  return error ? ort.CreateStatus(ort::kFail, error) : nullptr;
}

void destroy(void* opaque) {
  Kernel* const kernel = static_cast<Kernel*>(opaque);
  if (kernel->allocator) kernel->ort.ReleaseAllocator(kernel->allocator);
  delete kernel;
}

ort::Status* create(const ort::CustomOp*, const ort::Api* api, const ort::KernelInfo* info, void** made) {
  const ort::Functions ort(api);
  Kernel* const kernel = new (std::nothrow) Kernel(api);
  if (!kernel) return ort.CreateStatus(ort::kFail, "There is not enough memory for `SparseAttention`.");
  ort::Status* failed = read_attributes(*kernel, info);
  if (!failed) failed = ort.KernelInfoGetAllocator(info, ort::kDefaultMemory, &kernel->allocator);
  if (failed) {
    destroy(kernel);
    return failed;
  }
  *made = kernel;
  return nullptr;
}

}  // namespace

const ort::CustomOp* sparse_attention_op() {
  static const ort::CustomOp op = [] {
    ort::CustomOp made{};
    made.version = ort::kInterfaceVersion;
    made.GetName = [](const ort::CustomOp*) { return "SparseAttention"; };
    made.GetExecutionProviderType = [](const ort::CustomOp*) -> const char* { return nullptr; };
    made.GetInputTypeCount = [](const ort::CustomOp*) -> size_t { return kInputs; };
    made.GetOutputTypeCount = [](const ort::CustomOp*) -> size_t { return 2; };
    made.GetInputType = [](const ort::CustomOp*, size_t i) {
      return i < kInputs ? kInputTypes[i] : ort::kFloat;
    };
    made.GetOutputType = [](const ort::CustomOp*, size_t i) { return i == 0 ? ort::kFloat : ort::kBool; };
    made.GetInputCharacteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
    made.GetOutputCharacteristic = [](const ort::CustomOp*, size_t i) {
      return i == 0 ? ort::kRequired : ort::kOptional;
    };
    made.GetInputMemoryType = [](const ort::CustomOp*, size_t) { return ort::kDefaultMemory; };
    // The output may take the place of the queries, where nothing else reads them later: a head's row is read to
    // its end before it is written, by the same thread.
    made.GetMayInplace = [](int** input, int** output) -> size_t {
      static int from = kQuery, to = 0;
      *input = &from;
      *output = &to;
      return 1;
    };
    made.ReleaseMayInplace = [](int*, int*) {};
    made.GetStartVersion = [](const ort::CustomOp*) { return 1; };
    made.GetEndVersion = [](const ort::CustomOp*) { return 1; };
    made.CreateKernelV2 = create;
    made.KernelComputeV2 = compute;
    made.KernelDestroy = destroy;
    return made;
  }();
  return &op;
}

}  // namespace edgesparse
