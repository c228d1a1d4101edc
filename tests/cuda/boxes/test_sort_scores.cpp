// SPDX-License-Identifier: MIT
// Sorted segments: CUDA equals the host exactly, within a tile and over several merges, with ties, NaN, thresholds and
// limits.
#include "kernels/boxes/sort_scores.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Ints = std::vector<int32_t>;
using Lengths = std::vector<int64_t>;

class SortScoresCuda : public CudaTest {
 protected:
  void compare(int64_t N, const std::vector<float>& scores, const Lengths& lengths, int64_t limit, float lowest) {
    const int64_t E = static_cast<int64_t>(scores.size()) / N, O = sorted_size(lengths, limit);
    Cpu cpu(2);
    Ints want(static_cast<size_t>(N * O));
    std::vector<int64_t> host_workspace(static_cast<size_t>(sort_scores_workspace(cpu, N, E)));
    sort_scores(cpu, View<const float>(scores.data(), {N, E}), lengths, limit, lowest,
                View<int32_t>(want.data(), {N, O}),
                View<int64_t>(host_workspace.data(), {static_cast<int64_t>(host_workspace.size())}));
    const DeviceArray<float> s({N, E}, scores);
    DeviceArray<int32_t> order({N, O});
    DeviceArray<int64_t> workspace({sort_scores_workspace(cuda, N, E)});
    sort_scores(cuda, s.view(), lengths, limit, lowest, order.view(), workspace.view());
    EXPECT_EQ(order.to_host(), want) << "E " << E << ", limit " << limit << ", lowest " << lowest;
  }
  // Multiples of 1 / values in [-1, 1], one in ten NaN.
  std::vector<float> random_scores(int64_t size, unsigned values) {
    std::vector<float> scores;
    for (int64_t i = 0; i < size; ++i)
      scores.push_back(
          rng() % 10 == 0
              ? kNaN
              : static_cast<float>(static_cast<int>(rng() % (2 * values + 1))) / static_cast<float>(values) - 1);
    return scores;
  }
  std::mt19937 rng{8};
};

TEST_F(SortScoresCuda, WithinATile) {
  for (const int64_t size : {1, 2, 3, 31, 64, 257, 1000, 2047, 2048})
    for (const unsigned values : {1u, 100000u})
      for (const float lowest : {-kInfinity, 0.25f}) compare(2, random_scores(2 * size, values), {size}, 300, lowest);
  compare(1, {0.f, -0.f, kInfinity, -kInfinity, 1e-45f, -1e-45f, -0.f}, {7}, 7, -kInfinity);
}

TEST_F(SortScoresCuda, OverMerges) {
  for (const int64_t size : {2049, 4096, 5000, 9001})
    for (const int64_t limit : {1, 1000, 3000, 10000}) compare(1, random_scores(size, 64), {size}, limit, -kInfinity);
  compare(2, random_scores(2 * 9001, 64), {9001}, 5000, 0.9f);  // few per tile
  compare(1, random_scores(9001, 64), {9001}, 9001, 2);         // none
  compare(1, std::vector<float>(5000, 0.5f), {5000}, 4000, 0);  // all equal
}

TEST_F(SortScoresCuda, SegmentsOfUnequalLength) {
  for (const int64_t limit : {0, 1, 100, 5000})
    compare(3, random_scores(3 * 6446, 32), {5001, 0, 1300, 128, 16, 1}, limit, -0.5f);
  compare(2, random_scores(2 * 2148, 32), {100, 2048}, 77, -kInfinity);
}

TEST_F(SortScoresCuda, Empty) {
  compare(2, {}, {}, 3, 0);
  compare(2, {}, {0, 0}, 3, 0);
  compare(1, {1, 2}, {2}, 0, 0);
}

}  // namespace
}  // namespace gradlibra::kernels
