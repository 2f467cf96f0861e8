#include "calls.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace edgesparse::tests {
namespace {

constexpr int64_t kSizes[] = {1, 1, 1, 2, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 64, 65};
constexpr int64_t kOdd[] = {0,
                            1,
                            2,
                            3,
                            15,
                            16,
                            17,
                            64,
                            -1,
                            1 << 20,
                            (1 << 20) + 1,
                            int64_t{1} << 31,
                            (int64_t{1} << 31) - 1,
                            int64_t{1} << 40,
                            INT64_MIN,
                            INT64_MAX};

// Builds one call; `hostile` chances are taken here, so that every operator meets all of them.
class Builder {
 public:
  Builder(Draw& draw, bool hostile) : draw_(draw), hostile_(hostile) {}

  bool hostile() const { return hostile_; }
  int64_t size() { return draw_.pick(kSizes); }
  // A batch or a length, which may be zero.
  int64_t count(std::initializer_list<int64_t> values) {
    return values.begin()[draw_.below((int64_t)values.size())];
  }

  void integer(const char* name, int64_t value) {
    if (hostile_ && draw_.chance(2)) value = draw_.pick(kOdd);
    Attribute attribute;
    attribute.integer = value;
    add(name, attribute);
  }
  void real(const char* name, float value) {
    constexpr float kHostile[] = {NAN, INFINITY, -1.0f, 0.0f, 1e38f, -1e38f, 1e-40f};
    Attribute attribute;
    attribute.kind = Attribute::kFloat;
    attribute.real = hostile_ && draw_.chance(4) ? draw_.pick(kHostile) : value;
    add(name, attribute);
  }
  void text(const char* name, const char* value) {
    const char* const kHostile[] = {"float64", "", "int8 ", "0123456789012345678901234567890123456789"};
    Attribute attribute;
    attribute.kind = Attribute::kString;
    attribute.text = hostile_ && draw_.chance(2) ? draw_.pick(kHostile) : value;
    add(name, attribute);
  }
  void integers(const char* name, std::vector<int64_t> values) {
    if (hostile_ && draw_.chance(4))
      values[static_cast<size_t>(draw_.below((int64_t)values.size()))] = draw_.pick(kOdd);
    if (hostile_ && draw_.chance(1)) values.clear();
    if (hostile_ && draw_.chance(1)) values.resize(65, 1);
    Attribute attribute;
    attribute.kind = Attribute::kIntegers;
    attribute.integers = std::move(values);
    add(name, attribute);
  }

  Tensor& floats(Shape shape, float spread = 1.0f) {
    Tensor& tensor = input(ort::kFloat, std::move(shape));
    auto* const to = reinterpret_cast<float*>(tensor.data.get());
    for (int64_t i = 0, end = tensor.bytes() / 4; i < end; ++i) to[i] = spread * normal();
    if (hostile_) poison(to, tensor.bytes() / 4);
    return tensor;
  }
  Tensor& bytes(Shape shape) {
    Tensor& tensor = input(ort::kInt8, std::move(shape));
    for (int64_t i = 0; i < tensor.bytes(); ++i) {
      const int64_t byte = draw_.below(256) - 128;
      tensor.data.get()[i] = static_cast<char>(byte == -128 && !hostile_ ? 0 : byte);
    }
    return tensor;
  }
  Tensor& mask(Shape shape) {
    Tensor& tensor = input(ort::kBool, std::move(shape));
    constexpr int kShares[] = {0, 50, 70, 95, 100, 100};
    const int share = draw_.pick(kShares);
    for (int64_t i = 0; i < tensor.bytes(); ++i) tensor.data.get()[i] = draw_.chance(share);
    return tensor;
  }
  Tensor& number(int64_t value) {
    Tensor& tensor = input(ort::kInt64, {1});
    if (hostile_ && draw_.chance(10)) value = draw_.pick(kOdd);
    for (int64_t i = 0; i < tensor.bytes() / 8; ++i) reinterpret_cast<int64_t*>(tensor.data.get())[i] = value;
    return tensor;
  }

  // Where packed texts begin in `length` tokens, some of them empty; hostile ones may fall or lie outside.
  Tensor& starts(int64_t length) {
    Tensor& tensor = input(ort::kInt64, {draw_.below(5)});
    auto* const to = reinterpret_cast<int64_t*>(tensor.data.get());
    const int64_t count = tensor.bytes() / 8;
    for (int64_t i = 0; i < count; ++i) to[i] = draw_.below(length + 1);
    std::sort(to, to + count);
    if (hostile_ && count > 0 && draw_.chance(20)) to[draw_.below(count)] = draw_.pick(kOdd);
    return tensor;
  }

  // What can be wrong with a node as a whole.
  void spoil() {
    if (!hostile_) return;
    if (draw_.chance(1) && !call.inputs.empty()) call.inputs.pop_back();
    if (draw_.chance(1)) call.inputs[pick_input()].given = false;
    if (draw_.chance(1)) call.inputs[pick_input()] = call.inputs[pick_input()];
    if (draw_.chance(1) && !call.attributes.empty())
      call.attributes.erase(std::next(call.attributes.begin(), draw_.below((int64_t)call.attributes.size())));
    if (draw_.chance(1)) call.outputs = static_cast<size_t>(draw_.below(4));
  }

  Call call;

 private:
  size_t pick_input() { return static_cast<size_t>(draw_.below((int64_t)call.inputs.size())); }
  void add(const char* name, Attribute attribute) { call.attributes[name] = std::move(attribute); }

  float normal() {
    float sum = 0.0f;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(draw_.bits() >> 40) * 0x1p-24f - 0.5f;
    return sum * 1.7f;
  }
  void poison(float* to, int64_t count) {
    constexpr float kHostile[] = {NAN, INFINITY, -INFINITY, 3.4e38f, -3.4e38f, 1e-40f, 0.0f};
    if (count == 0) return;
    const float value = draw_.pick(kHostile);
    if (draw_.chance(10)) to[draw_.below(count)] = value;
    if (draw_.chance(4)) std::fill(to, to + count, value);
  }
  Tensor& input(ort::ElementType type, Shape shape) {
    if (hostile_ && draw_.chance(2)) wobble(shape);
    // A zero axis makes room for huge ones: the sizes of an empty tensor are free.
    if (hostile_ && draw_.chance(1) && shape.size() > 1) {
      shape[static_cast<size_t>(draw_.below((int64_t)shape.size()))] = 0;
      for (int64_t& axis : shape)
        if (axis != 0 && draw_.chance(50)) axis = (int64_t{1} << (20 + draw_.below(13))) - draw_.below(2);
    }
    Tensor tensor;
    tensor.type = type;
    if (hostile_ && draw_.chance(1)) {
      constexpr ort::ElementType kTypes[] = {ort::kFloat, ort::kUint8, ort::kInt8, ort::kInt64, ort::kBool};
      tensor.type = draw_.pick(kTypes);
    }
    if (elements(shape) < 0 || elements(shape) > 1 << 22) shape.assign(shape.size(), 0);
    tensor.shape = std::move(shape);
    tensor.data = make_memory(tensor.bytes(), 0);
    call.inputs.push_back(std::move(tensor));
    // Filled as what the operator expects, which another type of the same memory may not hold.
    Tensor& made = call.inputs.back();
    if (made.type != type) made.data = make_memory(elements(made.shape) * 8, 0);
    return made;
  }
  void wobble(Shape& shape) {
    const auto axis = static_cast<size_t>(draw_.below((int64_t)shape.size()));
    switch (draw_.below(4)) {
      case 0:
        shape[axis] = std::max<int64_t>(0, shape[axis] + draw_.below(3) - 1);
        break;
      case 1:
        shape.pop_back();
        break;
      case 2:
        shape.push_back(1);
        break;
      default:
        shape[axis] = draw_.below(20);
    }
  }

  Draw& draw_;
  const bool hostile_;
};

int64_t divisor(Draw& draw, int64_t heads) {
  for (;;)
    if (const int64_t groups = 1 + draw.below(heads); heads % groups == 0) return groups;
}

void attention(Draw& draw, Builder& b) {
  const int64_t heads = b.count({1, 2, 3, 4, 6}), groups = divisor(draw, heads), d = b.size(), v = b.size();
  const int64_t batch = b.count({0, 1, 1, 1, 2, 3}), n = b.count({0, 1, 5, 16, 33, 64, 70, 150});
  const int64_t m = draw.chance(60) ? n : b.count({0, 1, 7, 16, 50, 64, 131});
  const int64_t size = b.count({1, 2, 3, 8, 16, 20, 64, 100, 1000});
  const int64_t block = std::min(size, std::max<int64_t>({n, m, 1}));
  const int64_t query_blocks = (n + block - 1) / block, key_blocks = (m + block - 1) / block;
  b.call.op = "SparseAttention";
  b.integer("num_heads", heads);
  b.integer("kv_num_heads", groups);
  b.integer("block_size", size);
  b.integer("window", draw.below(3));
  b.integer("summaries", draw.below(2));
  b.integer("is_causal", n == m && draw.chance(50));
  b.real("scale", 1.0f / std::sqrt(static_cast<float>(d)));
  b.text("precision", draw.chance(50) ? "int8" : "float32");
  b.floats({batch, n, heads * d});
  b.floats({batch, m, groups * d});
  b.floats({batch, m, groups * v});
  b.floats({batch, heads, query_blocks, key_blocks});
  Tensor& share = b.floats({draw.chance(50) ? heads : 1});
  if (draw.chance(80))
    for (int64_t i = 0; i < share.bytes() / 4 && share.type == ort::kFloat; ++i)
      reinterpret_cast<float*>(share.data.get())[i] = static_cast<float>(draw.below(5)) / 3.0f;
  b.number(b.count({0, 1, 2, 3, 100}));
  b.mask({batch, m});
  b.call.outputs = 1 + static_cast<size_t>(draw.below(2));
}

void window_attention(Draw& draw, Builder& b) {
  const int64_t heads = b.count({1, 2, 3, 4, 6}), groups = divisor(draw, heads), d = b.size(), v = b.size();
  const int64_t batch = b.count({0, 1, 1, 1, 2, 3}), n = b.count({0, 1, 5, 16, 33, 64, 70, 150, 300});
  constexpr int64_t kWindows[] = {-1, -1, 0, 1, 3, 16, 63, 64, 65, 200, 1 << 30};
  b.call.op = "WindowAttention";
  b.integer("num_heads", heads);
  b.integer("kv_num_heads", groups);
  b.integer("left_window", draw.pick(kWindows));
  b.integer("right_window", draw.pick(kWindows));
  b.real("scale", 1.0f / std::sqrt(static_cast<float>(d)));
  b.floats({batch, n, heads * d});
  b.floats({batch, n, groups * d});
  b.floats({batch, n, groups * v});
  b.mask({batch, n});
  b.starts(n);
}

// The packed weight, its scale and its bias.
void weights(Builder& b, int64_t depth, int64_t columns, bool scales_follow = true) {
  b.bytes({columns / 16, depth / 4, 16, 4});
  if (!scales_follow) return;
  b.floats({columns}, 0.01f);
  b.floats({columns});
}

void linear(Draw& draw, Builder& b) {
  const bool split = draw.chance(30);
  const int64_t depth = 16 * b.count({1, 2, 3, 5, 8}), columns = 16 * (split ? 3 : 1) * b.count({1, 2, 3, 4});
  const bool normalize = draw.chance(60), residual = !split && draw.chance(50);
  Shape lead = {b.count({0, 1, 2, 3, 16, 33, 64, 65, 130, 700})};
  if (draw.chance(70)) lead.insert(lead.begin(), b.count({0, 1, 2}));
  const auto with = [&](int64_t last) {
    Shape shape = lead;
    shape.push_back(last);
    return shape;
  };
  b.call.op = split ? "LinearSplit" : "Linear";
  b.call.outputs = split ? 3 : 1;
  b.integer("normalize", normalize);
  b.integer("gelu", draw.chance(50));
  b.real("epsilon", 1e-5f);
  b.floats(with(depth), 3.0f);
  weights(b, depth, columns);
  b.floats({normalize || draw.chance(50) ? depth : 1});
  b.floats({normalize || draw.chance(50) ? depth : 1});
  Tensor& last = residual ? b.floats(with(columns)) : b.floats({1}, 0.0f);
  if (!residual && last.type == ort::kFloat && last.bytes() == 4)
    *reinterpret_cast<float*>(last.data.get()) = 0.0f;
}

void feed_forward(Draw& draw, Builder& b) {
  const int64_t width = 16 * b.count({1, 2, 3}), inner = 16 * b.count({1, 2, 4, 8}),
                out = 16 * b.count({1, 2, 3});
  const int64_t batch = b.count({0, 1, 2}), rows = b.count({0, 1, 17, 63, 64, 65, 200});
  b.call.op = "FeedForward";
  b.real("epsilon", draw.chance(50) ? 1e-5f : 1e-12f);
  b.floats({batch, rows, width});
  weights(b, width, inner);
  b.floats({width});
  b.floats({width});
  weights(b, inner, out);
  b.floats({batch, rows, out});
}

void filter_bank(Draw& draw, Builder& b) {
  const bool product = draw.chance(50);
  const int64_t dilations = b.count({1, 2, 3}), channels = b.count({1, 1, 2, 5, 0});
  int64_t filters = b.count({1, 4, 16, 17, 28, 33, 0}), thresholds = b.count({1, 3, 4, 4, 5, 8, 0});
  if (product && (!b.hostile() || draw.chance(90))) filters = 4 * b.count({1, 2, 5}), thresholds = 4;
  const int64_t features = dilations * filters * thresholds, batch = b.count({0, 1, 2});
  const int64_t steps = b.count({0, 1, 2, 7, 64, 65, 300, 700});
  std::vector<int64_t> spans;
  for (int64_t l = 0; l < dilations; ++l) spans.push_back(b.count({1, 2, 3, 7, 16, 64}));
  b.call.op = product ? "FilterBankLinear" : "FilterBank";
  b.integer("patch", b.count({1, 2, 3, 4, 8, 16, 100}));
  b.integer("before", 4 + draw.below(5));
  b.integers("dilations", spans);
  b.floats({batch, channels, steps});
  b.mask({batch, steps});
  b.floats({dilations, filters, channels, 9});
  b.floats({dilations, filters});
  b.floats({dilations, filters, thresholds});
  b.floats({features});
  b.floats({features});
  if (product) weights(b, features, 16 * b.count({1, 2, 3}));
}

void competing_filters(Draw&, Builder& b) {
  const int64_t dilations = b.count({1, 2, 3}), channels = b.count({1, 1, 2, 5, 0}),
                groups = b.count({1, 2, 15, 16, 17, 33, 0});
  const int64_t batch = b.count({0, 1, 2}), steps = b.count({0, 1, 2, 7, 63, 64, 65, 300});
  std::vector<int64_t> spans;
  for (int64_t l = 0; l < dilations; ++l) spans.push_back(b.count({1, 2, 3, 7, 16, 64}));
  b.call.op = "CompetingFilters";
  b.integers("dilations", spans);
  b.floats({batch, channels, steps});
  b.mask({batch, steps});
  b.floats({dilations, groups * 8, channels, 9});
  b.floats({dilations, groups});
}

void block_scores(Draw& draw, Builder& b) {
  const int64_t heads = b.count({1, 2, 4, 6}), groups = divisor(draw, heads), d = b.size(),
                rank = b.count({0, 1, 7, 16, 33});
  const int64_t batch = b.count({0, 1, 2}), tokens = b.count({0, 1, 2, 7, 64, 65, 150});
  b.call.op = "BlockScores";
  b.integer("num_heads", heads);
  b.integer("kv_num_heads", groups);
  b.integer("block_size", b.count({1, 2, 3, 16, 20, 64, 1000}));
  b.integer("is_causal", draw.below(2));
  b.floats({batch, tokens, heads * d});
  b.floats({batch, tokens, groups * d});
  b.floats({heads, d, rank});
  b.floats({groups, 3 * d, rank});
  b.mask({batch, tokens});
}

void sampled_scores(Draw& draw, Builder& b) {
  const int64_t heads = b.count({1, 2, 4, 6}), groups = divisor(draw, heads), d = b.size();
  const int64_t batch = b.count({0, 1, 2}), tokens = b.count({0, 1, 2, 7, 64, 65, 150, 300});
  const int64_t block = b.count({1, 2, 3, 16, 20, 64, 1000});
  b.call.op = "SampledScores";
  b.integer("num_heads", heads);
  b.integer("kv_num_heads", groups);
  b.integer("block_size", block);
  b.integer("queries", std::min(block, b.count({1, 1, 2, 4, 70})));
  b.integer("is_causal", draw.below(2));
  b.real("scale", 1.0f / std::sqrt(static_cast<float>(d)));
  b.floats({batch, tokens, heads * d});
  b.floats({batch, tokens, groups * d});
  b.mask({batch, tokens});
}

void value_convolution(Draw& draw, Builder& b) {
  const int64_t batch = b.count({0, 1, 2}), tokens = b.count({0, 1, 2, 7, 127, 128, 129, 300});
  const int64_t width = draw.chance(5) ? 0 : b.size(), taps = b.count({0, 1, 2, 3, 9, 50});
  b.call.op = "ValueConvolution";
  b.integer("before", draw.below(std::max<int64_t>(1, taps)));
  b.floats({batch, tokens, width});
  b.floats({batch, tokens, width});
  b.floats({taps, width});
}

void token_step(Draw& draw, Builder& b) {
  const int64_t heads = b.count({1, 2, 4, 6}), groups = divisor(draw, heads), d = b.count({1, 3, 8, 16, 17});
  const int64_t channels = b.count({1, 2, 5}), samples = b.count({1, 2, 8}), layers = b.count({1, 2, 3});
  const int64_t filters = b.count({1, 4, 28, 33}), thresholds = b.count({1, 3}), inner = b.count({1, 7, 64});
  const int64_t outputs = b.count({1, 2, 5}), taps = b.count({0, 1, 5}), own = b.count({0, 1, 7}),
                past = b.count({0, 1, 5, 40});
  std::vector<int64_t> dilations;
  int64_t longest = 0;
  for (int64_t i = 0, count = b.count({1, 2, 3}); i < count; ++i) {
    dilations.push_back(b.count({1, 2, 5}));
    longest = std::max(longest, dilations.back());
  }
  const auto spans = static_cast<int64_t>(dilations.size());
  const int64_t width = heads * d, key_width = groups * d, features = spans * filters * thresholds;
  const int64_t layer = 4 * width + (width + 1) * (width + 2 * key_width) + taps * key_width +
                        (width + 1) * width + (width + 1) * inner + (inner + 1) * width;
  b.call.op = "TokenStep";
  b.integer("num_heads", heads);
  b.integer("kv_num_heads", groups);
  b.integer("filters", filters);
  b.integer("thresholds", thresholds);
  b.integer("inner", inner);
  b.integer("outputs", outputs);
  b.integer("value_filter", taps);
  b.integers("dilations", dilations);
  b.real("epsilon", 1e-5f);
  b.real("scale", 1.0f / std::sqrt(static_cast<float>(d)));
  b.floats({channels, samples});
  b.floats({channels, 8 * longest});
  b.floats({width});
  b.floats({1});
  b.floats({layers, std::max<int64_t>(0, taps - 1), key_width});
  b.floats({layers, groups, own, d});
  b.floats({layers, groups, own, d});
  b.floats({layers, heads, past, d});
  b.floats({layers, heads, past, d});
  b.floats({layers, heads, 1, past});
  b.floats({2 * channels + 9 * spans * channels * filters + spans * filters + features +
            (features + 1) * width + layers * layer + 2 * width + (width + 1) * outputs});
  b.call.outputs = 6;
}

void close_block(Draw& draw, Builder& b) {
  const int64_t heads = b.count({1, 2, 4, 6}), groups = divisor(draw, heads), d = b.count({1, 3, 8, 16, 17});
  const int64_t layers = b.count({1, 2, 3}), blocks = b.count({1, 2, 5, 18}), size = b.count({1, 4, 16, 33}),
                rank = draw.chance(80) ? d : b.count({0, 1, 7});
  b.call.op = "CloseBlock";
  b.integer("window", draw.below(3));
  b.integer("summaries", draw.below(2));
  b.floats({layers, heads, size, d});
  b.floats({blocks, layers, groups, size, d});
  b.floats({blocks, layers, groups, size, d});
  b.floats({blocks - 1, layers, groups, d});
  b.floats({blocks - 1, layers, groups, d});
  b.floats({blocks - 1, layers, groups, rank});
  b.floats({layers, heads});
  b.number(b.count({0, 1, 2, 3, 100}));
  b.floats({layers, heads, d, rank});
  b.floats({layers, groups, 3 * d, rank});
  b.call.outputs = 6;
}

}  // namespace

// splitmix64.
uint64_t Draw::bits() {
  uint64_t z = state_ += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

Call draw_call(uint64_t seed, bool hostile) {
  Draw draw(seed);
  Builder builder(draw, hostile);
  using Maker = void (*)(Draw&, Builder&);
  constexpr Maker kMakers[] = {attention,        attention,         linear,      feed_forward,
                               filter_bank,      block_scores,      filter_bank, value_convolution,
                               window_attention, competing_filters, token_step,  close_block,
                               sampled_scores};
  draw.pick(kMakers)(draw, builder);
  builder.spoil();
  return builder.call;
}

std::string describe(const Call& call) {
  std::string text = call.op;
  for (const auto& [name, attribute] : call.attributes) {
    text += " " + name + "=";
    if (attribute.kind == Attribute::kInteger) text += std::to_string(attribute.integer);
    if (attribute.kind == Attribute::kFloat) text += std::to_string(attribute.real);
    if (attribute.kind == Attribute::kString) text += attribute.text;
    for (const int64_t value : attribute.integers) text += std::to_string(value) + ",";
  }
  for (const Tensor& input : call.inputs) {
    text += input.given ? " [" : " missing[";
    for (const int64_t axis : input.shape) text += std::to_string(axis) + ",";
    text += "]:" + std::to_string(static_cast<int>(input.type));
  }
  return text + " outputs=" + std::to_string(call.outputs);
}

}  // namespace edgesparse::tests
