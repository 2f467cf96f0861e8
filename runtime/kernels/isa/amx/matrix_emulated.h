// The matrix unit in plain C++, for tests on machines without one: what the instructions would refuse ends
// the program, and so does what they would silently compute otherwise than meant.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "isa/amx/tile_config.h"

namespace edgesparse {
namespace {

struct Matrix {
  static void configure(const TileConfig& config) {
    demand(config.palette == 1 && config.start_row == 0, "palette 1 from row 0");
    for (const uint8_t byte : config.reserved) demand(byte == 0, "reserved bytes that are 0");
    for (int tile = 0; tile < 16; ++tile) {
      const int rows = config.rows[tile], bytes = config.row_bytes[tile];
      demand(rows <= kTileRowsMost && bytes <= kTileRowBytes, "at most 16 rows of 64 bytes");
      demand((rows == 0) == (bytes == 0), "rows and bytes, or neither");
      demand(tile < kTiles || rows == 0, "eight tiles");
    }
    state().config = config;
    state().configured = true;
    std::memset(state().tiles, 0, sizeof state().tiles);
  }
  static void release() {
    demand(state().configured, "a configuration to release");
    state() = State{};
  }
  static bool is_configured() { return state().configured; }

  template <int tile>
  static void zero() {
    std::memset(state().tiles[in_use<tile>()], 0, sizeof state().tiles[tile]);
  }
  template <int tile>
  static void load(const void* from, int64_t stride) {
    zero<tile>();
    for (int row = 0; row < rows<tile>(); ++row)
      std::memcpy(state().tiles[tile][row], static_cast<const char*>(from) + row * stride, bytes<tile>());
  }
  template <int tile>
  static void store(void* to, int64_t stride) {
    in_use<tile>();
    demand(stride >= static_cast<int64_t>(bytes<tile>()), "rows that do not overlap");
    for (int row = 0; row < rows<tile>(); ++row)
      std::memcpy(static_cast<char*>(to) + row * stride, state().tiles[tile][row], bytes<tile>());
  }
  template <int sum, int a, int b>
  static void add_products() {
    static_assert(sum != a && sum != b && a != b, "three tiles");
    in_use<sum>(), in_use<a>(), in_use<b>();
    demand(bytes<sum>() % 4 == 0 && bytes<a>() % 4 == 0, "rows of whole groups of four bytes");
    demand(rows<sum>() == rows<a>() && bytes<sum>() == bytes<b>(), "sums of the products' shape");
    demand(static_cast<int>(bytes<a>()) / 4 == rows<b>(), "factors of one depth");
    const int quads = rows<b>(), columns = static_cast<int>(bytes<sum>()) / 4;
    const uint8_t(*const left)[kTileRowBytes] = state().tiles[a];
    const uint8_t(*const right)[kTileRowBytes] = state().tiles[b];
    for (int row = 0; row < rows<sum>(); ++row) {
      uint32_t totals[kTileRowBytes / 4];  // they wrap, as the instruction's do
      std::memcpy(totals, state().tiles[sum][row], sizeof totals);
      for (int quad = 0; quad < quads; ++quad)
        for (int column = 0; column < columns; ++column)
          for (int i = 0; i < 4; ++i)
            totals[column] += static_cast<uint32_t>(left[row][quad * 4 + i] *
                                                    static_cast<int8_t>(right[quad][column * 4 + i]));
      std::memcpy(state().tiles[sum][row], totals, sizeof totals);
    }
  }

 private:
  struct State {
    bool configured = false;
    TileConfig config;
    uint8_t tiles[kTiles][kTileRowsMost][kTileRowBytes];
  };
  // Every thread has its own, as it has in the processor.
  static State& state() {
    static thread_local State found;
    return found;
  }
  static void demand(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "matrix unit: %s expected\n", what);
    std::abort();
  }
  template <int tile>
  static int rows() {
    return state().config.rows[tile];
  }
  template <int tile>
  static size_t bytes() {
    return state().config.row_bytes[tile];
  }
  template <int tile>
  static int in_use() {
    static_assert(tile >= 0 && tile < kTiles, "a tile");
    demand(state().configured && rows<tile>() > 0, "a tile that is configured");
    return tile;
  }
};

}  // namespace
}  // namespace edgesparse
