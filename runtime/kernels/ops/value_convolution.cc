// edgesparse::ValueConvolution: attention's output plus a depthwise convolution over the values.
#include <algorithm>
#include <new>

#include "isa/pooling.h"
#include "isa/table.h"
#include "ops/operators.h"
#include "ops/tensor.h"
#include "ops/workers.h"

namespace edgesparse {
namespace {

enum Input { kMixed, kValue, kWeight, kInputs };
constexpr InputRule kRules[kInputs] = {
    {"mixed", ort::kFloat, 3, 3}, {"value", ort::kFloat, 3, 3}, {"weight", ort::kFloat, 2, 2}};
constexpr int64_t kTokensAPiece = 128;

struct Kernel {
  explicit Kernel(const ort::Api* api) : ort(api) {}
  ort::Functions ort;
  int64_t before = 0;
};

struct Work {
  MixJob job;
  int64_t pieces_an_entry;
};

void work_piece(void* data, size_t index) {
  const Work& work = *static_cast<Work*>(data);
  MixJob job = work.job;
  const int64_t i = static_cast<int64_t>(index), entry = i / work.pieces_an_entry;
  const int64_t skip = entry * job.all_tokens * job.width;
  job.mixed += skip;
  job.value += skip;
  job.output += skip;
  job.first_token = i % work.pieces_an_entry * kTokensAPiece;
  job.end_token = std::min(job.first_token + kTokensAPiece, job.all_tokens);
  chosen_table()->mix(job);
}

ort::Status* compute(void* opaque, ort::KernelContext* context) {
  const Kernel& kernel = *static_cast<Kernel*>(opaque);
  const ort::Functions& ort = kernel.ort;
  Tensor in[kInputs];
  for (int i = 0; i < kInputs; ++i) EDGESPARSE_RETURN_IF(read_input(ort, context, i, kRules[i], &in[i]));
  const int64_t *mixed = in[kMixed].shape, *value = in[kValue].shape, *weight = in[kWeight].shape;
  if (!std::equal(mixed, mixed + 3, value))
    return refuse(ort, "Inputs `mixed` and `value` must have one shape; got [%lld, %lld, %lld] and "
                  "[%lld, %lld, %lld].", (long long)mixed[0], (long long)mixed[1], (long long)mixed[2],
                  (long long)value[0], (long long)value[1], (long long)value[2]);
  if (weight[1] != mixed[2] || kernel.before >= std::max<int64_t>(weight[0], 1))
    return refuse(ort, "Input `weight` must have shape [taps above %lld, %lld]; got [%lld, %lld].",
                  (long long)kernel.before, (long long)mixed[2], (long long)weight[0], (long long)weight[1]);
  void* output = nullptr;
  EDGESPARSE_RETURN_IF(make_output(ort, context, 0, mixed, 3, &output));
  if (mixed[0] * mixed[1] * mixed[2] == 0 || !output) return nullptr;
  Work work{};
  work.job = {in[kMixed].as<float>(), in[kValue].as<float>(), in[kWeight].as<float>(), static_cast<float*>(output),
              0, 0, mixed[1], mixed[2], weight[0], kernel.before};
  work.pieces_an_entry = (mixed[1] + kTokensAPiece - 1) / kTokensAPiece;
  return run_pieces(ort, context, work_piece, static_cast<size_t>(mixed[0] * work.pieces_an_entry), &work);
}

ort::Status* create(const ort::CustomOp*, const ort::Api* api, const ort::KernelInfo* info, void** made) {
  const ort::Functions ort(api);
  Kernel* const kernel = new (std::nothrow) Kernel(api);
  if (!kernel) return ort.CreateStatus(ort::kFail, "There is not enough memory for `ValueConvolution`.");
  if (ort::Status* const failed = read_integer(ort, info, "before", 0, kLargest, &kernel->before)) {
    delete kernel;
    return failed;
  }
  *made = kernel;
  return nullptr;
}

}  // namespace

const ort::CustomOp* value_convolution_op() {
  static const ort::CustomOp op = [] {
    ort::CustomOp made{};
    made.version = ort::kInterfaceVersion;
    made.GetName = [](const ort::CustomOp*) { return "ValueConvolution"; };
    made.GetExecutionProviderType = [](const ort::CustomOp*) -> const char* { return nullptr; };
    made.GetInputTypeCount = [](const ort::CustomOp*) -> size_t { return kInputs; };
    made.GetOutputTypeCount = [](const ort::CustomOp*) -> size_t { return 1; };
    made.GetInputType = [](const ort::CustomOp*, size_t) { return ort::kFloat; };
    made.GetOutputType = [](const ort::CustomOp*, size_t) { return ort::kFloat; };
    made.GetInputCharacteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
    made.GetOutputCharacteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
    made.GetInputMemoryType = [](const ort::CustomOp*, size_t) { return ort::kDefaultMemory; };
    // The output may take the place of `mixed`: an entry is read before it is written, by the same thread.
    made.GetMayInplace = [](int** input, int** output) -> size_t {
      static int from = kMixed, to = 0;
      *input = &from;
      *output = &to;
      return 1;
    };
    made.ReleaseMayInplace = [](int*, int*) {};
    made.GetStartVersion = [](const ort::CustomOp*) { return 1; };
    made.GetEndVersion = [](const ort::CustomOp*) { return 1; };
    made.CreateKernelV2 = create;
    made.KernelComputeV2 = compute;
    made.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
    return made;
  }();
  return &op;
}

}  // namespace edgesparse
