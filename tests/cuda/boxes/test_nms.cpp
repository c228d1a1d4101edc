// SPDX-License-Identifier: MIT
// Non-maximum suppression: CUDA equals the host exactly, with ties, NaN, padding and limits.
#include "kernels/boxes/nms.h"

#include <algorithm>

#include "tests/cuda/device_array.h"
#include "tests/kernels/boxes/assign_cases.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Ints = std::vector<int32_t>;

class NmsCuda : public CudaTest {
 protected:
  void compare(const std::vector<float>& boxes, const std::vector<float>& scores, const Ints& labels,
               const Ints& counts, float threshold, int64_t max_kept) {
    const auto N = static_cast<int64_t>(counts.size());
    const int64_t K = static_cast<int64_t>(scores.size()) / N;
    Cpu cpu(2);
    Ints want_keep(static_cast<size_t>(N * max_kept)), want_counts(counts.size());
    std::vector<int64_t> host_workspace(static_cast<size_t>(nms_workspace(cpu, N, K)));
    multiclass_nms(cpu,
                   {View<const float>(boxes.data(), {N, K, 4}), View<const float>(scores.data(), {N, K}),
                    View<const int32_t>(labels.data(), {N, K}), View<const int32_t>(counts.data(), {N})},
                   threshold, View<int32_t>(want_keep.data(), {N, max_kept}), View<int32_t>(want_counts.data(), {N}),
                   View<int64_t>(host_workspace.data(), {static_cast<int64_t>(host_workspace.size())}));
    const DeviceArray<float> b({N, K, 4}, boxes), s({N, K}, scores);
    const DeviceArray<int32_t> l({N, K}, labels), c({N}, counts);
    DeviceArray<int32_t> keep({N, max_kept}), kept_counts({N});
    DeviceArray<int64_t> workspace({nms_workspace(cuda, N, K)});
    multiclass_nms(cuda, {b.view(), s.view(), l.view(), c.view()}, threshold, keep.view(), kept_counts.view(),
                   workspace.view());
    EXPECT_EQ(kept_counts.to_host(), want_counts);
    EXPECT_EQ(keep.to_host(), want_keep);
  }
};

TEST_F(NmsCuda, EqualsHost) {
  std::mt19937 rng(11);
  for (const int64_t K : {1, 31, 32, 33, 257, 600})
    for (const float threshold : {0.f, 0.5f}) {
      const auto boxes = random_boxes(3 * K, 64, 2, rng);
      std::vector<float> scores;
      Ints labels;
      for (int64_t i = 0; i < 3 * K; ++i) {
        scores.push_back(static_cast<float>(rng() % 64) / 64);
        labels.push_back(static_cast<int32_t>(rng() % 3));
      }
      const auto some = static_cast<int32_t>(K / 2);
      compare(boxes, scores, labels, {static_cast<int32_t>(K), some, 0}, threshold, K);
      compare(boxes, scores, labels, {static_cast<int32_t>(K) + 5, -1, some}, threshold, 7);
    }
}

// A row of boxes, each above the threshold with its neighbours only: a word's candidates depend on each other one by
// one, and on those of the word before.
TEST_F(NmsCuda, ChainsOfOverlaps) {
  std::vector<float> boxes, scores;
  for (int i = 0; i < 300; ++i) {
    const auto x = static_cast<float>(2 * i);
    boxes.insert(boxes.end(), {x, 0, x + 100, 10});
    scores.push_back(static_cast<float>(-i));
  }
  const Ints labels(300, 4);
  compare(boxes, scores, labels, {300}, 0.96f, 300);  // IoU 98 / 102, then 96 / 104: every other one is kept
  compare(boxes, scores, labels, {299}, 0.7f, 300);   // the next eight fall
  compare(boxes, scores, labels, {300}, 0.01f, 300);  // nearly all of the next word
}

TEST_F(NmsCuda, AllOrNoneSuppressed) {
  std::vector<float> apart, same, scores;
  Ints own;
  for (int i = 0; i < 700; ++i) {
    const auto x = static_cast<float>(2 * i);
    apart.insert(apart.end(), {x, 0, x + 1, 1});
    same.insert(same.end(), {3, 3, 9, 9});
    scores.push_back(static_cast<float>(i % 5));
    own.push_back(i);
  }
  for (const int64_t max_kept : {1, 63, 64, 65, 700}) {
    compare(apart, scores, Ints(700, 0), {700}, 0.5f, max_kept);
    compare(same, scores, Ints(700, 0), {700}, 0.5f, max_kept);
    compare(same, scores, own, {700}, 0.5f, max_kept);
  }
}

// So many candidates that the overlaps do not fit into the workspace at once: the second pass begins at candidate 4416.
TEST_F(NmsCuda, InPasses) {
  const int64_t K = 30000;
  const int32_t count = 5000;
  ASSERT_LT(nms_workspace(cuda, 1, K), count * (K / 64)) << "all overlaps fit: this tests nothing";
  std::mt19937 rng(13);
  auto boxes = random_boxes(K, 256, 1, rng);
  std::vector<float> scores;
  Ints labels;
  for (int64_t i = 0; i < K; ++i) {
    scores.push_back(static_cast<float>(rng() % 4096));
    labels.push_back(static_cast<int32_t>(rng() % 2));
  }
  compare(boxes, scores, labels, {count}, 0.5f, 900);  // full in the first pass

  // Each box that is kept suppresses the next eight. From 4500 on the row begins again at 4350, so what the first pass
  // keeps last suppresses in the words next to it, and in some that are not.
  for (int32_t i = 0; i < count; ++i) {
    const auto x = static_cast<float>(2 * (i < 4500 ? i : i - 150));
    const float row[4] = {x, 0, x + 100, 10};
    std::copy(row, row + 4, boxes.begin() + 4 * i);
    scores[static_cast<size_t>(i)] = static_cast<float>(-i);
  }
  compare(boxes, scores, Ints(K, 0), {count}, 0.7f, K);
}

TEST_F(NmsCuda, TooManyCandidates) {
  const int64_t K = kMaxNmsCandidates + 1, size = nms_workspace(cuda, 0, K);
  EXPECT_EQ(size, 0);
  EXPECT_THROW(
      multiclass_nms(cuda,
                     {View<const float>(nullptr, {0, K, 4}), View<const float>(nullptr, {0, K}),
                      View<const int32_t>(nullptr, {0, K}), View<const int32_t>(nullptr, {0})},
                     0.5f, View<int32_t>(nullptr, {0, 1}), View<int32_t>(nullptr, {0}), View<int64_t>(nullptr, {size})),
      std::invalid_argument);
}

TEST_F(NmsCuda, TiesAndNaN) {
  std::mt19937 rng(12);
  auto boxes = random_boxes(40, 8, 4, rng);  // many are equal
  std::vector<float> scores(40, 0.5f);
  for (size_t i = 0; i < 40; i += 7) scores[i] = kNaN;
  for (size_t i = 0; i < 40; i += 9) boxes[4 * i + i % 4] = kNaN;
  scores[1] = -kInfinity;
  scores[2] = 0.f;
  scores[3] = -0.f;
  compare(boxes, scores, Ints(40, 0), {40}, 0.5f, 40);
  compare({0, 0, 1, 1, 2, 2, 3, 3}, {kNaN, kNaN}, {0, 0}, {2}, 0.5f, 3);
  compare({0, 0, 8, 8, 0, 0, 8, 4}, {2, 1}, {0, 0}, {2}, 0.5f, 3);  // IoU of exactly the threshold
}

TEST_F(NmsCuda, NoCandidatesAndNoRoom) {
  compare({}, {}, {}, {0, 0}, 0.5f, 4);
  compare({0, 0, 1, 1}, {1}, {0}, {1}, 0.5f, 0);
}

}  // namespace
}  // namespace gradlibra::kernels
