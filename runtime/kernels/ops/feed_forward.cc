// edgesparse::FeedForward: two linear layers with a GELU between them, normalization before and the residual
// after, a few rows at a time: what lies between the two never exists as a whole.
#include <algorithm>

#include "ops/custom_op.h"
#include "ops/operators.h"
#include "ops/product.h"

namespace edgesparse {
namespace {

enum Input { kX, kUp, kUpScale, kUpBias, kGain, kShift, kDown, kDownScale, kDownBias, kResidual };

struct FeedForward {
  static constexpr const char* kName = "FeedForward";
  static constexpr InputRule kInputs[] = {{"x", ort::kFloat, 3, 3},         {"up", ort::kInt8, 4, 4},
                                          {"up_scale", ort::kFloat, 1, 1},  {"up_bias", ort::kFloat, 1, 1},
                                          {"gain", ort::kFloat, 1, 1},      {"shift", ort::kFloat, 1, 1},
                                          {"down", ort::kInt8, 4, 4},       {"down_scale", ort::kFloat, 1, 1},
                                          {"down_bias", ort::kFloat, 1, 1}, {"residual", ort::kFloat, 3, 3}};
  static constexpr ort::ElementType kOutputs[] = {ort::kFloat};

  ort::Status* read_attributes(const Node& node) { return read_epsilon(node, &epsilon); }
  ort::Status* compute(const Call& call) const;

  float epsilon = 0.0f;
};

constexpr int64_t kMostPieces = 16;

struct Work {
  LinearJob up, down;
  int64_t rows, pieces, room_bytes;
  char* rooms;  // of room_bytes, one per piece: rows between the two, then what each needs
};

void work_piece(void* data, size_t index) {
  const Work& work = *static_cast<Work*>(data);
  LinearJob up = work.up, down = work.down;
  float* const between = reinterpret_cast<float*>(work.rooms + static_cast<int64_t>(index) * work.room_bytes);
  up.scratch = down.scratch = between + kRows * up.columns;
  up.output[0] = between;
  down.input = between;
  for_runs_of_rows(index, work.pieces, work.rows, [&](int64_t row, int64_t count) {
    up.rows = down.rows = count;
    up.input = work.up.input + row * up.depth;
    down.residual = work.down.residual + row * down.columns;
    down.output[0] = work.down.output[0] + row * down.columns;
    chosen_table()->linear(up);
    chosen_table()->linear(down);
  });
}

ort::Status* FeedForward::compute(const Call& call) const {
  const Tensor* const in = call.in;
  Work work{};
  LinearJob &up = work.up, &down = work.down;
  const int64_t* x = in[kX].shape;
  EDGESPARSE_RETURN_IF(check_product(call, kInputs, kUp, x[2], up));
  EDGESPARSE_RETURN_IF(check_product(call, kInputs, kDown, up.columns, down));
  for (const int index : {kGain, kShift})
    EDGESPARSE_RETURN_IF(check_values(call, kInputs[index], in[index], x[2]));
  const int64_t shape[] = {x[0], x[1], down.columns};
  if (!std::equal(shape, shape + 3, in[kResidual].shape))
    return refuse(
        call.ort, "Input `residual` must have the output's shape [%lld, %lld, %lld]; its last axis is %lld.",
        (long long)shape[0], (long long)shape[1], (long long)shape[2], (long long)in[kResidual].shape[2]);
  EDGESPARSE_RETURN_IF(call.output(0, shape, 3, &down.output[0]));
  work.rows = x[0] * x[1];
  if (work.rows == 0) return nullptr;
  up.input = in[kX].as<float>();
  up.gain = in[kGain].as<float>();
  up.shift = in[kShift].as<float>();
  up.epsilon = epsilon;
  up.gelu = true;
  down.residual = in[kResidual].as<float>();
  work.pieces = count_pieces(work.rows, kMostPieces);
  work.room_bytes = round_up(kRows * up.columns * (int64_t)sizeof(float) +
                                 std::max(linear_scratch(up.depth), linear_scratch(down.depth)),
                             64);
  Scratch scratch(call.host);
  int32_t *up_sums = nullptr, *down_sums = nullptr;
  scratch.add(&work.rooms, {work.pieces, work.room_bytes});
  scratch.add(&up_sums, {up.columns});
  scratch.add(&down_sums, {down.columns});
  if (!scratch.take()) return call.out_of_memory();
  chosen_table()->sum_weights(up.weight, up.depth, up.columns, up_sums);
  chosen_table()->sum_weights(down.weight, down.depth, down.columns, down_sums);
  up.weight_sum = up_sums;
  down.weight_sum = down_sums;
  return call.run(work_piece, work.pieces, &work);
}

}  // namespace

const ort::CustomOp* feed_forward_op() { return custom_op<FeedForward>(); }

}  // namespace edgesparse
