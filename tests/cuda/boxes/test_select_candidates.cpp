// SPDX-License-Identifier: MIT
// Candidates and detections: CUDA equals the host exactly, with ties, NaN, empty boxes, limits and images without any.
#include "kernels/boxes/select_candidates.h"

#include <cstring>

#include "tests/cuda/device_array.h"
#include "tests/kernels/boxes/candidate_arrays.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Ints = std::vector<int32_t>;

class SelectCandidatesCuda : public CudaTest {
 protected:
  void compare(const Cells& cells, const CandidateOptions& options) {
    const CandidateArrays want = select_on_host(cells, options);
    const int64_t N = cells.N, P = cells.P(), C = cells.C;
    const int64_t K = candidates_per_image(cells.level_rows, C, options.nms_pre);
    const DeviceArray<float> s({N, P, C}, cells.scores), b({N, P, 4}, cells.boxes);
    const DeviceArray<int32_t> sizes({N, 2}, cells.sizes);
    const DeviceArray<float> f(cells.factors.empty() ? Shape{0} : Shape{N, P}, cells.factors);
    DeviceArray<float> boxes({N, K, 4}), scores({N, K});
    DeviceArray<int32_t> labels({N, K}), sources({N, K}), counts({N});
    DeviceArray<int64_t> workspace({select_candidates_workspace(cuda, N, P, C, K)});
    select_candidates(cuda, s.view(), cells.factors.empty() ? View<const float>() : f.view(), b.view(),
                      cells.level_rows, sizes.view(), options,
                      {boxes.view(), scores.view(), labels.view(), sources.view(), counts.view()}, workspace.view());
    EXPECT_EQ(counts.to_host(), want.counts);
    EXPECT_EQ(sources.to_host(), want.sources);
    EXPECT_EQ(labels.to_host(), want.labels);
    EXPECT_EQ(scores.to_host(), want.scores);
    const std::vector<float> got = boxes.to_host();  // NaN corners are kept as they are, so bits
    EXPECT_TRUE(got.empty() || std::memcmp(got.data(), want.boxes.data(), got.size() * sizeof(float)) == 0);
  }
  std::mt19937 rng{9};
};

TEST_F(SelectCandidatesCuda, EqualsHost) {
  for (const int64_t C : {1, 10})
    for (const unsigned values : {1u, 16u, 100000u})
      for (const int64_t nms_pre : {0, 1, 50})
        for (const bool keep_empty : {false, true})
          compare(random_cells(3, C, {90, 25, 0, 9, 1}, values, rng), {0.25f, nms_pre, keep_empty});
}

TEST_F(SelectCandidatesCuda, MoreThanATileAndABlock) {
  compare(random_cells(2, 3, {1024, 256, 64}, 64, rng), {0.05f, 1000, false});
  compare(random_cells(1, 5, {900, 100}, 64, rng), {0.f, 0, true});
  compare(random_cells(1, 5, {900, 100}, 64, rng), {0.99f, 0, false});
}

TEST_F(SelectCandidatesCuda, NothingToSelect) {
  compare(random_cells(2, 2, {7, 3}, 16, rng), {1.f, 1000, false});
  compare(random_cells(2, 2, {0, 0}, 16, rng), {});
  compare(random_cells(2, 2, {}, 16, rng), {});
  compare(random_cells(2, 0, {3}, 16, rng), {});
  compare(random_cells(0, 2, {3, 4}, 16, rng), {});
}

TEST_F(SelectCandidatesCuda, GathersWhatIsKept) {
  for (const int64_t D : {0, 1, 5, 100}) {
    const int64_t N = 3, K = 37;
    const std::vector<float> boxes = random_floats(N * K * 4, rng), scores = random_floats(N * K, rng);
    Ints labels, keep;
    for (int64_t i = 0; i < N * K; ++i) labels.push_back(static_cast<int32_t>(rng() % 80));
    for (int64_t i = 0; i < N * D; ++i) keep.push_back(static_cast<int32_t>(rng() % (K + 1)) - 1);
    std::vector<float> want(static_cast<size_t>(N * D * 6));
    Cpu cpu(2);
    gather_detections(cpu, View<const float>(boxes.data(), {N, K, 4}), View<const float>(scores.data(), {N, K}),
                      View<const int32_t>(labels.data(), {N, K}), View<const int32_t>(keep.data(), {N, D}),
                      View<float>(want.data(), {N, D, 6}));
    const DeviceArray<float> b({N, K, 4}, boxes), s({N, K}, scores);
    const DeviceArray<int32_t> l({N, K}, labels), k({N, D}, keep);
    DeviceArray<float> detections({N, D, 6});
    gather_detections(cuda, b.view(), s.view(), l.view(), k.view(), detections.view());
    EXPECT_EQ(detections.to_host(), want);
  }
}

TEST_F(SelectCandidatesCuda, FactorsEqualHost) {
  for (const int64_t nms_pre : {0, 20}) {
    Cells cells = random_cells(2, 3, {40, 9}, 100, rng);
    cells.factors = random_floats(2 * cells.P(), rng, 0, 1);
    compare(cells, {0.25f, nms_pre, false});
  }
}

}  // namespace
}  // namespace gradlibra::kernels
