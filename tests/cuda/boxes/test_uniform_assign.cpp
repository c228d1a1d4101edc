// SPDX-License-Identifier: MIT
// Uniform matching: CUDA equals the host exactly, with ties, padding, cells without a part and hundreds of objects.
#include "kernels/boxes/uniform_assign.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/boxes/anchor_cases.h"
#include "tests/kernels/host_array.h"
#include "tests/kernels/vector_view.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Ints = std::vector<int32_t>;

class UniformAssignCuda : public CudaTest {
 protected:
  // Compares assignment, pairs, their rows and gradient with the host's.
  void check(const std::vector<float>& anchors, const std::vector<float>& boxes, const std::vector<float>& gt,
             const Ints& counts, const UniformAssign& options, const std::vector<uint8_t>& valid) {
    const auto P = static_cast<int64_t>(anchors.size()) / 4, N = static_cast<int64_t>(counts.size());
    const int64_t M = static_cast<int64_t>(gt.size()) / 4 / N, S = 2 * options.match_times;
    Cpu cpu(2);
    Ints want(static_cast<size_t>(N * P)), want_pairs(static_cast<size_t>(N * S * M));
    const auto flags = valid.empty() ? View<const uint8_t>() : view(valid, {N, P});
    uniform_assign(cpu, view(anchors, {P, 4}), view(boxes, {N, P, 4}), view(gt, {N, M, 4}), view(counts, {N}), flags,
                   options, view(want, {N, P}), view(want_pairs, {N, S, M}));
    const DeviceArray<float> a({P, 4}, anchors), b({N, P, 4}, boxes), g({N, M, 4}, gt);
    const DeviceArray<int32_t> c({N}, counts);
    const DeviceArray<uint8_t> v({static_cast<int64_t>(valid.size())}, valid);
    DeviceArray<int32_t> assigned({N, P}), pairs({N, S, M});
    const View<const uint8_t> device_flags =
        valid.empty() ? View<const uint8_t>() : View<const uint8_t>(v.view().data(), {N, P});
    uniform_assign(cuda, a.view(), b.view(), g.view(), c.view(), device_flags, options, assigned.view(), pairs.view());
    EXPECT_EQ(assigned.to_host(), want);
    EXPECT_EQ(pairs.to_host(), want_pairs);

    Floats rows({N, S, M, 4}), targets({N, S, M, 4}), weights({N, S, M});
    gather_pairs(cpu, view(std::as_const(want_pairs), {N, S, M}), view(boxes, {N, P, 4}), view(gt, {N, M, 4}),
                 rows.view(), targets.view(), weights.view());
    DeviceArray<float> device_rows({N, S, M, 4}), device_targets({N, S, M, 4}), device_weights({N, S, M});
    gather_pairs(cuda, std::as_const(pairs).view(), b.view(), g.view(), device_rows.view(), device_targets.view(),
                 device_weights.view());
    EXPECT_EQ(device_rows.to_host(), rows.values);
    EXPECT_EQ(device_targets.to_host(), targets.values);
    EXPECT_EQ(device_weights.to_host(), weights.values);

    const Floats grad_rows = random_array({N, S, M, 4}, 9);
    const DeviceArray<float> device_grad_rows({N, S, M, 4}, grad_rows.values);
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      Floats grad = random_array({N, P, 4}, 10);
      DeviceArray<float> device_grad({N, P, 4}, grad.values);
      gather_pairs_backward(cpu, view(std::as_const(want_pairs), {N, S, M}), grad_rows.view(), grad.view(), mode);
      gather_pairs_backward(cuda, std::as_const(pairs).view(), device_grad_rows.view(), device_grad.view(), mode);
      EXPECT_EQ(device_grad.to_host(), grad.values);
    }
  }
};

TEST_F(UniformAssignCuda, EqualsHost) {
  std::mt19937 rng(4);
  const auto anchors = square_anchors({{5, 3, 32}}, {1, 2, 4, 8, 16});
  const int64_t N = 3, P = static_cast<int64_t>(anchors.size()) / 4, M = 6;
  for (const float grid : {0.0f, 1.0f, 16.0f})
    for (const int k : {1, 4}) {
      std::vector<float> boxes;
      for (int64_t n = 0; n < N; ++n) boxes.insert(boxes.end(), anchors.begin(), anchors.end());
      if (grid != 16)
        for (float& v : boxes) v += random_floats(1, rng, -20, 20)[0];
      check(anchors, boxes, random_boxes(N * M, 128, grid, rng), {6, 0, 4}, {.match_times = k},
            random_flags(N * P, k == 1 ? 4 : 0, rng));
    }
}

TEST_F(UniformAssignCuda, Edges) {
  const auto anchors = square_anchors({{1, 1, 32}}, {1, 2});
  check(anchors, anchors, {}, {0}, {}, {});                                // no place for objects
  check(anchors, anchors, {0, 0, 9, 9}, {0}, {}, {});                      // none there
  check(anchors, anchors, {0, 0, 9, 9, -16, -16, 16, 16}, {2}, {}, {});    // fewer anchors than matches
  check(anchors, std::vector<float>(8, kNaN), {0, 0, 9, 9}, {1}, {}, {});  // predictions that are no boxes
  check(anchors, anchors, {0, 0, 9, 9}, {1}, {}, {0, 0});                  // nobody takes part
  check({}, {}, {0, 0, 9, 9}, {1}, {}, {});
}

TEST_F(UniformAssignCuda, HundredsOfObjectsInOneImage) {
  std::mt19937 rng(5);
  const auto anchors = square_anchors({{4, 4, 32}}, {1, 4});
  check(anchors, anchors, random_boxes(300, 128, 1, rng), {300}, {.match_times = 1}, {});
}

}  // namespace
}  // namespace gradlibra::kernels
