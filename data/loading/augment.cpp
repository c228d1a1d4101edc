// SPDX-License-Identifier: MIT
// Order of images and orientations by a counter-based generator.
#include "data/loading/augment.h"

#include <numeric>
#include <span>
#include <utility>

#include "runtime/base/random.h"

namespace gradlibra {
namespace {

// Streams of different purposes never share a key.
constexpr uint64_t kOrderStream = hash_name("order", 5), kOrientationStream = hash_name("orientation", 11);

}  // namespace

std::vector<int64_t> epoch_order(int64_t images, uint64_t seed, int64_t epoch) {
  std::vector<int64_t> order(static_cast<size_t>(images));
  std::iota(order.begin(), order.end(), int64_t{0});
  RandomStream(seed, {kOrderStream, static_cast<uint64_t>(epoch)}).shuffle(std::span(order));
  return order;
}

int32_t random_orientation(const OrientationChoices& choices, uint64_t seed, int64_t epoch, int64_t position) {
  RandomStream random(seed, {kOrientationStream, static_cast<uint64_t>(epoch), static_cast<uint64_t>(position)});
  // All three are drawn always, so that one option does not change what another draws.
  const int32_t horizontal = random.uniform_int(2) ? kOrientFlipHorizontal : 0;
  const int32_t vertical = random.uniform_int(2) ? kOrientFlipVertical : 0;
  const auto quarters = static_cast<int>(random.uniform_int(4));
  // Clockwise turns by 0, 90, 180, 270 degrees as a transposition and flips after it.
  static constexpr int32_t kTurns[4] = {0, kOrientTranspose | kOrientFlipHorizontal,
                                        kOrientFlipHorizontal | kOrientFlipVertical,
                                        kOrientTranspose | kOrientFlipVertical};
  int32_t orientation = 0;
  if (choices.quarter_turns)
    orientation = kTurns[quarters];
  else if (choices.half_turns)
    orientation = kTurns[quarters & 2];
  // Two flips of one axis cancel.
  if (choices.flip_horizontal) orientation ^= horizontal;
  if (choices.flip_vertical) orientation ^= vertical;
  return orientation;
}

Box orient_box(const Box& box, int32_t orientation, float width, float height) {
  Box out = box;
  if (orientation & kOrientTranspose) {
    out = {box.y1, box.x1, box.y2, box.x2};
    std::swap(width, height);
  }
  if (orientation & kOrientFlipHorizontal) {
    const float x1 = out.x1;
    out.x1 = width - out.x2;
    out.x2 = width - x1;
  }
  if (orientation & kOrientFlipVertical) {
    const float y1 = out.y1;
    out.y1 = height - out.y2;
    out.y2 = height - y1;
  }
  return out;
}

}  // namespace gradlibra
