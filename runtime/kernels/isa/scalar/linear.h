// `LinearJob` in plain loops: element by element the operations of isa/tiles/linear.h, in their order, so
// that every bit of the output agrees with the vector instruction sets.
#pragma once

#include "isa/linear.h"
#include "isa/scalar/math.h"

namespace edgesparse {
namespace {

// Sixteen partial sums, as every instruction set keeps them.
template <class Term>
float sum_by_16(int64_t count, const Term& term) {
  float partial[kPanelKeys] = {};
  for (int64_t d = 0; d < count; ++d) partial[d % kPanelKeys] = term(d, partial[d % kPanelKeys]);
  float total = 0.0f;
  for (const float p : partial) total += p;
  return total;
}

void normalize_row(const LinearJob& job, const float* x, float* to) {
  const float count = static_cast<float>(job.depth);
  const float mean = sum_by_16(job.depth, [&](int64_t d, float sum) { return sum + x[d]; }) / count;
  const float squares =
      sum_by_16(job.depth, [&](int64_t d, float sum) { return std::fma(x[d] - mean, x[d] - mean, sum); });
  const float factor = 1.0f / std::sqrt(squares / count + job.epsilon);
  for (int64_t d = 0; d < job.depth; ++d) to[d] = std::fma((x[d] - mean) * factor, job.gain[d], job.shift[d]);
}

float gelu(float x) {
  const float z = magnitude(x) * 0.7071067811865476f;
  const float t = 1.0f / std::fma(z, 0.3275911f, 1.0f);
  float p = 1.061405429f;
  constexpr float kCoefficients[] = {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
  for (const float c : kCoefficients) p = std::fma(p, t, c);
  const float tail = p * t * exp2_fine(z * z * -1.4426950408889634f);
  return 0.5f * std::fma(magnitude(x), 1.0f - tail, x);
}

void linear_row(const LinearJob& job, int64_t r, float* line) {
  const float* x = job.input + r * job.depth;
  if (job.gain) {
    normalize_row(job, x, line);
    x = line;
  }
  float least = 0.0f, most = 0.0f;
  bool finite = true;
  for (int64_t d = 0; d < job.depth; ++d) {
    most = larger(most, x[d]);
    least = larger(least, -x[d]);
    finite &= std::isfinite(x[d]);
  }
  const float range = larger(most + least, 1e-35f), inverse = 255.0f / range;
  const float step = finite ? range / 255.0f : std::nanf("");
  const int32_t zero = finite ? nearest(least * inverse) : 0;
  // Bytes less their zero; they lie behind `line` in the job's scratch.
  auto* const byte = reinterpret_cast<int32_t*>(line + job.depth);
  for (int64_t d = 0; d < job.depth; ++d) {
    const float t = larger(x[d] * inverse + static_cast<float>(zero), 0.0f);
    byte[d] = nearest(t < 255.0f ? t : 255.0f) - zero;
  }
  const int64_t part = job.columns / job.parts;
  for (int64_t column = 0; column < job.columns; ++column) {
    const int8_t* panel = job.weight + column / kPanelKeys * job.depth * kPanelKeys + column % kPanelKeys * 4;
    int32_t sum = 0;
    for (int64_t d = 0; d < job.depth; ++d) sum += byte[d] * panel[d / 4 * 64 + d % 4];
    float y = std::fma(static_cast<float>(sum) * job.scale[column], step, job.bias[column]);
    if (job.gelu) y = gelu(y);
    if (job.residual) y = y + job.residual[r * job.columns + column];
    job.output[column / part][r * part + column % part] = y;
  }
}

void linear(const LinearJob& job) {
  for (int64_t r = 0; r < job.rows; ++r) linear_row(job, r, static_cast<float*>(job.scratch));
}

void sum_weights(const int8_t* weight, int64_t depth, int64_t columns, int32_t* sums) {
  for (int64_t column = 0; column < columns; ++column) {
    const int8_t* panel = weight + column / kPanelKeys * depth * kPanelKeys + column % kPanelKeys * 4;
    sums[column] = 0;
    for (int64_t d = 0; d < depth; ++d) sums[column] += panel[d / 4 * 64 + d % 4];
  }
}

}  // namespace
}  // namespace edgesparse
