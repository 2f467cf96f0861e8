// The jobs around attention: the chosen table against the scalar one, bit for bit, in buffers that end where
// their memory ends. Part of `test_kernels`.
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "isa/competing_filters.h"
#include "isa/filter_bank.h"
#include "isa/linear.h"
#include "isa/pooling.h"
#include "isa/table.h"

namespace {

using namespace edgesparse;
using Floats = std::vector<float>;

std::mt19937 random_bits(11);

Floats normal(int64_t count, float spread = 1.0f) {
  std::normal_distribution<float> draw(0.0f, spread);
  Floats values(static_cast<size_t>(count));
  for (float& x : values) x = draw(random_bits);
  return values;
}

// NaN has many bit patterns; one is as good as another.
bool same_bits(const Floats& a, const Floats& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(&a[i], &b[i], sizeof(float)) != 0 && !(a[i] != a[i] && b[i] != b[i])) return false;
  return a.size() == b.size();
}

struct Line {
  int64_t rows, depth, columns, parts;
  bool normalize, gelu, residual, poisoned;
};

bool linear_agrees(const Line& c) {
  Floats input = normal(c.rows * c.depth, 3.0f), gain = normal(c.depth), shift = normal(c.depth),
         scale = normal(c.columns, 0.01f), bias = normal(c.columns), residual = normal(c.rows * c.columns);
  if (c.poisoned) input[input.size() / 2] = std::numeric_limits<float>::quiet_NaN();
  std::vector<int8_t> weight(static_cast<size_t>(c.depth * c.columns));
  for (int8_t& w : weight) w = static_cast<int8_t>(static_cast<int>(random_bits() % 255) - 127);
  const auto run = [&](const Table& table) {
    Floats output(static_cast<size_t>(c.rows * c.columns));
    std::vector<int32_t> sums(static_cast<size_t>(c.columns));
    table.sum_weights(weight.data(), c.depth, c.columns, sums.data());
    std::vector<char> scratch(static_cast<size_t>(linear_scratch(c.depth)) + 64);
    LinearJob job{};
    job.input = input.data();
    job.rows = c.rows;
    job.depth = c.depth;
    job.columns = c.columns;
    job.gain = c.normalize ? gain.data() : nullptr;
    job.shift = shift.data();
    job.epsilon = 1e-5f;
    job.weight = weight.data();
    job.scale = scale.data();
    job.bias = bias.data();
    job.weight_sum = sums.data();
    job.gelu = c.gelu;
    job.residual = c.residual ? residual.data() : nullptr;
    job.parts = c.parts;
    for (int64_t p = 0; p < c.parts; ++p) job.output[p] = output.data() + p * c.rows * c.columns / c.parts;
    job.scratch = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
    table.linear(job);
    return output;
  };
  return same_bits(run(*chosen_table()), run(*scalar_table()));
}

bool bank_agrees(int64_t channels, int64_t filters, int64_t thresholds, int64_t patch, int64_t before,
                 std::vector<int64_t> dilations, int64_t tokens) {
  int64_t reach = 0;
  for (const int64_t d : dilations) reach = d * before > reach ? d * before : reach;
  const int64_t count = static_cast<int64_t>(dilations.size()), panels = count * bank_panels(filters);
  const int64_t stride = tokens * patch + 2 * reach;
  Floats window = normal(channels * stride), weight = normal(panels * channels * kBankLength * kPanelKeys),
         slope = normal(panels * kPanelKeys), offset = normal(panels * thresholds * kPanelKeys);
  std::vector<uint8_t> real(static_cast<size_t>(tokens * patch));
  for (uint8_t& x : real) x = random_bits() % 4 != 0;
  BankJob job{};
  job.window = window.data() + reach;
  job.window_stride = stride;
  job.real = real.data();
  job.tokens = tokens;
  job.patch = patch;
  job.before = before;
  job.channels = channels;
  job.filters = filters;
  job.thresholds = thresholds;
  job.dilation_count = count;
  job.dilations = dilations.data();
  job.weight = weight.data();
  job.slope = slope.data();
  job.offset = offset.data();
  Floats center = normal(bank_features(job)), inverse = normal(bank_features(job));
  job.center = center.data();
  job.inverse = inverse.data();
  const auto run = [&](const Table& table) {
    Floats output(static_cast<size_t>(tokens * bank_features(job)));
    job.output = output.data();
    table.bank(job);
    return output;
  };
  return same_bits(run(*chosen_table()), run(*scalar_table()));
}

bool compete_agrees(int64_t channels, int64_t steps, int64_t dilation) {
  const int64_t reach = kBankLength / 2 * dilation, stride = steps + 2 * reach;
  Floats window = normal(channels * stride), weight = normal(channels * kBankLength * kGroup * kPanelKeys),
         sharpness = normal(kPanelKeys);
  std::vector<uint8_t> real(static_cast<size_t>(steps));
  for (uint8_t& x : real) x = random_bits() % 4 != 0;
  CompeteJob job{};
  job.window = window.data() + reach;
  job.window_stride = stride;
  job.real = real.data();
  job.steps = steps;
  job.channels = channels;
  job.dilation = dilation;
  job.weight = weight.data();
  job.sharpness = sharpness.data();
  const auto run = [&](const Table& table) {
    Floats sums(static_cast<size_t>(kCompeteSums));
    job.sums = sums.data();
    table.compete(job);
    return sums;
  };
  return same_bits(run(*chosen_table()), run(*scalar_table()));
}

bool rows_agree(int64_t tokens, int64_t width, int64_t taps) {
  Floats rows = normal(tokens * width), other = normal(tokens * width), weight = normal(taps * width),
         square = normal(width * tokens);
  std::vector<uint8_t> real(static_cast<size_t>(tokens));
  for (uint8_t& x : real) x = random_bits() % 3 != 0;
  const auto run = [&](const Table& table) {
    Floats output(static_cast<size_t>(tokens * width + 3 * width + tokens * tokens));
    float* at = output.data();
    MixJob mix{rows.data(), other.data(), weight.data(), at, 0, tokens, tokens, width, taps, taps / 2};
    table.mix(mix);
    at += tokens * width;
    PoolJob pool{rows.data(), real.data(), tokens, width, at, at + width, at + 2 * width};
    table.pool(pool);
    at += 3 * width;
    table.product({rows.data(), square.data(), at, tokens, width, tokens, width, tokens, tokens});
    return output;
  };
  return same_bits(run(*chosen_table()), run(*scalar_table()));
}

}  // namespace

// Failures; adds what ran to *ran.
int test_layers(int* ran) {
  int failed = 0;
  const auto note = [&](bool agrees, const char* what, int64_t size) {
    ++*ran;
    if (agrees) return;
    ++failed;
    std::printf("FAIL %s %lld\n", what, (long long)size);
  };
  const Line lines[] = {
      {1, 16, 16, 1, false, false, false, false},  {64, 128, 96, 3, true, false, false, false},
      {63, 48, 80, 1, true, true, false, false},   {17, 256, 128, 1, false, false, true, false},
      {13, 32, 112, 1, false, true, true, true},   {5, 448, 48, 1, true, false, false, true},
      {49, 80, 48, 3, false, false, false, true},  {33, 176, 64, 1, true, true, false, false},
      {20, 272, 16, 1, false, false, true, false}, {52, 1024, 32, 1, false, false, true, true}};
  for (const Line& c : lines) note(linear_agrees(c), "linear", c.depth);
  note(bank_agrees(1, 28, 4, 4, 4, {1, 4, 16}, 7), "bank", 28);
  note(bank_agrees(3, 5, 3, 1, 8, {2}, 9), "bank", 5);
  note(bank_agrees(2, 17, 6, 8, 4, {1, 5}, 3), "bank", 17);
  for (const int64_t steps : {1, 64, 65, 200})
    note(compete_agrees(steps % 3 + 1, steps, 5), "compete", steps);
  for (const int64_t width : {1, 7, 16, 31, 64, 128}) note(rows_agree(9, width, 5), "rows", width);
  note(rows_agree(1, 16, 3), "rows", 1);
  return failed;
}
