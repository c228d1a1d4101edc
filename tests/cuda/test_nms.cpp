// SPDX-License-Identifier: MIT
// Non-maximum suppression: CUDA equals the host exactly, with ties, NaN, padding and limits.
#include "kernels/nms.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/assign_cases.h"

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
    Ints host_workspace(static_cast<size_t>(nms_workspace(N, K)));
    multiclass_nms(cpu, View<const float>(boxes.data(), {N, K, 4}), View<const float>(scores.data(), {N, K}),
                   View<const int32_t>(labels.data(), {N, K}), View<const int32_t>(counts.data(), {N}), threshold,
                   View<int32_t>(want_keep.data(), {N, max_kept}), View<int32_t>(want_counts.data(), {N}),
                   View<int32_t>(host_workspace.data(), {static_cast<int64_t>(host_workspace.size())}));
    const DeviceArray<float> b({N, K, 4}, boxes), s({N, K}, scores);
    const DeviceArray<int32_t> l({N, K}, labels), c({N}, counts);
    DeviceArray<int32_t> keep({N, max_kept}), kept_counts({N}), workspace({nms_workspace(N, K)});
    multiclass_nms(cuda, b.view(), s.view(), l.view(), c.view(), threshold, keep.view(), kept_counts.view(),
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

TEST_F(NmsCuda, TiesAndNaN) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  std::mt19937 rng(12);
  auto boxes = random_boxes(40, 8, 4, rng);  // many are equal
  std::vector<float> scores(40, 0.5f);
  for (size_t i = 0; i < 40; i += 7) scores[i] = kNaN;
  for (size_t i = 0; i < 40; i += 9) boxes[4 * i + i % 4] = kNaN;
  scores[1] = -kInf;
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
