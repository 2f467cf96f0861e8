// edgesparse::FeedForward: two linear layers with a GELU between them, normalization before and the residual after,
// a few rows at a time: what lies between the two never exists as a whole.
#include <algorithm>
#include <cmath>
#include <new>

#include "isa/linear.h"
#include "ops/operators.h"
#include "ops/tensor.h"
#include "ops/workers.h"

namespace edgesparse {
namespace {

enum Input { kX, kUp, kUpScale, kUpBias, kGain, kShift, kDown, kDownScale, kDownBias, kResidual, kInputs };
constexpr InputRule kRules[kInputs] = {
    {"x", ort::kFloat, 3, 3},       {"up", ort::kInt8, 4, 4},          {"up_scale", ort::kFloat, 1, 1},
    {"up_bias", ort::kFloat, 1, 1}, {"gain", ort::kFloat, 1, 1},       {"shift", ort::kFloat, 1, 1},
    {"down", ort::kInt8, 4, 4},     {"down_scale", ort::kFloat, 1, 1}, {"down_bias", ort::kFloat, 1, 1},
    {"residual", ort::kFloat, 3, 3}};
constexpr int64_t kMostPieces = 16;

struct Kernel {
  explicit Kernel(const ort::Api* api) : ort(api) {}
  ort::Functions ort;
  ort::Allocator* allocator = nullptr;
  float epsilon = 0.0f;
};

ort::Status* check_layer(const ort::Functions& ort, const Tensor* in, int first, int64_t depth, LinearJob& job) {
  const int64_t* weight = in[first].shape;
  job.depth = depth;
  job.columns = weight[0] * kPanelKeys;
  job.parts = 1;
  if (depth == 0 || depth % kPanelKeys != 0 || depth > kLargestInt8Head)
    return refuse(ort, "Input `%s` must have rows that are a multiple of 16 from 16 to %lld; got %lld.",
                  kRules[first].name, (long long)kLargestInt8Head, (long long)depth);
  if (weight[0] == 0 || weight[1] != depth / 4 || weight[2] != kPanelKeys || weight[3] != 4)
    return refuse(ort, "Input `%s` must have shape [columns / 16, %lld, 16, 4]; got [%lld, %lld, %lld, %lld].",
                  kRules[first].name, (long long)(depth / 4), (long long)weight[0], (long long)weight[1],
                  (long long)weight[2], (long long)weight[3]);
  for (const int index : {first + 1, first + 2})
    if (in[index].shape[0] != job.columns)
      return refuse(ort, "Input `%s` must have %lld values; got %lld.", kRules[index].name, (long long)job.columns,
                    (long long)in[index].shape[0]);
  job.weight = in[first].as<int8_t>();
  job.scale = in[first + 1].as<float>();
  job.bias = in[first + 2].as<float>();
  return nullptr;
}

struct Work {
  LinearJob up, down;
  int64_t rows, pieces, room_bytes;
  char* rooms;  // of room_bytes, one a piece: rows between the two, then what each needs
};

void work_piece(void* data, size_t index) {
  const Work& work = *static_cast<Work*>(data);
  LinearJob up = work.up, down = work.down;
  float* const between = reinterpret_cast<float*>(work.rooms + static_cast<int64_t>(index) * work.room_bytes);
  up.scratch = down.scratch = between + kRows * up.columns;
  up.output[0] = between;
  down.input = between;
  for (int64_t row = static_cast<int64_t>(index) * kRows; row < work.rows; row += work.pieces * kRows) {
    up.rows = down.rows = std::min<int64_t>(kRows, work.rows - row);
    up.input = work.up.input + row * up.depth;
    down.residual = work.down.residual + row * down.columns;
    down.output[0] = work.down.output[0] + row * down.columns;
    chosen_table()->linear(up);
    chosen_table()->linear(down);
  }
}

ort::Status* compute(void* opaque, ort::KernelContext* context) {
  const Kernel& kernel = *static_cast<Kernel*>(opaque);
  const ort::Functions& ort = kernel.ort;
  Tensor in[kInputs];
  for (int i = 0; i < kInputs; ++i) EDGESPARSE_RETURN_IF(read_input(ort, context, i, kRules[i], &in[i]));
  Work work{};
  const int64_t* x = in[kX].shape;
  EDGESPARSE_RETURN_IF(check_layer(ort, in, kUp, x[2], work.up));
  EDGESPARSE_RETURN_IF(check_layer(ort, in, kDown, work.up.columns, work.down));
  for (const int index : {kGain, kShift})
    if (in[index].shape[0] != x[2])
      return refuse(ort, "Input `%s` must have %lld values; got %lld.", kRules[index].name, (long long)x[2],
                    (long long)in[index].shape[0]);
  const int64_t shape[] = {x[0], x[1], work.down.columns};
  if (!std::equal(shape, shape + 3, in[kResidual].shape))
    return refuse(ort, "Input `residual` must have the output's shape [%lld, %lld, %lld]; its last axis is %lld.",
                  (long long)shape[0], (long long)shape[1], (long long)shape[2],
                  (long long)in[kResidual].shape[2]);
  void* output = nullptr;
  EDGESPARSE_RETURN_IF(make_output(ort, context, 0, shape, 3, &output));
  work.rows = x[0] * x[1];
  if (work.rows == 0 || !output) return nullptr;
  work.up.input = in[kX].as<float>();
  work.up.gain = in[kGain].as<float>();
  work.up.shift = in[kShift].as<float>();
  work.up.epsilon = kernel.epsilon;
  work.up.gelu = true;
  work.down.residual = in[kResidual].as<float>();
  work.down.output[0] = static_cast<float*>(output);
  work.pieces = std::min(kMostPieces, (work.rows + kRows - 1) / kRows);
  work.room_bytes = round_up(kRows * work.up.columns * (int64_t)sizeof(float) +
                                 std::max(linear_scratch(work.up.depth), linear_scratch(work.down.depth)),
                             64);
  Scratch memory(ort, kernel.allocator);
  void* scratch = nullptr;
  const int64_t sums = work.up.columns + work.down.columns;
  EDGESPARSE_RETURN_IF(
      memory.take(static_cast<size_t>(work.pieces * work.room_bytes + sums * (int64_t)sizeof(int32_t)), &scratch));
  work.rooms = static_cast<char*>(scratch);
  auto* const up_sum = reinterpret_cast<int32_t*>(work.rooms + work.pieces * work.room_bytes);
  chosen_table()->sum_weights(work.up.weight, work.up.depth, work.up.columns, up_sum);
  chosen_table()->sum_weights(work.down.weight, work.down.depth, work.down.columns, up_sum + work.up.columns);
  work.up.weight_sum = up_sum;
  work.down.weight_sum = up_sum + work.up.columns;
  return run_pieces(ort, context, work_piece, static_cast<size_t>(work.pieces), &work);
}

void destroy(void* opaque) {
  Kernel* const kernel = static_cast<Kernel*>(opaque);
  if (kernel->allocator) kernel->ort.ReleaseAllocator(kernel->allocator);
  delete kernel;
}

ort::Status* create(const ort::CustomOp*, const ort::Api* api, const ort::KernelInfo* info, void** made) {
  const ort::Functions ort(api);
  Kernel* const kernel = new (std::nothrow) Kernel(api);
  if (!kernel) return ort.CreateStatus(ort::kFail, "There is not enough memory for `FeedForward`.");
  ort::Status* failed = ort.KernelInfoGetAttribute_float(info, "epsilon", &kernel->epsilon);
  if (!failed && (!(kernel->epsilon >= 0.0f) || !std::isfinite(kernel->epsilon)))
    failed = refuse(ort, "`epsilon` must be finite and at least 0; got %g.", kernel->epsilon);
  if (!failed) failed = ort.KernelInfoGetAllocator(info, ort::kDefaultMemory, &kernel->allocator);
  if (failed) {
    destroy(kernel);
    return failed;
  }
  *made = kernel;
  return nullptr;
}

}  // namespace

const ort::CustomOp* feed_forward_op() {
  static const ort::CustomOp op = [] {
    ort::CustomOp made{};
    made.version = ort::kInterfaceVersion;
    made.GetName = [](const ort::CustomOp*) { return "FeedForward"; };
    made.GetExecutionProviderType = [](const ort::CustomOp*) -> const char* { return nullptr; };
    made.GetInputTypeCount = [](const ort::CustomOp*) -> size_t { return kInputs; };
    made.GetOutputTypeCount = [](const ort::CustomOp*) -> size_t { return 1; };
    made.GetInputType = [](const ort::CustomOp*, size_t i) { return i < kInputs ? kRules[i].type : ort::kFloat; };
    made.GetOutputType = [](const ort::CustomOp*, size_t) { return ort::kFloat; };
    made.GetInputCharacteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
    made.GetOutputCharacteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
    made.GetInputMemoryType = [](const ort::CustomOp*, size_t) { return ort::kDefaultMemory; };
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
