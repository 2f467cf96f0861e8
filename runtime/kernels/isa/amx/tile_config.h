// The shapes of the matrix unit's eight tiles, as its configuration instruction reads them.
#pragma once

#include <cstdint>

namespace edgesparse {
namespace {

constexpr int kTiles = 8;
constexpr int kTileRowsMost = 16;
constexpr int kTileRowBytes = 64;

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  // Tiles from `first` to `last`.
  void shape(int first, int last, int64_t tile_rows, int64_t bytes) {
    for (int tile = first; tile <= last; ++tile) {
      rows[tile] = static_cast<uint8_t>(tile_rows);
      row_bytes[tile] = static_cast<uint16_t>(bytes);
    }
  }
};
static_assert(sizeof(TileConfig) == 64, "the instruction reads 64 bytes");

}  // namespace
}  // namespace edgesparse
