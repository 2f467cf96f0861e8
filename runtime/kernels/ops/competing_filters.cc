// edgesparse::CompetingFilters: packs the groups into lanes; a dilation of 16 groups goes to
// isa/competing_filters.h.
#include "isa/competing_filters.h"

#include "isa/filter_bank.h"
#include "ops/custom_op.h"
#include "ops/operators.h"
#include "ops/padded_window.h"

namespace edgesparse {
namespace {

enum Input { kWindow, kReal, kWeight, kSharpness };

struct CompetingFilters {
  static constexpr const char* kName = "CompetingFilters";
  static constexpr InputRule kInputs[] = {{"window", ort::kFloat, 3, 3},
                                          {"real", ort::kBool, 2, 2},
                                          {"weight", ort::kFloat, 4, 4},
                                          {"sharpness", ort::kFloat, 2, 2}};
  static constexpr ort::ElementType kOutputs[] = {ort::kFloat};
  ort::Status* read_attributes(const Node& node) { return dilations.read(node); }
  ort::Status* compute(const Call& call) const;

  Dilations dilations;
};

struct Shape {
  int64_t batch, channels, steps, dilations, groups, panels;
  int64_t jobs() const { return dilations * panels; }
  int64_t weights() const { return channels * kBankLength * kGroup * kPanelKeys; }
  int64_t features() const { return dilations * 3 * groups * kGroup; }
};

ort::Status* check(const CompetingFilters& kernel, const Call& call, Shape& shape) {
  const Tensor* const in = call.in;
  const int64_t* weight = in[kWeight].shape;
  shape.batch = in[kWindow].shape[0];
  shape.channels = in[kWindow].shape[1];
  shape.steps = in[kWindow].shape[2];
  shape.dilations = static_cast<int64_t>(kernel.dilations.count);
  shape.groups = in[kSharpness].shape[1];
  shape.panels = (shape.groups + kPanelKeys - 1) / kPanelKeys;
  if (in[kSharpness].shape[0] != shape.dilations)
    return refuse(call.ort, "Input `sharpness` must have shape [%lld, groups]; got [%lld, %lld].",
                  (long long)shape.dilations, (long long)in[kSharpness].shape[0], (long long)shape.groups);
  if (weight[0] != shape.dilations || weight[1] != shape.groups * kGroup || weight[2] != shape.channels ||
      weight[3] != kBankLength)
    return refuse(call.ort,
                  "Input `weight` must have shape [%lld, %lld, %lld, 9]; got [%lld, %lld, %lld, %lld].",
                  (long long)shape.dilations, (long long)(shape.groups * kGroup), (long long)shape.channels,
                  (long long)weight[0], (long long)weight[1], (long long)weight[2], (long long)weight[3]);
  return check_real(call, in[kWindow], in[kReal]);
}

struct Arrays {
  void plan(const Shape& shape, Scratch& scratch) {
    scratch.add(&weight, {shape.jobs(), shape.weights()});
    scratch.add(&sharpness, {shape.jobs(), kPanelKeys});
    scratch.add(&sums, {shape.jobs(), kCompeteSums});
  }
  float *weight, *sharpness, *sums;
};

void pack_constants(const Tensor* in, const Shape& shape, const Arrays& to) {
  std::fill(to.weight, to.weight + shape.jobs() * shape.weights(), 0.0f);
  std::fill(to.sharpness, to.sharpness + shape.jobs() * kPanelKeys, 0.0f);
  const int64_t taps = shape.channels * kBankLength;
  for (int64_t l = 0; l < shape.dilations; ++l)
    for (int64_t g = 0; g < shape.groups; ++g) {
      const int64_t job = l * shape.panels + g / kPanelKeys, lane = g % kPanelKeys,
                    row = l * shape.groups + g;
      to.sharpness[job * kPanelKeys + lane] = in[kSharpness].as<float>()[row];
      const float* const filters = in[kWeight].as<float>() + row * kGroup * taps;
      float* const packed = to.weight + job * shape.weights() + lane;
      for (int64_t k = 0; k < kGroup; ++k)
        for (int64_t i = 0; i < taps; ++i) packed[(i * kGroup + k) * kPanelKeys] = filters[k * taps + i];
    }
}

struct Work {
  Shape shape;
  Arrays arrays;
  Dilations spans;
  CompeteJob job;
  float share;    // one over the real steps
  float* output;  // the entry's features
};

// Job i: a dilation and a panel of its groups, up to their places in the output.
void work_job(void* data, size_t index) {
  const Work& work = *static_cast<Work*>(data);
  const Shape& shape = work.shape;
  const int64_t i = static_cast<int64_t>(index), l = i / shape.panels, first = i % shape.panels * kPanelKeys;
  CompeteJob job = work.job;
  job.dilation = work.spans.values[l];
  job.weight = work.arrays.weight + i * shape.weights();
  job.sharpness = work.arrays.sharpness + i * kPanelKeys;
  job.sums = work.arrays.sums + i * kCompeteSums;
  chosen_table()->compete(job);
  for (int64_t part = 0; part < 3; ++part)
    for (int64_t lane = 0; lane < kPanelKeys && first + lane < shape.groups; ++lane)
      for (int64_t k = 0; k < kGroup; ++k)
        work.output[((l * 3 + part) * shape.groups + first + lane) * kGroup + k] =
            job.sums[(part * kGroup + k) * kPanelKeys + lane] * work.share;
}

ort::Status* CompetingFilters::compute(const Call& call) const {
  const Tensor* const in = call.in;
  Work work{};
  Shape& shape = work.shape;
  EDGESPARSE_RETURN_IF(check(*this, call, shape));
  const int64_t sizes[] = {shape.batch, shape.features()};
  float* output = nullptr;
  EDGESPARSE_RETURN_IF(call.output(0, sizes, 2, &output));
  if (shape.batch == 0 || shape.features() == 0) return nullptr;

  work.spans = dilations.within(shape.steps);
  Scratch scratch(call.host);
  PaddedWindow window{};
  window.plan(in[kWindow], shape.steps, kBankLength / 2 * work.spans.largest(), scratch);
  work.arrays.plan(shape, scratch);
  if (!scratch.take()) return call.out_of_memory();
  pack_constants(in, shape, work.arrays);
  window.clear();
  work.job.window = window.first_step();
  work.job.window_stride = window.stride;
  work.job.real = window.real;
  work.job.steps = shape.steps;
  work.job.channels = shape.channels;
  for (int64_t b = 0; b < shape.batch; ++b) {
    window.load(in[kWindow], in[kReal], b);
    int64_t count = 0;
    for (int64_t step = 0; step < shape.steps; ++step) count += window.real[step] != 0;
    work.share = 1.0f / static_cast<float>(count ? count : 1);
    work.output = output + b * shape.features();
    EDGESPARSE_RETURN_IF(call.run(work_job, shape.jobs(), &work));
  }
  return nullptr;
}

}  // namespace

const ort::CustomOp* competing_filters_op() { return custom_op<CompetingFilters>(); }

}  // namespace edgesparse
