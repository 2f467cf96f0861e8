// Small jobs over rows of floats: pooling a block of tokens, a product at block resolution, and the depthwise
// convolution over values.
#pragma once

#include <cstdint>

namespace edgesparse {

// Mean and, where wanted, largest and smallest value over a block's real tokens; 0 where none is real.
struct PoolJob {
  const float* rows;    // tokens of width, one behind the other
  const uint8_t* real;  // one byte per token
  int64_t tokens, width;
  float* mean;
  float* largest;  // null = not wanted, as is `smallest` then
  float* smallest;
};

// c[m][n] = sum over k of a[m][k] * b[k][n].
struct ProductJob {
  const float *a, *b;
  float* c;
  int64_t rows, depth, columns, a_stride, b_stride, c_stride;
};

// out[t][c] = mixed[t][c] + sum over taps of weight[tap][c] * value[t + tap - before][c]; outside is 0.
struct MixJob {
  const float *mixed, *value, *weight;
  float* output;
  int64_t first_token, end_token, all_tokens;  // of this entry of the batch
  int64_t width, taps, before;
};

}  // namespace edgesparse
