// edgesparse::TokenStep: one token of a causal model, from the tokens before it, in one call. Everything lies
// in caches and takes microseconds, so it runs on the calling thread alone.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "isa/pooling.h"
#include "isa/table.h"
#include "ops/custom_op.h"
#include "ops/operators.h"
#include "ops/padded_window.h"

namespace edgesparse {
namespace {

enum Input {
  kSamples,
  kHistory,
  kTokenSum,
  kTokenCount,
  kValueTail,
  kBlockKey,
  kBlockValue,
  kPastKey,
  kPastValue,
  kPastBias,
  kParameters
};
constexpr int64_t kTaps = 9;
// No size of a model is larger, so that no product of sizes leaves int64.
constexpr int64_t kLargestSize = 1 << 16;

struct TokenStep {
  static constexpr const char* kName = "TokenStep";
  static constexpr InputRule kInputs[] = {
      {"samples", ort::kFloat, 2, 2},     {"history", ort::kFloat, 2, 2},
      {"token_sum", ort::kFloat, 1, 1},   {"token_count", ort::kFloat, 1, 1},
      {"value_tail", ort::kFloat, 3, 3},  {"block_key", ort::kFloat, 4, 4},
      {"block_value", ort::kFloat, 4, 4}, {"past_key", ort::kFloat, 4, 4},
      {"past_value", ort::kFloat, 4, 4},  {"past_bias", ort::kFloat, 4, 4},
      {"parameters", ort::kFloat, 1, 1}};
  static constexpr ort::ElementType kOutputs[] = {ort::kFloat, ort::kFloat, ort::kFloat,
                                                  ort::kFloat, ort::kFloat, ort::kFloat};

  ort::Status* read_attributes(const Node& node);
  ort::Status* compute(const Call& call) const;

  int64_t num_heads = 0, kv_num_heads = 0, filters = 0, thresholds = 0, inner = 0, outputs = 0,
          value_filter = 0;
  int64_t look_back = 0;
  Dilations dilations;
  float epsilon = 0.0f, scale = 0.0f;
};

ort::Status* TokenStep::read_attributes(const Node& node) {
  EDGESPARSE_RETURN_IF(read_heads(node, &num_heads, &kv_num_heads));
  const struct {
    const char* name;
    int64_t least, *to;
  } sizes[] = {{"filters", 1, &filters},
               {"thresholds", 1, &thresholds},
               {"inner", 1, &inner},
               {"outputs", 1, &outputs},
               {"value_filter", 0, &value_filter}};
  for (const auto& size : sizes)
    EDGESPARSE_RETURN_IF(read_integer(node, size.name, size.least, kLargestSize, size.to));
  EDGESPARSE_RETURN_IF(read_epsilon(node, &epsilon));
  EDGESPARSE_RETURN_IF(node.ort.KernelInfoGetAttribute_float(node.info, "scale", &scale));
  EDGESPARSE_RETURN_IF(dilations.read(node));
  for (size_t l = 0; l < dilations.count; ++l)
    look_back = std::max(look_back, (kTaps - 1) * dilations.values[l]);
  return nullptr;
}

// Hands out the parts of `parameters`, one behind the other; from a null start it only counts.
class Reader {
 public:
  explicit Reader(const float* at) : at_(at) {}
  const float* take(int64_t count) {
    taken_ += count;
    const float* const from = at_;
    if (at_) at_ += count;
    return from;
  }
  int64_t taken() const { return taken_; }

 private:
  const float* at_;
  int64_t taken_ = 0;
};

struct Norm {
  const float *gain, *shift;
};
struct Product {
  const float *weight, *bias;  // [depth, columns], [columns]
};

// C channels, p samples, W width, L layers, H and G query and key heads, D head size, r tokens of this block,
// S tokens of the blocks before, F features.
struct Work {
  const TokenStep* kernel;
  const Table* table;
  const float *samples, *history, *token_sum, *token_count, *tail, *block_key, *block_value, *past_key,
      *past_value, *past_bias, *parameters;
  float *logits, *normal, *token, *query, *key, *value;
  float *seen, *response, *lift, *sum, *features, *x, *row, *wide, *mixed, *scores;
  int64_t channels, samples_count, width, layers, heads, groups, size, own, past, feature_count;

  int64_t dilation_count() const { return static_cast<int64_t>(kernel->dilations.count); }
  int64_t key_width() const { return groups * size; }
  int64_t in_width() const { return width + 2 * key_width(); }
  Norm take_norm(Reader& reader) const {
    const float* const gain = reader.take(width);
    return {gain, reader.take(width)};
  }
};

Product take_product(Reader& reader, int64_t depth, int64_t columns) {
  const float* const weight = reader.take(depth * columns);
  return {weight, reader.take(columns)};
}

struct Stem {
  const float *center, *spread, *taps, *slope, *lift;
  Product embed;
};

Stem take_stem(const Work& w, Reader& reader) {
  const TokenStep& k = *w.kernel;
  Stem stem{};
  stem.center = reader.take(w.channels);
  stem.spread = reader.take(w.channels);
  stem.taps = reader.take(w.dilation_count() * w.channels * kTaps * k.filters);
  stem.slope = reader.take(w.dilation_count() * k.filters);
  stem.lift = reader.take(w.feature_count);
  stem.embed = take_product(reader, w.feature_count, w.width);
  return stem;
}

struct LayerParameters {
  Norm before_attention, before_feed_forward;
  Product in, out, up, down;
  const float* taps;  // [value_filter, G*D]
};

LayerParameters take_layer(const Work& w, Reader& reader) {
  LayerParameters layer{};
  layer.before_attention = w.take_norm(reader);
  layer.in = take_product(reader, w.width, w.in_width());
  layer.taps = reader.take(w.kernel->value_filter * w.key_width());
  layer.out = take_product(reader, w.width, w.width);
  layer.before_feed_forward = w.take_norm(reader);
  layer.up = take_product(reader, w.width, w.kernel->inner);
  layer.down = take_product(reader, w.kernel->inner, w.width);
  return layer;
}

int64_t parameter_count(const Work& w) {
  Reader reader(nullptr);
  take_stem(w, reader);
  const int64_t stem = reader.taken();
  take_layer(w, reader);
  const int64_t layer = reader.taken() - stem;
  w.take_norm(reader);
  take_product(reader, w.width, w.kernel->outputs);
  return reader.taken() + (w.layers - 1) * layer;
}

// to[columns] = row[depth] * weight + bias
void multiply(const Work& w, const float* row, const Product& product, int64_t depth, int64_t columns,
              float* to) {
  w.table->product({row, product.weight, to, 1, depth, columns, depth, columns, columns});
  for (int64_t i = 0; i < columns; ++i) to[i] += product.bias[i];
}

void normalize_row(const Work& w, const Norm& norm, float* to) {
  constexpr int kParts = 8;
  float part[kParts] = {}, square[kParts] = {};
  for (int64_t i = 0; i < w.width; ++i) part[i % kParts] += w.x[i];
  float sum = 0.0f, squares = 0.0f;
  for (const float one : part) sum += one;
  const float mean = sum / static_cast<float>(w.width);
  for (int64_t i = 0; i < w.width; ++i) square[i % kParts] += (w.x[i] - mean) * (w.x[i] - mean);
  for (const float one : square) squares += one;
  const float factor = 1.0f / std::sqrt(squares / static_cast<float>(w.width) + w.kernel->epsilon);
  for (int64_t i = 0; i < w.width; ++i) to[i] = (w.x[i] - mean) * factor * norm.gain[i] + norm.shift[i];
}

// The token's features and their embedding.
void embed(const Work& w, Reader& reader) {
  const TokenStep& k = *w.kernel;
  const Stem stem = take_stem(w, reader);
  const int64_t count = w.samples_count, depth = w.channels * kTaps, look_back = k.look_back;
  for (int64_t c = 0; c < w.channels; ++c)
    for (int64_t i = 0; i < count; ++i) {
      const float x = w.samples[c * count + i];
      w.normal[c * count + i] = std::isnan(x) ? 0.0f : (x - stem.center[c]) / stem.spread[c];
    }
  const float share = 1.0f / static_cast<float>(count);
  for (int64_t l = 0; l < w.dilation_count(); ++l) {
    for (int64_t c = 0; c < w.channels; ++c)
      for (int64_t tap = 0; tap < kTaps; ++tap) {
        const int64_t first = look_back - k.dilations.values[l] * (kTaps - 1 - tap);
        for (int64_t i = 0; i < count; ++i) {
          const int64_t place = first + i;
          w.seen[i * depth + c * kTaps + tap] =
              place < look_back ? w.history[c * look_back + place] : w.normal[c * count + place - look_back];
        }
      }
    w.table->product({w.seen, stem.taps + l * depth * k.filters, w.response, count, depth, k.filters, depth,
                      k.filters, k.filters});
    const float* const slope = stem.slope + l * k.filters;
    float* const features = w.features + l * k.filters * k.thresholds;
    for (int64_t q = 0; q < k.thresholds; ++q) {
      // Filter by filter in the inner loop: so they are added up side by side.
      for (int64_t f = 0; f < k.filters; ++f)
        w.lift[f] = stem.lift[(l * k.filters + f) * k.thresholds + q], w.sum[f] = 0.0f;
      for (int64_t i = 0; i < count; ++i)
        for (int64_t f = 0; f < k.filters; ++f) {
          const float above = w.response[i * k.filters + f] * slope[f] + w.lift[f];
          w.sum[f] += std::min(std::max(above, 0.0f), 1.0f);
        }
      for (int64_t f = 0; f < k.filters; ++f) features[f * k.thresholds + q] = w.sum[f] * share;
    }
  }
  multiply(w, w.features, stem.embed, w.feature_count, w.width, w.x);
}

float dot(const float* a, const float* b, int64_t count) {
  constexpr int kParts = 8;
  float part[kParts] = {};
  int64_t i = 0;
  for (; i + kParts <= count; i += kParts)
    for (int j = 0; j < kParts; ++j) part[j] += a[i + j] * b[i + j];
  for (; i < count; ++i) part[0] += a[i] * b[i];
  return ((part[0] + part[4]) + (part[1] + part[5])) + ((part[2] + part[6]) + (part[3] + part[7]));
}

struct Tokens {
  const float *key, *value, *bias;  // rows of D; null bias = none
  int64_t count;
};

// One head: softmax over three runs of tokens, and their values' mean in to[D].
void attend(const Work& w, const float* query, const Tokens (&runs)[3], float* to) {
  float most = -HUGE_VALF;
  float* score = w.scores;
  for (const Tokens& run : runs)
    for (int64_t s = 0; s < run.count; ++s, ++score) {
      *score = dot(query, run.key + s * w.size, w.size) * w.kernel->scale + (run.bias ? run.bias[s] : 0.0f);
      most = std::max(most, *score);
    }
  std::fill(to, to + w.size, 0.0f);
  float sum = 0.0f;
  score = w.scores;
  for (const Tokens& run : runs)
    for (int64_t s = 0; s < run.count; ++s, ++score) {
      if (*score == -HUGE_VALF) continue;
      const float weight = std::exp(*score - most);
      const float* const value = run.value + s * w.size;
      sum += weight;
      for (int64_t d = 0; d < w.size; ++d) to[d] += weight * value[d];
    }
  for (int64_t d = 0; d < w.size; ++d) to[d] /= sum;
}

void run_layer(const Work& w, int64_t l, Reader& reader) {
  const TokenStep& k = *w.kernel;
  const LayerParameters layer = take_layer(w, reader);
  const int64_t key_width = w.key_width(), size = w.size;
  normalize_row(w, layer.before_attention, w.row);
  multiply(w, w.row, layer.in, w.width, w.in_width(), w.wide);
  float *query = w.query + l * w.width, *key = w.key + l * key_width, *value = w.value + l * key_width;
  std::copy(w.wide, w.wide + w.width, query);
  std::copy(w.wide + w.width, w.wide + w.width + key_width, key);
  std::copy(w.wide + w.width + key_width, w.wide + w.in_width(), value);
  // The convolution over values, in `wide`.
  std::fill(w.wide, w.wide + key_width, 0.0f);
  for (int64_t tap = 0; tap < k.value_filter; ++tap) {
    const bool is_own = tap + 1 == k.value_filter;
    const float* const from = is_own ? value : w.tail + (l * (k.value_filter - 1) + tap) * key_width;
    for (int64_t c = 0; c < key_width; ++c) w.wide[c] += layer.taps[tap * key_width + c] * from[c];
  }
  for (int64_t h = 0; h < w.heads; ++h) {
    const int64_t g = h / (w.heads / w.groups), past = (l * w.heads + h) * w.past,
                  own = (l * w.groups + g) * w.own;
    const Tokens runs[3] = {
        {w.past_key + past * size, w.past_value + past * size, w.past_bias + past, w.past},
        {w.block_key + own * size, w.block_value + own * size, nullptr, w.own},
        {key + g * size, value + g * size, nullptr, 1}};
    attend(w, query + h * size, runs, w.mixed + h * size);
    for (int64_t d = 0; d < size; ++d) w.mixed[h * size + d] += w.wide[g * size + d];
  }
  multiply(w, w.mixed, layer.out, w.width, w.width, w.row);
  for (int64_t i = 0; i < w.width; ++i) w.x[i] += w.row[i];
  normalize_row(w, layer.before_feed_forward, w.row);
  multiply(w, w.row, layer.up, w.width, k.inner, w.wide);
  for (int64_t i = 0; i < k.inner; ++i)
    w.wide[i] = 0.5f * w.wide[i] * (1.0f + std::erf(w.wide[i] * 0.70710678f));
  multiply(w, w.wide, layer.down, k.inner, w.width, w.row);
  for (int64_t i = 0; i < w.width; ++i) w.x[i] += w.row[i];
}

ort::Status* check_sizes(const Call& call, const Work& w) {
  const struct {
    const char* name;
    int64_t size;
  } sizes[] = {{"samples", w.channels},
               {"samples", w.samples_count},
               {"past_key", w.layers},
               {"past_key", w.heads},
               {"past_key", w.size}};
  for (const auto& [name, size] : sizes)
    if (size < 1 || size > kLargestSize)
      return refuse(call.ort, "Input `%s` must have axes of 1 to %lld; got %lld.", name,
                    (long long)kLargestSize, (long long)size);
  if (w.width > kLargestSize || w.feature_count > kLargestSize)
    return refuse(call.ort, "A model must have a width and features of at most %lld; got %lld and %lld.",
                  (long long)kLargestSize, (long long)w.width, (long long)w.feature_count);
  return nullptr;
}

ort::Status* check_shapes(const Call& call, const Work& w) {
  const TokenStep& k = *w.kernel;
  const int64_t tail = std::max<int64_t>(k.value_filter - 1, 0);
  const struct {
    int index;
    int64_t shape[4];
  } wanted[] = {{kHistory, {w.channels, k.look_back}},
                {kTokenSum, {w.width}},
                {kTokenCount, {1}},
                {kValueTail, {w.layers, tail, w.key_width()}},
                {kBlockKey, {w.layers, w.groups, w.own, w.size}},
                {kBlockValue, {w.layers, w.groups, w.own, w.size}},
                {kPastKey, {w.layers, w.heads, w.past, w.size}},
                {kPastValue, {w.layers, w.heads, w.past, w.size}},
                {kPastBias, {w.layers, w.heads, 1, w.past}},
                {kParameters, {parameter_count(w)}}};
  for (const auto& [index, shape] : wanted)
    for (size_t axis = 0; axis < call.in[index].rank; ++axis)
      if (call.in[index].shape[axis] != shape[axis])
        return refuse(call.ort, "Input `%s` must have %lld along axis %zu; got %lld.",
                      TokenStep::kInputs[index].name, (long long)shape[axis], axis,
                      (long long)call.in[index].shape[axis]);
  return nullptr;
}

ort::Status* read_state(const TokenStep& kernel, const Call& call, Work& w) {
  const Tensor* const in = call.in;
  w.kernel = &kernel;
  w.table = chosen_table();
  w.channels = in[kSamples].shape[0];
  w.samples_count = in[kSamples].shape[1];
  w.layers = in[kPastKey].shape[0];
  w.heads = kernel.num_heads;
  w.groups = kernel.kv_num_heads;
  w.past = in[kPastKey].shape[2];
  w.size = in[kPastKey].shape[3];
  w.own = in[kBlockKey].shape[2];
  // `num_heads` may be as large as its rule allows; none is multiplied before all are checked.
  if (w.heads > kLargestSize || w.size > kLargestSize)
    return refuse(call.ort, "`num_heads` and the head size must be at most %lld; got %lld and %lld.",
                  (long long)kLargestSize, (long long)w.heads, (long long)w.size);
  w.width = w.heads * w.size;
  w.feature_count = w.dilation_count() * kernel.filters * kernel.thresholds;
  EDGESPARSE_RETURN_IF(check_sizes(call, w));
  EDGESPARSE_RETURN_IF(check_shapes(call, w));
  const float** const to[] = {&w.samples,    &w.history,   &w.token_sum,   &w.token_count,
                              &w.tail,       &w.block_key, &w.block_value, &w.past_key,
                              &w.past_value, &w.past_bias, &w.parameters};
  for (int i = 0; i <= kParameters; ++i) *to[i] = in[i].as<float>();
  return nullptr;
}

ort::Status* take_outputs(const Call& call, Work& w) {
  const struct {
    int64_t shape[3];
    size_t rank;
    float** to;
  } outputs[] = {{{w.kernel->outputs}, 1, &w.logits},
                 {{w.channels, w.samples_count}, 2, &w.normal},
                 {{w.width}, 1, &w.token},
                 {{w.layers, w.heads, w.size}, 3, &w.query},
                 {{w.layers, w.groups, w.size}, 3, &w.key},
                 {{w.layers, w.groups, w.size}, 3, &w.value}};
  size_t index = 0;
  for (const auto& output : outputs)
    EDGESPARSE_RETURN_IF(call.output(index++, output.shape, output.rank, output.to));
  return nullptr;
}

ort::Status* TokenStep::compute(const Call& call) const {
  Work w{};
  EDGESPARSE_RETURN_IF(read_state(*this, call, w));
  EDGESPARSE_RETURN_IF(take_outputs(call, w));
  Scratch scratch(call.host);
  scratch.add(&w.seen, {w.samples_count, w.channels, kTaps});
  scratch.add(&w.response, {w.samples_count, filters});
  scratch.add(&w.lift, {filters});
  scratch.add(&w.sum, {filters});
  scratch.add(&w.features, {w.feature_count});
  scratch.add(&w.x, {w.width});
  scratch.add(&w.row, {w.width});
  scratch.add(&w.wide, {std::max(w.in_width(), inner)});
  scratch.add(&w.mixed, {w.width});
  scratch.add(&w.scores, {w.past + w.own + 1});
  if (!scratch.take()) return call.out_of_memory();
  Reader reader(w.parameters);
  embed(w, reader);
  for (int64_t l = 0; l < w.layers; ++l) run_layer(w, l, reader);
  normalize_row(w, w.take_norm(reader), w.token);
  for (int64_t i = 0; i < w.width; ++i) w.row[i] = (w.token_sum[i] + w.token[i]) / (w.token_count[0] + 1.0f);
  multiply(w, w.row, take_product(reader, w.width, outputs), w.width, outputs, w.logits);
  return nullptr;
}

}  // namespace

const ort::CustomOp* token_step_op() { return custom_op<TokenStep>(); }

}  // namespace edgesparse
