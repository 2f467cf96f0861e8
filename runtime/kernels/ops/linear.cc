// edgesparse::Linear and edgesparse::LinearSplit: checks what onnxruntime hands over, rows go to isa/linear.h.
#include <algorithm>
#include <cmath>
#include <new>

#include "isa/linear.h"
#include "ops/operators.h"
#include "ops/tensor.h"
#include "ops/workers.h"

namespace edgesparse {
namespace {

enum Input { kX, kWeight, kScale, kBias, kGain, kShift, kResidual, kInputs };
constexpr InputRule kRules[kInputs] = {{"x", ort::kFloat, 2, 3},     {"weight", ort::kInt8, 4, 4},
                                       {"scale", ort::kFloat, 1, 1}, {"bias", ort::kFloat, 1, 1},
                                       {"gain", ort::kFloat, 1, 1},  {"shift", ort::kFloat, 1, 1},
                                       {"residual", ort::kFloat, 1, 3}};

struct Kernel {
  explicit Kernel(const ort::Api* api) : ort(api) {}
  ort::Functions ort;
  ort::Allocator* allocator = nullptr;
  int64_t normalize = 0, gelu = 0, parts = 1;
  float epsilon = 0.0f;
};

ort::Status* read_attributes(Kernel& kernel, const ort::KernelInfo* info) {
  const ort::Functions& ort = kernel.ort;
  EDGESPARSE_RETURN_IF(read_integer(ort, info, "normalize", 0, 1, &kernel.normalize));
  EDGESPARSE_RETURN_IF(read_integer(ort, info, "gelu", 0, 1, &kernel.gelu));
  EDGESPARSE_RETURN_IF(ort.KernelInfoGetAttribute_float(info, "epsilon", &kernel.epsilon));
  if (!(kernel.epsilon >= 0.0f) || !std::isfinite(kernel.epsilon))
    return refuse(ort, "`epsilon` must be finite and at least 0; got %g.", kernel.epsilon);
  return ort.KernelInfoGetAllocator(info, ort::kDefaultMemory, &kernel.allocator);
}

ort::Status* check(const Kernel& kernel, const Tensor* in, LinearJob& job, int64_t& rows) {
  const ort::Functions& ort = kernel.ort;
  const Tensor &x = in[kX], &weight = in[kWeight], &residual = in[kResidual];
  job.depth = x.shape[x.rank - 1];
  job.columns = weight.shape[0] * kPanelKeys;
  rows = x.rank == 3 ? x.shape[0] * x.shape[1] : x.shape[0];
  if (job.depth == 0 || job.depth % kPanelKeys != 0 || job.depth > kLargestInt8Head)
    return refuse(ort, "Input `x` must have a last axis that is a multiple of 16 from 16 to %lld; got %lld.",
                  (long long)kLargestInt8Head, (long long)job.depth);
  if (weight.shape[0] == 0 || weight.shape[1] != job.depth / 4 || weight.shape[2] != kPanelKeys ||
      weight.shape[3] != 4)
    return refuse(ort, "Input `weight` must have shape [columns / 16, %lld, 16, 4]; got [%lld, %lld, %lld, %lld].",
                  (long long)(job.depth / 4), (long long)weight.shape[0], (long long)weight.shape[1],
                  (long long)weight.shape[2], (long long)weight.shape[3]);
  if (job.columns % (kernel.parts * kPanelKeys) != 0)
    return refuse(ort, "Input `weight` must have columns for %lld parts of a multiple of 16; got %lld columns.",
                  (long long)kernel.parts, (long long)job.columns);
  for (const int index : {kScale, kBias})
    if (in[index].shape[0] != job.columns)
      return refuse(ort, "Input `%s` must have %lld values; got %lld.", kRules[index].name, (long long)job.columns,
                    (long long)in[index].shape[0]);
  for (const int index : {kGain, kShift})
    if (kernel.normalize && in[index].shape[0] != job.depth)
      return refuse(ort, "Input `%s` must have %lld values; got %lld.", kRules[index].name, (long long)job.depth,
                    (long long)in[index].shape[0]);
  bool is_sum = residual.rank == x.rank && residual.shape[x.rank - 1] == job.columns;
  for (size_t axis = 0; is_sum && axis + 1 < x.rank; ++axis) is_sum = residual.shape[axis] == x.shape[axis];
  const bool is_none = residual.rank == 1 && residual.shape[0] == 1 && residual.as<float>()[0] == 0.0f;
  if (!is_none && (!is_sum || kernel.parts > 1))
    return refuse(ort, "Input `residual` must have the output's shape, or be one zero; its last axis is %lld.",
                  (long long)residual.shape[residual.rank - 1]);
  job.residual = is_none ? nullptr : residual.as<float>();
  job.input = x.as<float>();
  job.weight = weight.as<int8_t>();
  job.scale = in[kScale].as<float>();
  job.bias = in[kBias].as<float>();
  job.gain = kernel.normalize ? in[kGain].as<float>() : nullptr;
  job.shift = in[kShift].as<float>();
  job.epsilon = kernel.epsilon;
  job.gelu = kernel.gelu != 0;
  job.parts = kernel.parts;
  return nullptr;
}

struct Work {
  LinearJob job;
  int64_t rows, pieces, stride;  // bytes of scratch a piece
  char* scratch;
};

// Piece i works through every `pieces`-th run of kRows rows, so scratch is bounded by the pieces.
void work_piece(void* data, size_t index) {
  const Work& work = *static_cast<Work*>(data);
  LinearJob job = work.job;
  job.scratch = work.scratch + static_cast<int64_t>(index) * work.stride;
  const int64_t part = job.columns / job.parts;
  for (int64_t row = static_cast<int64_t>(index) * kRows; row < work.rows; row += work.pieces * kRows) {
    job.rows = std::min<int64_t>(kRows, work.rows - row);
    job.input = work.job.input + row * job.depth;
    if (job.residual) job.residual = work.job.residual + row * job.columns;
    for (int64_t p = 0; p < job.parts; ++p) job.output[p] = work.job.output[p] + row * part;
    chosen_table()->linear(job);
  }
}

ort::Status* compute(void* opaque, ort::KernelContext* context) {
  const Kernel& kernel = *static_cast<Kernel*>(opaque);
  const ort::Functions& ort = kernel.ort;
  Tensor in[kInputs];
  for (int i = 0; i < kInputs; ++i) EDGESPARSE_RETURN_IF(read_input(ort, context, i, kRules[i], &in[i]));
  Work work{};
  EDGESPARSE_RETURN_IF(check(kernel, in, work.job, work.rows));
  int64_t shape[3];
  std::copy(in[kX].shape, in[kX].shape + in[kX].rank, shape);
  shape[in[kX].rank - 1] = work.job.columns / kernel.parts;
  for (int64_t p = 0; p < kernel.parts; ++p) {
    void* output = nullptr;
    EDGESPARSE_RETURN_IF(make_output(ort, context, p, shape, in[kX].rank, &output));
    work.job.output[p] = static_cast<float*>(output);
    if (!output && work.rows > 0) return refuse(ort, "Output %lld must be used; it has no name.", (long long)p);
  }
  if (work.rows == 0) return nullptr;
  // More pieces than threads, so that an unlucky thread does not hold up the others.
  work.pieces = std::min<int64_t>(32, (work.rows + kRows - 1) / kRows);
  work.stride = round_up(linear_scratch(work.job.depth), 64);
  Scratch memory(ort, kernel.allocator);
  void* scratch = nullptr;
  EDGESPARSE_RETURN_IF(
      memory.take(static_cast<size_t>(work.pieces * work.stride + work.job.columns * 4), &scratch));
  work.scratch = static_cast<char*>(scratch);
  auto* const sums = reinterpret_cast<int32_t*>(work.scratch + work.pieces * work.stride);
  chosen_table()->sum_weights(work.job.weight, work.job.depth, work.job.columns, sums);
  work.job.weight_sum = sums;
  return run_pieces(ort, context, work_piece, static_cast<size_t>(work.pieces), &work);
}

void destroy(void* opaque) {
  Kernel* const kernel = static_cast<Kernel*>(opaque);
  if (kernel->allocator) kernel->ort.ReleaseAllocator(kernel->allocator);
  delete kernel;
}

template <int parts>
ort::Status* create(const ort::CustomOp*, const ort::Api* api, const ort::KernelInfo* info, void** made) {
  const ort::Functions ort(api);
  Kernel* const kernel = new (std::nothrow) Kernel(api);
  if (!kernel) return ort.CreateStatus(ort::kFail, "There is not enough memory for `Linear`.");
  kernel->parts = parts;
  if (ort::Status* const failed = read_attributes(*kernel, info)) {
    destroy(kernel);
    return failed;
  }
  *made = kernel;
  return nullptr;
}

template <int parts>
ort::CustomOp describe() {
  ort::CustomOp made{};
  made.version = ort::kInterfaceVersion;
  made.GetName = [](const ort::CustomOp*) { return parts == 1 ? "Linear" : "LinearSplit"; };
  made.GetExecutionProviderType = [](const ort::CustomOp*) -> const char* { return nullptr; };
  made.GetInputTypeCount = [](const ort::CustomOp*) -> size_t { return kInputs; };
  made.GetOutputTypeCount = [](const ort::CustomOp*) -> size_t { return parts; };
  made.GetInputType = [](const ort::CustomOp*, size_t i) { return i < kInputs ? kRules[i].type : ort::kFloat; };
  made.GetOutputType = [](const ort::CustomOp*, size_t) { return ort::kFloat; };
  made.GetInputCharacteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
  made.GetOutputCharacteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
  made.GetInputMemoryType = [](const ort::CustomOp*, size_t) { return ort::kDefaultMemory; };
  // The output may take the residual's place: an entry is read before it is written, by the same thread.
  if (parts == 1) {
    made.GetMayInplace = [](int** input, int** output) -> size_t {
      static int from = kResidual, to = 0;
      *input = &from;
      *output = &to;
      return 1;
    };
    made.ReleaseMayInplace = [](int*, int*) {};
  }
  made.GetStartVersion = [](const ort::CustomOp*) { return 1; };
  made.GetEndVersion = [](const ort::CustomOp*) { return 1; };
  made.CreateKernelV2 = create<parts>;
  made.KernelComputeV2 = compute;
  made.KernelDestroy = destroy;
  return made;
}

}  // namespace

const ort::CustomOp* linear_op() {
  static const ort::CustomOp op = describe<1>();
  return &op;
}

const ort::CustomOp* linear_split_op() {
  static const ort::CustomOp op = describe<kMostParts>();
  return &op;
}

}  // namespace edgesparse
