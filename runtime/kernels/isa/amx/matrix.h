// The matrix unit of AMX with 8-bit integers: eight tiles of up to 16 rows of 64 bytes.
#pragma once

#include "isa/amx/tile_config.h"

namespace edgesparse {
namespace {

// In assembly, because a tile is a number in the instruction: a compiler's own functions take it as a literal
// that no template can give.
struct Matrix {
  // All tiles become zero.
  static void configure(const TileConfig& config) { asm volatile("ldtilecfg %0" ::"m"(config)); }
  static void release() { asm volatile("tilerelease" ::: "memory"); }
  template <int tile>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(tile));
  }
  // Rows of a tile lie `stride` bytes apart.
  template <int tile>
  static void load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(tile) : "memory");
  }
  template <int tile>
  static void store(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(tile) : "memory");
  }
  // sum += a (unsigned bytes) . b (signed bytes, four of a column side by side), in 32 bits.
  template <int sum, int a, int b>
  static void add_products() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(a), "i"(b));
  }
};

}  // namespace
}  // namespace edgesparse
