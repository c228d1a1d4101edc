// SPDX-License-Identifier: MIT
// Target assignment: CUDA equals the host exactly, with ties, padding, empty images and hundreds of boxes.
#include "kernels/boxes/assign.h"

#include <algorithm>

#include "tests/cuda/device_array.h"
#include "tests/kernels/boxes/assign_cases.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Ints = std::vector<int32_t>;

class AssignCuda : public CudaTest {
 protected:
  // Both return the device's result after comparing it with the host's.
  Ints points(const std::vector<float>& priors, const std::vector<float>& gt, const Ints& counts,
              const PointAssign& options = {}, const std::vector<uint8_t>& valid = {}) {
    const auto P = static_cast<int64_t>(priors.size()) / 3, N = static_cast<int64_t>(counts.size());
    const int64_t M = static_cast<int64_t>(gt.size()) / 4 / N;
    Cpu cpu(2);
    Ints want(static_cast<size_t>(N * P));
    const auto host_flags = valid.empty() ? View<const uint8_t>() : View<const uint8_t>(valid.data(), {N, P});
    Ints host_workspace(static_cast<size_t>(point_assign_workspace(N, M, options)));
    point_assign(cpu, View<const float>(priors.data(), {P, 3}), View<const float>(gt.data(), {N, M, 4}),
                 View<const int32_t>(counts.data(), {N}), host_flags, options, View<int32_t>(want.data(), {N, P}),
                 View<int32_t>(host_workspace.data(), {static_cast<int64_t>(host_workspace.size())}));
    const DeviceArray<float> p({P, 3}, priors), g({N, M, 4}, gt);
    const DeviceArray<int32_t> c({N}, counts);
    const DeviceArray<uint8_t> device_valid(valid.empty() ? Shape{0} : Shape{N, P}, valid);
    const auto flags = valid.empty() ? View<const uint8_t>() : device_valid.view();
    DeviceArray<int32_t> assigned({N, P});
    DeviceArray<int32_t> workspace({point_assign_workspace(N, M, options)});
    point_assign(cuda, p.view(), g.view(), c.view(), flags, options, assigned.view(), workspace.view());
    EXPECT_EQ(assigned.to_host(), want);
    return assigned.to_host();
  }
  Ints max_iou(const std::vector<float>& boxes, const std::vector<float>& gt, const Ints& counts,
               const MaxIouAssign& options = {}, const std::vector<uint8_t>& valid = {}) {
    const auto N = static_cast<int64_t>(counts.size());
    const int64_t P = static_cast<int64_t>(boxes.size()) / 4 / N, M = static_cast<int64_t>(gt.size()) / 4 / N;
    Cpu cpu(2);
    Ints want(static_cast<size_t>(N * P));
    const auto host_flags = valid.empty() ? View<const uint8_t>() : View<const uint8_t>(valid.data(), {N, P});
    std::vector<float> host_workspace(static_cast<size_t>(max_iou_assign_workspace(N, M)));
    max_iou_assign(cpu, View<const float>(boxes.data(), {N, P, 4}), View<const float>(gt.data(), {N, M, 4}),
                   View<const int32_t>(counts.data(), {N}), host_flags, options, View<int32_t>(want.data(), {N, P}),
                   View<float>(host_workspace.data(), {static_cast<int64_t>(host_workspace.size())}));
    const DeviceArray<float> b({N, P, 4}, boxes), g({N, M, 4}, gt);
    const DeviceArray<int32_t> c({N}, counts);
    const DeviceArray<uint8_t> device_valid(valid.empty() ? Shape{0} : Shape{N, P}, valid);
    const auto flags = valid.empty() ? View<const uint8_t>() : device_valid.view();
    DeviceArray<int32_t> assigned({N, P});
    DeviceArray<float> workspace({max_iou_assign_workspace(N, M)});
    max_iou_assign(cuda, b.view(), g.view(), c.view(), flags, options, assigned.view(), workspace.view());
    EXPECT_EQ(assigned.to_host(), want);
    return assigned.to_host();
  }
  const std::vector<float> pyramid = point_priors({{16, 16, 8}, {8, 8, 16}, {4, 4, 32}, {2, 2, 64}, {1, 1, 128}});
};

TEST_F(AssignCuda, PointAssignEqualsHost) {
  std::mt19937 rng(6);
  for (const float grid : {0.f, 1.f, 4.f})
    for (const int pos_num : {1, 4})
      points(pyramid, random_boxes(3 * 12, 128, grid, rng), {12, 0, 7}, {.pos_num = pos_num});
  points(pyramid, random_boxes(3, 128, 0, rng), {3}, {.scale = 2, .pos_num = 16});
  points(point_priors({{13, 11, 8}}), random_boxes(33, 100, 1, rng), {33});
}

TEST_F(AssignCuda, PointAssignEdges) {
  const auto priors = point_priors({{2, 2, 8}});
  EXPECT_EQ(points(priors, {}, {0, 0}), Ints(8, 0));
  EXPECT_EQ(points({}, {0, 0, 1, 1}, {1}), Ints{});
  EXPECT_EQ(points(priors, {kNaN, 0, 1, 1, 4, 4, 12, 12}, {9}), (Ints{0, 0, 0, 2}));
  EXPECT_EQ(points(point_priors({{1, 2, 8}, {1, 1, 16}}), {0, 0, 8, 8}, {1}, {.pos_num = 5}), (Ints{1, 1, 0}));
  EXPECT_EQ(points(point_priors({{4, 4, 8}, {2, 2, 16}}), {2, 14, 14, 26, 10, 18, 22, 22}, {2}),  // both centres tie
            (Ints{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
}

TEST_F(AssignCuda, MaxIouAssignEqualsHost) {
  std::mt19937 rng(7);
  for (const float grid : {0.f, 2.f, 16.f})
    for (const float min_pos : {0.f, 1e-6f, 2.f})
      max_iou(random_boxes(3 * 137, 128, grid, rng), random_boxes(3 * 12, 128, grid, rng), {12, 0, 5},
              {.min_pos_iou = min_pos});
}

TEST_F(AssignCuda, MaxIouAssignEdges) {
  EXPECT_EQ(max_iou({0, 0, 4, 4}, {}, {0}), (Ints{0}));
  EXPECT_EQ(max_iou({0, 0, 8, 8, 0, 0, 8, 6}, {0, 0, 8, 8, 0, 0, 8, 8}, {2}), (Ints{2, 1}));
  EXPECT_EQ(max_iou({}, {0, 0, 4, 4}, {1}), Ints{});
  EXPECT_EQ(max_iou({kNaN, 0, 4, 4, 0, 0, 4, kNaN, 0, 1, 4, 4}, {0, 0, 4, 4}, {1}), (Ints{0, 0, 1}));
}

TEST_F(AssignCuda, HundredsOfBoxesInOneImage) {
  std::mt19937 rng(8);
  const auto gt = random_boxes(500, 64, 1, rng);
  points(point_priors({{8, 8, 8}, {4, 4, 16}, {2, 2, 32}}), gt, {500});
  max_iou(random_boxes(40, 64, 1, rng), gt, {500});
}

TEST_F(AssignCuda, GatherTargetsEqualsHost) {
  std::mt19937 rng(9);
  const int64_t N = 3, P = 143, M = 5;
  const auto gt = random_floats(N * M * 4, rng);
  Ints assigned, gt_labels;
  for (int64_t i = 0; i < N * P; ++i) assigned.push_back(static_cast<int32_t>(rng() % 7) - 1);
  for (int64_t i = 0; i < N * M; ++i) gt_labels.push_back(static_cast<int32_t>(rng() % 10));
  Cpu cpu(2);
  Ints want_labels(assigned.size());
  std::vector<float> want_class(assigned.size()), want_targets(4 * assigned.size()), want_weights(assigned.size());
  gather_targets(cpu, View<const int32_t>(assigned.data(), {N, P}), View<const float>(gt.data(), {N, M, 4}),
                 View<const int32_t>(gt_labels.data(), {N, M}), 10, View<int32_t>(want_labels.data(), {N, P}),
                 View<float>(want_class.data(), {N, P}), View<float>(want_targets.data(), {N, P, 4}),
                 View<float>(want_weights.data(), {N, P}));
  const DeviceArray<int32_t> a({N, P}, assigned), l({N, M}, gt_labels);
  const DeviceArray<float> g({N, M, 4}, gt);
  DeviceArray<int32_t> labels({N, P});
  DeviceArray<float> class_weights({N, P}), targets({N, P, 4}), weights({N, P}), targets_alone({N, P, 4}),
      weights_alone({N, P});
  gather_targets(cuda, a.view(), g.view(), l.view(), 10, labels.view(), class_weights.view(), targets.view(),
                 weights.view());
  gather_targets(cuda, a.view(), g.view(), {}, 10, {}, {}, targets_alone.view(), weights_alone.view());
  EXPECT_EQ(labels.to_host(), want_labels);
  EXPECT_EQ(class_weights.to_host(), want_class);
  EXPECT_EQ(targets.to_host(), want_targets);
  EXPECT_EQ(weights.to_host(), want_weights);
  EXPECT_EQ(targets_alone.to_host(), want_targets);
  EXPECT_EQ(weights_alone.to_host(), want_weights);
}

TEST_F(AssignCuda, CountAssignedEqualsHost) {
  std::mt19937 rng(10);
  for (const auto& [N, P] : std::vector<std::pair<int64_t, int64_t>>{{0, 5}, {1, 1}, {2, 0}, {3, 1111}, {300, 33}}) {
    Ints assigned;
    for (int64_t i = 0; i < N * P; ++i)
      assigned.push_back(i / std::max<int64_t>(P, 1) % 5 == 2 ? -1 : static_cast<int32_t>(rng() % 4) - 1);
    Cpu cpu(2);
    std::vector<double> want(4);
    count_assigned(cpu, View<const int32_t>(assigned.data(), {N, P}), View<double>(want.data(), {4}), {});
    const DeviceArray<int32_t> a({N, P}, assigned);
    DeviceArray<double> counts({4});
    DeviceArray<int32_t> workspace({count_assigned_workspace(N)});
    count_assigned(cuda, a.view(), counts.view(), workspace.view());
    EXPECT_EQ(counts.to_host(), want) << N << " " << P;
    if (N > 0) {
      DeviceArray<int32_t> small({1});
      EXPECT_THROW(count_assigned(cuda, a.view(), counts.view(), small.view()), std::invalid_argument);
    }
  }
}

// Some cells lie in the padding of their image; one image has no others.
TEST_F(AssignCuda, LeavesOutPaddingLikeTheHost) {
  std::mt19937 rng(16);
  const int64_t P = static_cast<int64_t>(pyramid.size()) / 3;
  std::vector<uint8_t> valid(static_cast<size_t>(3 * P));
  for (size_t i = 0; i < valid.size(); ++i) valid[i] = i >= static_cast<size_t>(2 * P) ? 0 : rng() % 3 != 0;
  const auto check = [&](const Ints& assigned) {
    for (size_t i = 0; i < valid.size(); ++i)
      if (valid[i] == 0) {
        EXPECT_EQ(assigned[i], -1) << i;
      }
    EXPECT_GT(std::count_if(assigned.begin(), assigned.end(), [](int32_t a) { return a > 0; }), 0);
  };
  for (const int pos_num : {1, 4})
    check(points(pyramid, random_boxes(3 * 12, 128, 4, rng), {12, 7, 5}, {.pos_num = pos_num}, valid));
  check(max_iou(random_boxes(3 * P, 128, 4, rng), random_boxes(3 * 12, 128, 4, rng), {12, 7, 5}, {}, valid));
}

}  // namespace
}  // namespace gradlibra::kernels
