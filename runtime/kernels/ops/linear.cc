// edgesparse::Linear and edgesparse::LinearSplit: checks what onnxruntime hands over, rows go to
// isa/linear.h.
#include <algorithm>

#include "ops/custom_op.h"
#include "ops/operators.h"
#include "ops/product.h"

namespace edgesparse {
namespace {

enum Input { kX, kWeight, kScale, kBias, kGain, kShift, kResidual };

struct Layer {
  static constexpr InputRule kInputs[] = {{"x", ort::kFloat, 2, 3},       {"weight", ort::kInt8, 4, 4},
                                          {"scale", ort::kFloat, 1, 1},   {"bias", ort::kFloat, 1, 1},
                                          {"gain", ort::kFloat, 1, 1},    {"shift", ort::kFloat, 1, 1},
                                          {"residual", ort::kFloat, 1, 3}};

  ort::Status* read_attributes(const Node& node) {
    EDGESPARSE_RETURN_IF(read_integer(node, "normalize", 0, 1, &normalize));
    EDGESPARSE_RETURN_IF(read_integer(node, "gelu", 0, 1, &gelu));
    return read_epsilon(node, &epsilon);
  }
  ort::Status* compute(const Call& call, int64_t parts) const;

  int64_t normalize = 0, gelu = 0;
  float epsilon = 0.0f;
};

struct Linear : Layer {
  static constexpr const char* kName = "Linear";
  static constexpr ort::ElementType kOutputs[] = {ort::kFloat};
  static constexpr InPlace kInPlace = {kResidual, 0};
  ort::Status* compute(const Call& call) const { return Layer::compute(call, 1); }
};

// The columns in three parts, each an output.
struct LinearSplit : Layer {
  static constexpr const char* kName = "LinearSplit";
  static constexpr ort::ElementType kOutputs[kMostParts] = {ort::kFloat, ort::kFloat, ort::kFloat};
  ort::Status* compute(const Call& call) const { return Layer::compute(call, kMostParts); }
};

constexpr int64_t kMostPieces = 32;

ort::Status* check(const Layer& layer, const Call& call, int64_t parts, LinearJob& job) {
  const ort::Functions& ort = call.ort;
  const Tensor* const in = call.in;
  const Tensor &x = in[kX], &residual = in[kResidual];
  EDGESPARSE_RETURN_IF(check_product(call, Layer::kInputs, kWeight, x.shape[x.rank - 1], job));
  job.parts = parts;
  if (job.columns % (parts * kPanelKeys) != 0)
    return refuse(ort,
                  "Input `weight` must have columns for %lld parts of a multiple of 16; got %lld columns.",
                  (long long)parts, (long long)job.columns);
  if (layer.normalize)
    for (const int index : {kGain, kShift})
      EDGESPARSE_RETURN_IF(check_values(call, Layer::kInputs[index], in[index], job.depth));
  bool is_sum = residual.rank == x.rank && residual.shape[x.rank - 1] == job.columns;
  for (size_t axis = 0; is_sum && axis + 1 < x.rank; ++axis) is_sum = residual.shape[axis] == x.shape[axis];
  const bool is_none = residual.rank == 1 && residual.shape[0] == 1 && residual.as<float>()[0] == 0.0f;
  if (!is_none && (!is_sum || parts > 1))
    return refuse(ort,
                  "Input `residual` must have the output's shape, or be one zero; its last axis is %lld.",
                  (long long)residual.shape[residual.rank - 1]);
  job.residual = is_none ? nullptr : residual.as<float>();
  job.input = x.as<float>();
  job.gain = layer.normalize ? in[kGain].as<float>() : nullptr;
  job.shift = in[kShift].as<float>();
  job.epsilon = layer.epsilon;
  job.gelu = layer.gelu != 0;
  return nullptr;
}

struct Work {
  LinearJob job;
  int64_t rows, pieces, stride;  // bytes of scratch per piece
  char* scratch;
};

void work_piece(void* data, size_t index) {
  const Work& work = *static_cast<Work*>(data);
  LinearJob job = work.job;
  job.scratch = work.scratch + static_cast<int64_t>(index) * work.stride;
  const int64_t part = job.columns / job.parts;
  for_runs_of_rows(index, work.pieces, work.rows, [&](int64_t row, int64_t count) {
    job.rows = count;
    job.input = work.job.input + row * job.depth;
    if (job.residual) job.residual = work.job.residual + row * job.columns;
    for (int64_t p = 0; p < job.parts; ++p) job.output[p] = work.job.output[p] + row * part;
    chosen_table()->linear(job);
  });
}

ort::Status* Layer::compute(const Call& call, int64_t parts) const {
  const Tensor& x = call.in[kX];
  Work work{};
  LinearJob& job = work.job;
  EDGESPARSE_RETURN_IF(check(*this, call, parts, job));
  int64_t shape[3];
  std::copy(x.shape, x.shape + x.rank, shape);
  shape[x.rank - 1] = job.columns / parts;
  for (int64_t p = 0; p < parts; ++p)
    EDGESPARSE_RETURN_IF(call.output(static_cast<size_t>(p), shape, x.rank, &job.output[p]));
  work.rows = x.rank == 3 ? x.shape[0] * x.shape[1] : x.shape[0];
  if (work.rows == 0) return nullptr;
  work.pieces = count_pieces(work.rows, kMostPieces);
  work.stride = round_up(linear_scratch(job.depth), 64);
  Scratch scratch(call.host);
  int32_t* sums = nullptr;
  scratch.add(&work.scratch, {work.pieces, work.stride});
  scratch.add(&sums, {job.columns});
  if (!scratch.take()) return call.out_of_memory();
  chosen_table()->sum_weights(job.weight, job.depth, job.columns, sums);
  job.weight_sum = sums;
  return call.run(work_piece, work.pieces, &work);
}

}  // namespace

const ort::CustomOp* linear_op() { return custom_op<Linear>(); }
const ort::CustomOp* linear_split_op() { return custom_op<LinearSplit>(); }

}  // namespace edgesparse
