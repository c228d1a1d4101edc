// SPDX-License-Identifier: MIT
// A slide's tiles as batches, read while the batch before is looked at.
#pragma once

#include <cstdint>
#include <future>
#include <stdexcept>
#include <vector>

#include "data/loading/batch.h"
#include "data/loading/loader_config.h"
#include "data/slides/slide.h"
#include "data/slides/tile_plan.h"

namespace gradlibra {

// A slide cannot be read; the message names it and why. Other slides are none the worse for it.
struct SlideError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct TileBatch {
  Batch batch;
  std::vector<size_t> tiles;  // those of the first pictures of the batch; behind them are blank ones
  size_t next = 0;            // of the tiles: the first behind what this batch and those before it deal with
  int64_t empty = 0;          // passed over on the way from the batch before
};

// Batches are always full, blank pictures after the last tile: another size would be another network for a GPU, and
// other bits. Where batches begin depends on the slide alone, also for one that begins at `first`, a `next` of an
// earlier run.
class TileBatches {
 public:
  struct Options {
    int width = 0, height = 0;  // of a tile; what lies beyond the slide is white, as make-patches fills it
    // A tile is passed over if in each colour its brightest and darkest values on the slide are at most so far apart.
    int empty_range = 0;
  };
  // All must outlive it.
  TileBatches(Slide& slide, const std::vector<Tile>& tiles, const LoaderConfig& loader, const Options& options,
              size_t first);
  ~TileBatches();
  TileBatches(const TileBatches&) = delete;
  TileBatches& operator=(const TileBatches&) = delete;

  // False: no tile is left. The last one has `next` == tiles.size(), and no tiles if only empty ones were left.
  // SlideError.
  bool next(TileBatch& out);

 private:
  [[nodiscard]] TileBatch read(TileBatch out);

  Slide& slide_;
  const std::vector<Tile>& tiles_;
  const LoaderConfig& loader_;
  const Options options_;
  size_t at_;  // of the reader
  std::future<TileBatch> coming_;
};

}  // namespace gradlibra
