// What every product on the matrix unit shares. `Matrix` and `Vector` are included before.
#pragma once

#include "isa/tiles/math.h"

namespace edgesparse {
namespace {

static_assert(Vector::kQueryBias == 128 && Vector::kWeightBias == 0, "unsigned by signed bytes");

// The tile configuration of a scope. Nothing of it may stay behind: the threads belong to the host.
class Configured {
 public:
  explicit Configured(const TileConfig& config) { Matrix::configure(config); }
  ~Configured() { Matrix::release(); }
  Configured(const Configured&) = delete;
  Configured& operator=(const Configured&) = delete;
};

// The largest number of quads that divides `quads` and fits a tile.
inline int64_t quads_per_tile(int64_t quads) {
  int64_t most = quads < kTileRowsMost ? quads : kTileRowsMost;
  while (most > 1 && quads % most != 0) --most;
  return most;
}

// Calls step(Constant<i>) for every i below count.
template <int count, class Step>
EDGESPARSE_INLINE void for_each(const Step& step) {
  step(Constant<0>());
  if constexpr (count > 1) step(Constant<1>());
  if constexpr (count > 2) step(Constant<2>());
  if constexpr (count > 3) step(Constant<3>());
  static_assert(count >= 1 && count <= 4, "up to four");
}

// Calls f(Constant<count>), count from 1 to 4.
template <class Function>
EDGESPARSE_INLINE void with_count(int64_t count, const Function& f) {
  switch (count) {
    case 1:
      return f(Constant<1>());
    case 2:
      return f(Constant<2>());
    case 3:
      return f(Constant<3>());
    default:
      return f(Constant<4>());
  }
}

}  // namespace
}  // namespace edgesparse
