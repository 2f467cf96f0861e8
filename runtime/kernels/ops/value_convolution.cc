// edgesparse::ValueConvolution: attention's output plus a depthwise convolution over the values.
#include <algorithm>

#include "isa/pooling.h"
#include "isa/table.h"
#include "ops/custom_op.h"
#include "ops/operators.h"

namespace edgesparse {
namespace {

enum Input { kMixed, kValue, kWeight };

struct ValueConvolution {
  static constexpr const char* kName = "ValueConvolution";
  static constexpr InputRule kInputs[] = {
      {"mixed", ort::kFloat, 3, 3}, {"value", ort::kFloat, 3, 3}, {"weight", ort::kFloat, 2, 2}};
  static constexpr ort::ElementType kOutputs[] = {ort::kFloat};
  static constexpr InPlace kInPlace = {kMixed, 0};

  ort::Status* read_attributes(const Node& node) {
    return read_integer(node, "before", 0, kLargest, &before);
  }
  ort::Status* compute(const Call& call) const;

  int64_t before = 0;
};

constexpr int64_t kTokensPerPiece = 128;

struct Work {
  MixJob job;
  int64_t pieces_per_entry;
};

void work_piece(void* data, size_t index) {
  const Work& work = *static_cast<Work*>(data);
  MixJob job = work.job;
  const int64_t i = static_cast<int64_t>(index), entry = i / work.pieces_per_entry;
  const int64_t skip = entry * job.all_tokens * job.width;
  job.mixed += skip;
  job.value += skip;
  job.output += skip;
  job.first_token = i % work.pieces_per_entry * kTokensPerPiece;
  job.end_token = std::min(job.first_token + kTokensPerPiece, job.all_tokens);
  chosen_table()->mix(job);
}

ort::Status* ValueConvolution::compute(const Call& call) const {
  const Tensor* const in = call.in;
  const int64_t *mixed = in[kMixed].shape, *value = in[kValue].shape, *weight = in[kWeight].shape;
  if (!std::equal(mixed, mixed + 3, value))
    return refuse(call.ort,
                  "Inputs `mixed` and `value` must have one shape; got [%lld, %lld, %lld] and "
                  "[%lld, %lld, %lld].",
                  (long long)mixed[0], (long long)mixed[1], (long long)mixed[2], (long long)value[0],
                  (long long)value[1], (long long)value[2]);
  if (weight[1] != mixed[2] || before >= std::max<int64_t>(weight[0], 1))
    return refuse(call.ort, "Input `weight` must have shape [taps above %lld, %lld]; got [%lld, %lld].",
                  (long long)before, (long long)mixed[2], (long long)weight[0], (long long)weight[1]);
  float* output = nullptr;
  EDGESPARSE_RETURN_IF(call.output(0, mixed, 3, &output));
  if (mixed[0] == 0 || mixed[1] == 0 || mixed[2] == 0) return nullptr;
  Work work{};
  work.job = {in[kMixed].as<float>(),
              in[kValue].as<float>(),
              in[kWeight].as<float>(),
              output,
              0,
              0,
              mixed[1],
              mixed[2],
              weight[0],
              before};
  work.pieces_per_entry = (mixed[1] + kTokensPerPiece - 1) / kTokensPerPiece;
  return call.run(work_piece, mixed[0] * work.pieces_per_entry, &work);
}

}  // namespace

const ort::CustomOp* value_convolution_op() { return custom_op<ValueConvolution>(); }

}  // namespace edgesparse
