// edgesparse::FilterBank: packs the kernels into lanes, tokens go to isa/bank.h. edgesparse::FilterBankLinear sends
// the features of a few tokens at a time on to isa/linear.h, so that they never exist as a whole.
#include <algorithm>
#include <cstring>
#include <new>

#include "isa/filter_bank.h"
#include "isa/linear.h"
#include "ops/operators.h"
#include "ops/tensor.h"
#include "ops/workers.h"

namespace edgesparse {
namespace {

enum Input { kWindow, kReal, kWeight, kSlope, kOffset, kCenter, kSpread, kMatrix, kScale, kBias, kInputs };
constexpr size_t kBankInputs = kMatrix;
constexpr InputRule kRules[kInputs] = {{"window", ort::kFloat, 3, 3}, {"real", ort::kBool, 2, 2},
                                       {"weight", ort::kFloat, 4, 4}, {"slope", ort::kFloat, 2, 2},
                                       {"offset", ort::kFloat, 3, 3}, {"center", ort::kFloat, 1, 1},
                                       {"spread", ort::kFloat, 1, 1}, {"matrix", ort::kInt8, 4, 4},
                                       {"scale", ort::kFloat, 1, 1},  {"bias", ort::kFloat, 1, 1}};
constexpr int64_t kMostDilations = 64;
constexpr int64_t kTokensAPiece = 64;
static_assert(kTokensAPiece <= kRows, "a piece is one LinearJob");
// Pieces that are worked on at a time, which bounds the features that exist.
constexpr int64_t kMostPieces = 8;

struct Kernel {
  explicit Kernel(const ort::Api* api) : ort(api) {}
  ort::Functions ort;
  ort::Allocator* allocator = nullptr;
  int64_t patch = 0, before = 0, dilations[kMostDilations] = {};
  size_t dilation_count = kMostDilations;
  bool linear = false;
};

ort::Status* read_attributes(Kernel& kernel, const ort::KernelInfo* info) {
  const ort::Functions& ort = kernel.ort;
  EDGESPARSE_RETURN_IF(read_integer(ort, info, "patch", 1, 1 << 20, &kernel.patch));
  EDGESPARSE_RETURN_IF(read_integer(ort, info, "before", kBankLength / 2, kBankLength - 1, &kernel.before));
  if (ort::Status* const failed =
          ort.KernelInfoGetAttributeArray_int64(info, "dilations", kernel.dilations, &kernel.dilation_count)) {
    ort.ReleaseStatus(failed);
    return refuse(ort, "`dilations` must hold 1 to %lld whole numbers.", (long long)kMostDilations);
  }
  for (size_t l = 0; l < kernel.dilation_count; ++l)
    if (kernel.dilations[l] < 1 || kernel.dilations[l] > (1 << 20))
      return refuse(ort, "`dilations` must be from 1 to 1048576; got %lld.", (long long)kernel.dilations[l]);
  return ort.KernelInfoGetAllocator(info, ort::kDefaultMemory, &kernel.allocator);
}

ort::Status* check(const Kernel& kernel, const Tensor* in, BankJob& job) {
  const ort::Functions& ort = kernel.ort;
  const int64_t* weight = in[kWeight].shape;
  job.patch = kernel.patch;
  job.before = kernel.before;
  job.channels = in[kWindow].shape[1];
  job.dilation_count = static_cast<int64_t>(kernel.dilation_count);
  job.dilations = kernel.dilations;
  job.kernels = weight[1];
  job.thresholds = in[kOffset].shape[2];
  if (weight[0] != job.dilation_count || weight[2] != job.channels || weight[3] != kBankLength)
    return refuse(ort, "Input `weight` must have shape [%lld, kernels, %lld, 9]; got [%lld, %lld, %lld, %lld].",
                  (long long)job.dilation_count, (long long)job.channels, (long long)weight[0],
                  (long long)weight[1], (long long)weight[2], (long long)weight[3]);
  if (in[kSlope].shape[0] != weight[0] || in[kSlope].shape[1] != weight[1] || in[kOffset].shape[0] != weight[0] ||
      in[kOffset].shape[1] != weight[1])
    return refuse(ort, "Inputs `slope` and `offset` must start with axes [%lld, %lld].", (long long)weight[0],
                  (long long)weight[1]);
  for (const int index : {kCenter, kSpread})
    if (in[index].shape[0] != bank_features(job))
      return refuse(ort, "Input `%s` must have %lld values; got %lld.", kRules[index].name,
                    (long long)bank_features(job), (long long)in[index].shape[0]);
  if (in[kReal].shape[0] != in[kWindow].shape[0] || in[kReal].shape[1] != in[kWindow].shape[2])
    return refuse(ort, "Input `real` must have shape [%lld, %lld]; got [%lld, %lld].",
                  (long long)in[kWindow].shape[0], (long long)in[kWindow].shape[2], (long long)in[kReal].shape[0],
                  (long long)in[kReal].shape[1]);
  return nullptr;
}

// What comes after the features: a LinearJob without rows.
ort::Status* check_linear(const Kernel& kernel, const Tensor* in, int64_t features, LinearJob& job) {
  const ort::Functions& ort = kernel.ort;
  const int64_t* matrix = in[kMatrix].shape;
  job.depth = features;
  job.columns = matrix[0] * kPanelKeys;
  job.parts = 1;
  if (features % kPanelKeys != 0 || features > kLargestInt8Head)
    return refuse(ort, "The features must be a multiple of 16 up to %lld; got %lld.", (long long)kLargestInt8Head,
                  (long long)features);
  if (matrix[0] == 0 || matrix[1] != features / 4 || matrix[2] != kPanelKeys || matrix[3] != 4)
    return refuse(ort, "Input `matrix` must have shape [columns / 16, %lld, 16, 4]; got [%lld, %lld, %lld, %lld].",
                  (long long)(features / 4), (long long)matrix[0], (long long)matrix[1], (long long)matrix[2],
                  (long long)matrix[3]);
  for (const int index : {kScale, kBias})
    if (in[index].shape[0] != job.columns)
      return refuse(ort, "Input `%s` must have %lld values; got %lld.", kRules[index].name, (long long)job.columns,
                    (long long)in[index].shape[0]);
  job.weight = in[kMatrix].as<int8_t>();
  job.scale = in[kScale].as<float>();
  job.bias = in[kBias].as<float>();
  return nullptr;
}

// The constants in lanes, and one entry's window with zeros around it.
struct Layout {
  Layout(const BankJob& job, int64_t tokens) {
    const int64_t panels = job.dilation_count * bank_panels(job.kernels) * kPanelKeys;
    reach = job.before * *std::max_element(job.dilations, job.dilations + job.dilation_count);
    steps = tokens * job.patch;
    weights = panels * job.channels * kBankLength;
    slopes = panels;
    offsets = panels * job.thresholds;
    inverses = bank_features(job);
    window = job.channels * (steps + 2 * reach);
  }
  int64_t floats() const { return weights + slopes + offsets + inverses + window; }
  int64_t reach, steps, weights, slopes, offsets, inverses, window;
};

void pack_constants(const Tensor* in, BankJob& job, const Layout& layout, float* to) {
  const int64_t panels = bank_panels(job.kernels), k16 = kPanelKeys;
  std::memset(to, 0, static_cast<size_t>(layout.floats() - layout.window) * sizeof(float));
  float *weight = to, *slope = weight + layout.weights, *offset = slope + layout.slopes,
        *inverse = offset + layout.offsets;
  for (int64_t l = 0; l < job.dilation_count; ++l)
    for (int64_t k = 0; k < job.kernels; ++k) {
      const int64_t panel = l * panels + k / k16, lane = k % k16, row = l * job.kernels + k;
      slope[panel * k16 + lane] = in[kSlope].as<float>()[row];
      for (int64_t q = 0; q < job.thresholds; ++q)
        offset[(panel * job.thresholds + q) * k16 + lane] = in[kOffset].as<float>()[row * job.thresholds + q];
      const int64_t taps = job.channels * kBankLength;
      for (int64_t i = 0; i < taps; ++i)
        weight[(panel * taps + i) * k16 + lane] = in[kWeight].as<float>()[row * taps + i];
    }
  for (int64_t f = 0; f < bank_features(job); ++f) inverse[f] = 1.0f / in[kSpread].as<float>()[f];
  job.weight = weight;
  job.slope = slope;
  job.offset = offset;
  job.inverse = inverse;
  job.center = in[kCenter].as<float>();
}

struct Work {
  BankJob job;
  LinearJob linear;  // depth 0: the features are the output
  int64_t tokens, pieces, room_floats;
  float* rooms;  // of room_floats, one a piece: features, then what `linear` needs
};

// Piece i works through every `pieces`-th run of tokens.
void work_piece(void* data, size_t index) {
  const Work& work = *static_cast<Work*>(data);
  const int64_t features = bank_features(work.job), i = static_cast<int64_t>(index);
  float* const room = work.rooms + i * work.room_floats;
  for (int64_t first = i * kTokensAPiece; first < work.tokens; first += work.pieces * kTokensAPiece) {
    BankJob job = work.job;
    job.first_token = first;
    job.tokens = std::min(kTokensAPiece, work.tokens - first);
    job.output = work.linear.depth ? room : work.job.output + first * features;
    chosen_table()->bank(job);
    if (!work.linear.depth) continue;
    LinearJob linear = work.linear;
    linear.input = room;
    linear.rows = job.tokens;
    linear.output[0] = work.linear.output[0] + first * linear.columns;
    linear.scratch = room + round_up(kTokensAPiece * features, 16);
    chosen_table()->linear(linear);
  }
}

ort::Status* compute(void* opaque, ort::KernelContext* context) {
  const Kernel& kernel = *static_cast<Kernel*>(opaque);
  const ort::Functions& ort = kernel.ort;
  Tensor in[kInputs];
  const size_t inputs = kernel.linear ? size_t{kInputs} : kBankInputs;
  for (size_t i = 0; i < inputs; ++i) EDGESPARSE_RETURN_IF(read_input(ort, context, i, kRules[i], &in[i]));
  Work work{};
  BankJob& job = work.job;
  EDGESPARSE_RETURN_IF(check(kernel, in, job));
  const int64_t batch = in[kWindow].shape[0], steps = in[kWindow].shape[2], features = bank_features(job);
  if (kernel.linear) EDGESPARSE_RETURN_IF(check_linear(kernel, in, features, work.linear));
  work.tokens = (steps + job.patch - 1) / job.patch;
  const int64_t width = kernel.linear ? work.linear.columns : features, shape[] = {batch, work.tokens, width};
  void* output = nullptr;
  EDGESPARSE_RETURN_IF(make_output(ort, context, 0, shape, 3, &output));
  if (batch * work.tokens * features == 0 || !output) return nullptr;

  work.pieces = (work.tokens + kTokensAPiece - 1) / kTokensAPiece;
  if (kernel.linear) {
    work.pieces = std::min(work.pieces, kMostPieces);
    work.room_floats =
        round_up(kTokensAPiece * features, 16) + round_up(linear_scratch(features), 64) / (int64_t)sizeof(float);
  }
  const Layout layout(job, work.tokens);
  const int64_t constants = layout.floats() - layout.window, stride = layout.steps + 2 * layout.reach;
  const int64_t rooms = work.pieces * work.room_floats, sums = kernel.linear ? work.linear.columns : 0;
  Scratch memory(ort, kernel.allocator);
  void* scratch = nullptr;
  const int64_t floats_in_all = rooms + sums + layout.floats();
  EDGESPARSE_RETURN_IF(memory.take(
      static_cast<size_t>(floats_in_all) * sizeof(float) + static_cast<size_t>(layout.steps), &scratch));
  work.rooms = static_cast<float*>(scratch);
  auto* const weight_sum = reinterpret_cast<int32_t*>(work.rooms + rooms);
  float* const floats = work.rooms + rooms + sums;
  pack_constants(in, job, layout, floats);
  if (kernel.linear) {
    chosen_table()->sum_weights(work.linear.weight, work.linear.depth, work.linear.columns, weight_sum);
    work.linear.weight_sum = weight_sum;
  }
  float* const window = floats + constants;
  auto* const real = reinterpret_cast<uint8_t*>(floats + layout.floats());
  std::memset(window, 0, static_cast<size_t>(layout.window) * sizeof(float));
  std::memset(real, 0, static_cast<size_t>(layout.steps));
  job.window = window + layout.reach;
  job.window_stride = stride;
  job.real = real;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t c = 0; c < job.channels; ++c)
      std::memcpy(window + c * stride + layout.reach, in[kWindow].as<float>() + (b * job.channels + c) * steps,
                  static_cast<size_t>(steps) * sizeof(float));
    std::memcpy(real, in[kReal].as<uint8_t>() + b * steps, static_cast<size_t>(steps));
    job.output = work.linear.output[0] = static_cast<float*>(output) + b * work.tokens * width;
    EDGESPARSE_RETURN_IF(run_pieces(ort, context, work_piece, static_cast<size_t>(work.pieces), &work));
  }
  return nullptr;
}

void destroy(void* opaque) {
  Kernel* const kernel = static_cast<Kernel*>(opaque);
  if (kernel->allocator) kernel->ort.ReleaseAllocator(kernel->allocator);
  delete kernel;
}

template <bool linear>
ort::Status* create(const ort::CustomOp*, const ort::Api* api, const ort::KernelInfo* info, void** made) {
  const ort::Functions ort(api);
  Kernel* const kernel = new (std::nothrow) Kernel(api);
  if (!kernel) return ort.CreateStatus(ort::kFail, "There is not enough memory for `FilterBank`.");
  kernel->linear = linear;
  if (ort::Status* const failed = read_attributes(*kernel, info)) {
    destroy(kernel);
    return failed;
  }
  *made = kernel;
  return nullptr;
}

template <bool linear>
ort::CustomOp describe(const char* (*name)(const ort::CustomOp*)) {
  ort::CustomOp made{};
  made.version = ort::kInterfaceVersion;
  made.GetName = name;
  made.GetExecutionProviderType = [](const ort::CustomOp*) -> const char* { return nullptr; };
  made.GetInputTypeCount = [](const ort::CustomOp*) -> size_t { return linear ? size_t{kInputs} : kBankInputs; };
  made.GetOutputTypeCount = [](const ort::CustomOp*) -> size_t { return 1; };
  made.GetInputType = [](const ort::CustomOp*, size_t i) { return i < kInputs ? kRules[i].type : ort::kFloat; };
  made.GetOutputType = [](const ort::CustomOp*, size_t) { return ort::kFloat; };
  made.GetInputCharacteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
  made.GetOutputCharacteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
  made.GetInputMemoryType = [](const ort::CustomOp*, size_t) { return ort::kDefaultMemory; };
  made.GetStartVersion = [](const ort::CustomOp*) { return 1; };
  made.GetEndVersion = [](const ort::CustomOp*) { return 1; };
  made.CreateKernelV2 = create<linear>;
  made.KernelComputeV2 = compute;
  made.KernelDestroy = destroy;
  return made;
}

}  // namespace

const ort::CustomOp* filter_bank_op() {
  static const ort::CustomOp op = describe<false>([](const ort::CustomOp*) { return "FilterBank"; });
  return &op;
}

const ort::CustomOp* filter_bank_linear_op() {
  static const ort::CustomOp op = describe<true>([](const ort::CustomOp*) { return "FilterBankLinear"; });
  return &op;
}

const ort::CustomOp* kernel_bank_op() {
  static const ort::CustomOp op = describe<false>([](const ort::CustomOp*) { return "KernelBank"; });
  return &op;
}

const ort::CustomOp* kernel_bank_linear_op() {
  static const ort::CustomOp op = describe<true>([](const ort::CustomOp*) { return "KernelBankLinear"; });
  return &op;
}

}  // namespace edgesparse
