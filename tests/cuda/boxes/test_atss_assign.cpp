// SPDX-License-Identifier: MIT
// ATSS: CUDA equals the host exactly, with ties, padding, cells without a part and hundreds of objects.
#include "kernels/boxes/atss_assign.h"

#include <algorithm>

#include "tests/cuda/device_array.h"
#include "tests/kernels/boxes/anchor_cases.h"
#include "tests/kernels/vector_view.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Ints = std::vector<int32_t>;

class AtssAssignCuda : public CudaTest {
 protected:
  // Returns the number of positives, after comparing with the host.
  int64_t check(const std::vector<Level>& levels, float scale, const std::vector<float>& gt, const Ints& counts,
                const AtssAssign& options, uint32_t invalid_one_of) {
    const auto anchors = square_anchors(levels, {scale});
    std::vector<int64_t> level_rows;
    for (const Level& level : levels) level_rows.push_back(level.height * level.width);
    const auto P = static_cast<int64_t>(anchors.size()) / 4, N = static_cast<int64_t>(counts.size());
    const int64_t M = static_cast<int64_t>(gt.size()) / 4 / N,
                  size = atss_assign_workspace(N, M, static_cast<int64_t>(levels.size()), options);
    std::mt19937 rng(3);
    const auto valid = random_flags(N * P, invalid_one_of, rng);
    Cpu cpu(2);
    Ints want(static_cast<size_t>(N * P));
    std::vector<double> host_workspace(static_cast<size_t>(size));
    atss_assign(cpu, view(anchors, {P, 4}), level_rows, view(gt, {N, M, 4}), view(counts, {N}), view(valid, {N, P}),
                options, view(want, {N, P}), view(host_workspace, {size}));
    const DeviceArray<float> a({P, 4}, anchors), g({N, M, 4}, gt);
    const DeviceArray<int32_t> c({N}, counts);
    const DeviceArray<uint8_t> v({N, P}, valid);
    DeviceArray<int32_t> assigned({N, P});
    DeviceArray<double> workspace({size});
    atss_assign(cuda, a.view(), level_rows, g.view(), c.view(), invalid_one_of == 0 ? View<const uint8_t>() : v.view(),
                options, assigned.view(), workspace.view());
    EXPECT_EQ(assigned.to_host(), want);
    return std::count_if(want.begin(), want.end(), [](int32_t k) { return k > 0; });
  }
  const std::vector<Level> pyramid{{11, 13, 8}, {6, 7, 16}, {3, 4, 32}, {1, 1, 64}};
};

TEST_F(AtssAssignCuda, EqualsHost) {
  std::mt19937 rng(6);
  int64_t positives = 0;
  for (const float grid : {0.0f, 8.0f})
    for (const uint32_t invalid : {0u, 4u})
      positives += check(pyramid, grid == 0 ? 8.0f : 3.0f, random_boxes(3 * 4, 96, grid, rng), {4, 0, 3},
                         {.topk = invalid == 0 ? 9 : 4}, invalid);
  EXPECT_GT(positives, 10);
}

TEST_F(AtssAssignCuda, Edges) {
  check(pyramid, 8, {}, {0, 0}, {}, 0);         // no place for objects
  check(pyramid, 8, {0, 0, 9, 9}, {0}, {}, 0);  // none there
  check(pyramid, 8, {kNaN, 0, 9, 9, 10, 10, 70, 80}, {2}, {}, 0);
  check({{2, 2, 8}}, 2, {-8, -8, 8, 8}, {1}, {.topk = 1}, 0);         // one candidate has no deviation
  EXPECT_EQ(check({{2, 2, 8}}, 2, {-4, -4, 12, 12}, {1}, {}, 0), 4);  // all alike
  check({{2, 2, 8}}, 2, {-4, -4, 12, 12}, {1}, {}, 1);                // nobody takes part
  check({{0, 0, 8}}, 2, {0, 0, 4, 4}, {1}, {}, 0);
}

TEST_F(AtssAssignCuda, HundredsOfObjectsInOneImage) {
  std::mt19937 rng(7);
  check({{8, 8, 8}}, 4, random_boxes(300, 64, 1, rng), {300}, {.topk = 2}, 0);
}

}  // namespace
}  // namespace gradlibra::kernels
