// SPDX-License-Identifier: MIT
// Offsets and masks out of one prediction: CUDA against the host.
#include "kernels/convolution/deform_modulation.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

// Where two sums on either side of a rounding boundary may end up apart.
template <class T>
constexpr double kNeighbours = std::is_same_v<T, float> ? 1e-6 : kBfloat16Step;

class DeformModulationCuda : public CudaTest {
 protected:
  // With a NaN here and there, and logits that saturate.
  std::vector<float> values(int64_t size, float reach) {
    std::vector<float> v = random_floats(size, rng, -reach, reach);
    for (size_t i = 17; i < v.size(); i += 97) v[i] = kNaN;
    for (size_t i = 23; i < v.size(); i += 89) v[i] = i % 2 == 0 ? 200.0f : -200.0f;
    return v;
  }

  template <class T>
  void compare_split(const Shape& cells, int64_t taps, Accumulate mode) {
    const Shape whole{cells[0], cells[1], cells[2], 3 * taps}, two{cells[0], cells[1], cells[2], 2 * taps},
        one{cells[0], cells[1], cells[2], taps};
    Both<T> prediction(whole, stored<T>(values(whole.size(), 3)));
    Both<float> offsets = unwritten<float>(two), mask = unwritten<float>(one), grad_offsets(two, values(two.size(), 1)),
                grad_mask(one, values(one.size(), 1));
    Both<T> grad = mode == Accumulate::add ? Both<T>(whole, stored<T>(values(whole.size(), 1))) : unwritten<T>(whole);
    on_both([&](auto& device) {
      split_modulation<T>(device, prediction.on(device), offsets.on(device), mask.on(device));
      split_modulation_backward<T>(device, prediction.on(device), grad_offsets.on(device), grad_mask.on(device),
                                   {grad.on(device), mode});
    });
    expect_near_or_nan(offsets.device(), offsets.host(), 0);
    expect_near_or_nan(mask.device(), mask.host(), 1e-7, 1e-6);
    expect_near_or_nan(widened(grad.device()), widened(grad.host()), 1e-6, kNeighbours<T>);
  }

  std::mt19937 rng{5};
};

TEST_F(DeformModulationCuda, SplitEqualsHost) {
  for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add})
    for (const auto& [cells, taps] : {std::pair(Shape{1, 1, 1}, 1),
                                      {Shape{2, 5, 7}, 9},
                                      {Shape{1, 3, 2}, 25},
                                      {Shape{3, 8, 8}, 9},
                                      {Shape{0, 4, 4}, 9},
                                      {Shape{2, 0, 4}, 9}}) {
      compare_split<float>(cells, taps, mode);
      compare_split<bfloat16>(cells, taps, mode);
    }
}

}  // namespace
}  // namespace gradlibra::testing
