// SPDX-License-Identifier: MIT
// Masks of deformable columns: CUDA against the host.
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

  // skip: elements before the arrays, so that they are not aligned.
  template <class T>
  void compare_columns(const Shape& cells, int64_t taps, int64_t C, int64_t skip) {
    SCOPED_TRACE(cells.to_string() + ", taps " + std::to_string(taps) + ", channels " + std::to_string(C) + ", skip " +
                 std::to_string(skip));
    const Shape all{cells[0], cells[1], cells[2], taps, C}, one{cells[0], cells[1], cells[2], taps};
    const int64_t size = all.size() + skip;
    Both<T> columns({size}, stored<T>(values(size, 1))), grad({size}, stored<T>(values(size, 1)));
    Both<T> modulated = unwritten<T>({size}), in_place({size}, columns.host());
    Both<float> mask(one, random_floats(one.size(), rng, 0, 1)), grad_mask = unwritten<float>(one);
    on_both([&](auto& device) {
      const auto at = [&](Both<T>& array) { return View<T>(array.on(device).data() + skip, all); };
      modulate_columns<T>(device, at(columns), mask.on(device), at(modulated));
      modulate_columns<T>(device, at(in_place), mask.on(device), at(in_place));
      modulate_columns_backward<T>(device, at(columns), mask.on(device), at(grad), grad_mask.on(device));
    });
    for (Both<T>* exact : {&modulated, &in_place, &grad})  // one product, rounded once
      expect_near_or_nan(widened(exact->device()), widened(exact->host()), 0);
    // C products, of values up to 200 now and then.
    expect_near_or_nan(grad_mask.device(), grad_mask.host(), 2e-5 * static_cast<double>(C + 4), 1e-6);
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

TEST_F(DeformModulationCuda, ColumnsEqualHost) {
  for (const int64_t skip : {0, 1})
    for (const int64_t C : {0, 1, 3, 8, 12, 16, 40, 256, 263})
      for (const auto& [cells, taps] :
           {std::pair(Shape{1, 1, 1}, 1), {Shape{1, 3, 5}, 9}, {Shape{2, 3, 2}, 9}, {Shape{0, 4, 4}, 9}}) {
        compare_columns<float>(cells, taps, C, skip);
        compare_columns<bfloat16>(cells, taps, C, skip);
      }
}

}  // namespace
}  // namespace gradlibra::testing
