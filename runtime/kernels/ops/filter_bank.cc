// edgesparse::FilterBank: packs the filters into lanes, tokens go to isa/filter_bank.h.
// edgesparse::FilterBankLinear sends the features of a few tokens at a time on to isa/linear.h, so that they
// never exist as a whole.
#include "isa/filter_bank.h"

#include "ops/custom_op.h"
#include "ops/operators.h"
#include "ops/padded_window.h"
#include "ops/product.h"

namespace edgesparse {
namespace {

enum Input { kWindow, kReal, kWeight, kSlope, kOffset, kCenter, kSpread, kMatrix, kScale, kBias };
constexpr InputRule kBankRules[] = {{"window", ort::kFloat, 3, 3}, {"real", ort::kBool, 2, 2},
                                    {"weight", ort::kFloat, 4, 4}, {"slope", ort::kFloat, 2, 2},
                                    {"offset", ort::kFloat, 3, 3}, {"center", ort::kFloat, 1, 1},
                                    {"spread", ort::kFloat, 1, 1}};
constexpr int64_t kTokensPerPiece = 64;
static_assert(kTokensPerPiece <= kRows, "a piece is one LinearJob");
// Pieces that are worked on at a time, which bounds the features that exist.
constexpr int64_t kMostPieces = 8;

struct Bank {
  ort::Status* read_attributes(const Node& node);
  ort::Status* compute(const Call& call, const InputRule* product) const;

  int64_t patch = 0, before = 0;
  Dilations dilations;
};

struct FilterBank : Bank {
  static constexpr const char* kName = "FilterBank";
  static constexpr const InputRule (&kInputs)[7] = kBankRules;
  static constexpr ort::ElementType kOutputs[] = {ort::kFloat};
  ort::Status* compute(const Call& call) const { return Bank::compute(call, nullptr); }
};

struct FilterBankLinear : Bank {
  static constexpr const char* kName = "FilterBankLinear";
  static constexpr InputRule kInputs[] = {kBankRules[0],
                                          kBankRules[1],
                                          kBankRules[2],
                                          kBankRules[3],
                                          kBankRules[4],
                                          kBankRules[5],
                                          kBankRules[6],
                                          {"matrix", ort::kInt8, 4, 4},
                                          {"scale", ort::kFloat, 1, 1},
                                          {"bias", ort::kFloat, 1, 1}};
  static constexpr ort::ElementType kOutputs[] = {ort::kFloat};
  ort::Status* compute(const Call& call) const { return Bank::compute(call, kInputs); }
};

// The names that files made before November 2026 have for them.
struct KernelBank : FilterBank {
  static constexpr const char* kName = "KernelBank";
};
struct KernelBankLinear : FilterBankLinear {
  static constexpr const char* kName = "KernelBankLinear";
};

ort::Status* Bank::read_attributes(const Node& node) {
  EDGESPARSE_RETURN_IF(read_integer(node, "patch", 1, 1 << 20, &patch));
  EDGESPARSE_RETURN_IF(read_integer(node, "before", kBankLength / 2, kBankLength - 1, &before));
  return dilations.read(node);
}

ort::Status* check(const Bank& kernel, const Call& call, BankJob& job) {
  const ort::Functions& ort = call.ort;
  const Tensor* const in = call.in;
  const int64_t* weight = in[kWeight].shape;
  job.patch = kernel.patch;
  job.before = kernel.before;
  job.channels = in[kWindow].shape[1];
  job.dilation_count = static_cast<int64_t>(kernel.dilations.count);
  job.filters = weight[1];
  job.thresholds = in[kOffset].shape[2];
  if (weight[0] != job.dilation_count || weight[2] != job.channels || weight[3] != kBankLength)
    return refuse(ort,
                  "Input `weight` must have shape [%lld, filters, %lld, 9]; got [%lld, %lld, %lld, %lld].",
                  (long long)job.dilation_count, (long long)job.channels, (long long)weight[0],
                  (long long)weight[1], (long long)weight[2], (long long)weight[3]);
  if (in[kSlope].shape[0] != weight[0] || in[kSlope].shape[1] != weight[1] ||
      in[kOffset].shape[0] != weight[0] || in[kOffset].shape[1] != weight[1])
    return refuse(ort, "Inputs `slope` and `offset` must start with axes [%lld, %lld].", (long long)weight[0],
                  (long long)weight[1]);
  for (const int index : {kCenter, kSpread})
    EDGESPARSE_RETURN_IF(check_values(call, kBankRules[index], in[index], bank_features(job)));
  return check_real(call, in[kWindow], in[kReal]);
}

// Arrays of one call: the constants in lanes, and one entry's window.
struct Arrays {
  // Adds what `pack_constants` and `window.load` fill to the scratch of the call.
  void plan(const BankJob& job, const Tensor& given, int64_t tokens, int64_t largest_dilation,
            Scratch& scratch) {
    panels = job.dilation_count * bank_panels(job.filters);
    scratch.add(&weight, {panels, job.channels, kBankLength, kPanelKeys});
    scratch.add(&slope, {panels, kPanelKeys});
    scratch.add(&offset, {panels, job.thresholds, kPanelKeys});
    scratch.add(&inverse, {bank_features(job)});
    window.plan(given, tokens * job.patch, job.before * largest_dilation, scratch);
  }
  int64_t panels;
  float *weight, *slope, *offset, *inverse;
  PaddedWindow window;
};

void pack_constants(const Tensor* in, BankJob& job, const Arrays& to) {
  const int64_t panels = bank_panels(job.filters), k16 = kPanelKeys, taps = job.channels * kBankLength;
  std::fill(to.weight, to.weight + to.panels * taps * k16, 0.0f);
  std::fill(to.slope, to.slope + to.panels * k16, 0.0f);
  std::fill(to.offset, to.offset + to.panels * job.thresholds * k16, 0.0f);
  for (int64_t l = 0; l < job.dilation_count; ++l)
    for (int64_t k = 0; k < job.filters; ++k) {
      const int64_t panel = l * panels + k / k16, lane = k % k16, row = l * job.filters + k;
      to.slope[panel * k16 + lane] = in[kSlope].as<float>()[row];
      for (int64_t q = 0; q < job.thresholds; ++q)
        to.offset[(panel * job.thresholds + q) * k16 + lane] =
            in[kOffset].as<float>()[row * job.thresholds + q];
      for (int64_t i = 0; i < taps; ++i)
        to.weight[(panel * taps + i) * k16 + lane] = in[kWeight].as<float>()[row * taps + i];
    }
  for (int64_t f = 0; f < bank_features(job); ++f) to.inverse[f] = 1.0f / in[kSpread].as<float>()[f];
  job.weight = to.weight;
  job.slope = to.slope;
  job.offset = to.offset;
  job.inverse = to.inverse;
  job.center = in[kCenter].as<float>();
  job.window = to.window.first_step();
  job.window_stride = to.window.stride;
  job.real = to.window.real;
  to.window.clear();
}

struct Work {
  BankJob job;
  LinearJob product;  // depth 0: the features are the output
  int64_t tokens, pieces, room_floats;
  float* rooms;  // of room_floats, one per piece: features, then what `product` needs
};

// Piece i works through every `pieces`-th run of tokens.
void work_piece(void* data, size_t index) {
  const Work& work = *static_cast<Work*>(data);
  const int64_t features = bank_features(work.job), i = static_cast<int64_t>(index);
  float* const room = work.rooms + i * work.room_floats;
  for (int64_t first = i * kTokensPerPiece; first < work.tokens; first += work.pieces * kTokensPerPiece) {
    BankJob job = work.job;
    job.first_token = first;
    job.tokens = std::min(kTokensPerPiece, work.tokens - first);
    job.output = work.product.depth ? room : work.job.output + first * features;
    chosen_table()->bank(job);
    if (!work.product.depth) continue;
    LinearJob product = work.product;
    product.input = room;
    product.rows = job.tokens;
    product.output[0] = work.product.output[0] + first * product.columns;
    product.scratch = room + round_up(kTokensPerPiece * features, 16);
    chosen_table()->linear(product);
  }
}

ort::Status* Bank::compute(const Call& call, const InputRule* product_rules) const {
  const Tensor* const in = call.in;
  Work work{};
  BankJob& job = work.job;
  EDGESPARSE_RETURN_IF(check(*this, call, job));
  const int64_t batch = in[kWindow].shape[0], steps = in[kWindow].shape[2], features = bank_features(job);
  if (product_rules)
    EDGESPARSE_RETURN_IF(check_product(call, product_rules, kMatrix, features, work.product));
  work.tokens = (steps + patch - 1) / patch;
  const int64_t width = product_rules ? work.product.columns : features,
                shape[] = {batch, work.tokens, width};
  float* output = nullptr;
  EDGESPARSE_RETURN_IF(call.output(0, shape, 3, &output));
  if (batch == 0 || work.tokens == 0 || features == 0) return nullptr;

  const Dilations spans = dilations.within(steps);
  job.dilations = spans.values;
  work.pieces = (work.tokens + kTokensPerPiece - 1) / kTokensPerPiece;
  Scratch scratch(call.host);
  Arrays arrays{};
  arrays.plan(job, in[kWindow], work.tokens, spans.largest(), scratch);
  int32_t* sums = nullptr;
  if (product_rules) {
    work.pieces = std::min(work.pieces, kMostPieces);
    work.room_floats = round_up(kTokensPerPiece * features, 16) +
                       round_up(linear_scratch(features), 64) / (int64_t)sizeof(float);
    scratch.add(&work.rooms, {work.pieces, work.room_floats});
    scratch.add(&sums, {work.product.columns});
  }
  if (!scratch.take()) return call.out_of_memory();
  pack_constants(in, job, arrays);
  if (product_rules) {
    chosen_table()->sum_weights(work.product.weight, features, work.product.columns, sums);
    work.product.weight_sum = sums;
  }
  for (int64_t b = 0; b < batch; ++b) {
    arrays.window.load(in[kWindow], in[kReal], b);
    job.output = work.product.output[0] = output + b * work.tokens * width;
    EDGESPARSE_RETURN_IF(call.run(work_piece, work.pieces, &work));
  }
  return nullptr;
}

}  // namespace

const ort::CustomOp* filter_bank_op() { return custom_op<FilterBank>(); }
const ort::CustomOp* filter_bank_linear_op() { return custom_op<FilterBankLinear>(); }
const ort::CustomOp* kernel_bank_op() { return custom_op<KernelBank>(); }
const ort::CustomOp* kernel_bank_linear_op() { return custom_op<KernelBankLinear>(); }

}  // namespace edgesparse
