// SPDX-License-Identifier: MIT
// Point sets to boxes: CUDA against the host, forward and backward, all transforms.
#include "kernels/boxes/points_to_boxes.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class PointsToBoxesCuda : public CudaTest {
 protected:
  void compare(int64_t N, int64_t P, int64_t K, const std::vector<float>& offsets, BoxTransform transform,
               Accumulate mode, std::mt19937& rng) {
    std::vector<float> priors;
    for (int64_t p = 0; p < P; ++p)
      priors.insert(priors.end(), {static_cast<float>(p % 9), static_cast<float>(p / 9), p < 5 ? 8.f : 16.f});
    const std::vector<float> moment = {0.2f, -0.3f};
    const auto grad_boxes = random_floats(N * P * 4, rng), before = random_floats(N * P * 2 * K, rng);
    const std::vector<float> moment_before = {1, -2};
    const float moment_mul = 0.01f;

    Cpu cpu(2);
    std::vector<float> want_boxes(static_cast<size_t>(N * P * 4)), want_grad = before, want_moment = moment_before;
    std::vector<float> host_workspace(static_cast<size_t>(points_to_boxes_workspace(N * P)));
    const PointSets host{.offsets = {offsets.data(), {N, P, 2 * K}},
                         .priors = {priors.data(), {P, 3}},
                         .moment = {moment.data(), {2}},
                         .transform = transform};
    points_to_boxes(cpu, host, {want_boxes.data(), {N, P, 4}});
    points_to_boxes_backward(cpu, host, {grad_boxes.data(), {N, P, 4}},
                             {.offsets = {{want_grad.data(), {N, P, 2 * K}}, mode},
                              .moment = {{want_moment.data(), {2}}, mode},
                              .moment_mul = moment_mul},
                             {host_workspace.data(), {static_cast<int64_t>(host_workspace.size())}});

    const DeviceArray<float> o({N, P, 2 * K}, offsets), pr({P, 3}, priors), m({2}, moment), gb({N, P, 4}, grad_boxes);
    DeviceArray<float> boxes({N, P, 4}), workspace({points_to_boxes_workspace(N * P)});
    const bool add = mode == Accumulate::add;  // else the outputs start as NaN
    DeviceArray<float> grad = add ? DeviceArray<float>({N, P, 2 * K}, before) : DeviceArray<float>({N, P, 2 * K});
    DeviceArray<float> grad_moment = add ? DeviceArray<float>({2}, moment_before) : DeviceArray<float>({2});
    const PointSets sets{o.view(), pr.view(), m.view(), transform};
    points_to_boxes(cuda, sets, boxes.view());
    points_to_boxes_backward(
        cuda, sets, gb.view(),
        {.offsets = {grad.view(), mode}, .moment = {grad_moment.view(), mode}, .moment_mul = moment_mul},
        workspace.view());
    expect_near_or_nan(boxes.to_host(), want_boxes, 1e-5, 1e-6);
    expect_near_or_nan(grad.to_host(), want_grad, 1e-5, 1e-5);
    expect_near_or_nan(grad_moment.to_host(), want_moment, 1e-5, 1e-5);

    // A null view skips the gradient by m.
    points_to_boxes_backward(cuda, sets, gb.view(), {.offsets = {grad.view()}, .moment_mul = moment_mul},
                             workspace.view());
    expect_near_or_nan(grad_moment.to_host(), want_moment, 1e-5, 1e-5);
  }
};

TEST_F(PointsToBoxesCuda, EqualsHost) {
  std::mt19937 rng(4);
  for (const BoxTransform transform : {BoxTransform::moment, BoxTransform::minmax, BoxTransform::partial_minmax})
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add})
      for (const auto& [N, P, K] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{
               {1, 1, 9}, {3, 85, 9}, {1, 256, 4}, {2, 341, 9}, {2, 0, 9}})
        compare(N, P, K, random_floats(N * P * 2 * K, rng, -2, 2), transform, mode, rng);
}

// Whole numbers tie in most sets; equal points have deviation 0.
TEST_F(PointsToBoxesCuda, TiesAndEqualPoints) {
  std::mt19937 rng(5);
  for (const BoxTransform transform : {BoxTransform::moment, BoxTransform::minmax, BoxTransform::partial_minmax}) {
    auto offsets = random_floats(100 * 18, rng, -2, 2);
    for (float& v : offsets) v = std::round(v);
    std::fill(offsets.begin(), offsets.begin() + 36, 0.1f);
    compare(1, 100, 9, offsets, transform, Accumulate::overwrite, rng);
  }
}

TEST_F(PointsToBoxesCuda, NaNShows) {
  for (const BoxTransform transform : {BoxTransform::moment, BoxTransform::minmax, BoxTransform::partial_minmax})
    for (size_t k = 0; k < 4; ++k) {
      std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8};
      values[2 * k] = kNaN;
      const DeviceArray<float> offsets({1, 1, 8}, values), priors({1, 3}, {0, 0, 1}), moment({2}, {0, 0});
      DeviceArray<float> boxes({1, 1, 4});
      points_to_boxes(cuda, {offsets.view(), priors.view(), moment.view(), transform}, boxes.view());
      const auto box = boxes.to_host();
      EXPECT_TRUE(std::isfinite(box[0]) && std::isnan(box[1]) && std::isfinite(box[2]) && std::isnan(box[3])) << k;
    }
}

}  // namespace
}  // namespace gradlibra::kernels
