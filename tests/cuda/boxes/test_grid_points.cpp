// SPDX-License-Identifier: MIT
// Grids of points on boxes: CUDA against the host, forward and backward.
#include "kernels/boxes/grid_points.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class GridPointsCuda : public CudaTest {
 protected:
  void compare(const Shape& rows, int64_t n, bool squares, bool with_boxes, Accumulate mode) {
    SCOPED_TRACE(rows.to_string() + ", side " + std::to_string(n));
    const Shape of_boxes{rows[0], rows[1], 4}, of_points{rows[0], rows[1], 2 * n * n};
    std::vector<float> values = random_floats(of_boxes.size(), rng);
    for (size_t i = 9; i < values.size(); i += 41) values[i] = kNaN;
    Both<> regression(of_boxes, values), previous(of_boxes, random_floats(of_boxes.size(), rng, -4, 4)),
        points = unwritten<float>(of_points), boxes = unwritten<float>(of_boxes),
        grad_points(of_points, random_floats(of_points.size(), rng)),
        grad = mode == Accumulate::add ? Both<>(of_boxes, random_floats(of_boxes.size(), rng))
                                       : unwritten<float>(of_boxes);
    on_both([&](auto& device) {
      const PreviousBoxes before{squares ? View<const float>() : View<const float>(previous.on(device)), 2};
      grid_points(device, regression.on(device), before, points.on(device),
                  with_boxes ? boxes.on(device) : View<float>());
      grid_points_backward(device, regression.on(device), before, grad_points.on(device), {grad.on(device), mode});
    });
    expect_near_or_nan(points.device(), points.host(), 5e-6, 1e-6);
    expect_near_or_nan(boxes.device(), boxes.host(), 5e-6, 1e-6);  // NaN where it is not wanted
    expect_near_or_nan(grad.device(), grad.host(), 5e-5, 1e-5);
  }
  std::mt19937 rng{8};
};

TEST_F(GridPointsCuda, EqualsHost) {
  for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add})
    for (const bool squares : {false, true})
      for (const auto& [rows, n] :
           {std::pair(Shape{1, 1}, 3), {Shape{3, 85}, 3}, {Shape{1, 256}, 2}, {Shape{2, 171}, 5}, {Shape{2, 0}, 3}})
        compare(rows, n, squares, !squares || n == 3, mode);
}

}  // namespace
}  // namespace gradlibra::testing
