// SPDX-License-Identifier: MIT
// Candidates on the host: a worked example, thresholds, clipping, empty boxes, random cases against the definition.
#include "kernels/boxes/select_candidates.h"

#include <gtest/gtest.h>

#include "tests/kernels/boxes/candidate_arrays.h"
#include "tests/kernels/vectors.h"
#include "tests/messages.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Ints = std::vector<int32_t>;
using Floats = std::vector<float>;

TEST(SelectCandidates, TwoLevels) {
  // Cells 0 and 1 are one level, cell 2 the other; two classes. Cell 1 leaves the image to the right.
  const Cells cells{1,      2, {2, 1}, {0.1f, 0.9f, 0.9f, 0.3f, 0.4f, 0.05f}, {0, 0, 4, 4, 7, 1, 12, 5, 2, 2, 6, 6},
                    {8, 10}};
  const CandidateArrays got = select_on_host(cells, {.nms_pre = 3});
  EXPECT_EQ(got.counts, Ints{4});
  EXPECT_EQ(got.sources, (Ints{1, 2, 3, 4, -1}));
  EXPECT_EQ(got.labels, (Ints{1, 0, 1, 0, -1}));
  EXPECT_EQ(got.scores, (Floats{0.9f, 0.9f, 0.3f, 0.4f, 0}));
  EXPECT_EQ(got.boxes, (Floats{0, 0, 4, 4, 7, 1, 10, 5, 7, 1, 10, 5, 2, 2, 6, 6, 0, 0, 0, 0}));
}

TEST(SelectCandidates, ThresholdIsStrict) {
  const auto chosen = [](float threshold, const Floats& scores) {
    const auto P = static_cast<int64_t>(scores.size());
    return select_on_host({1, 1, {P}, scores, Floats(4 * scores.size(), 1), {9, 9}},
                          {.score_threshold = threshold, .nms_pre = 0, .keep_empty_boxes = true})
        .counts[0];
  };
  const float t = 0.05f;
  EXPECT_EQ(chosen(t, {t, std::nextafter(t, 0.f)}), 0);
  EXPECT_EQ(chosen(t, {std::nextafter(t, 1.f)}), 1);
  EXPECT_EQ(chosen(0, {0, -0.f, 1e-45f, kInfinity, kNaN}), 2);
  EXPECT_EQ(chosen(-0.f, {0, -0.f, 1e-45f}), 1);
}

TEST(SelectCandidates, EmptyBoxesAreDroppedBehindTheLimit) {
  // A line, inside out, outside, NaN, sound. The first nms_pre are chosen before any box is looked at.
  const Cells cells{1,
                    1,
                    {5},
                    {0.9f, 0.8f, 0.7f, 0.6f, 0.5f},
                    {1, 1, 1, 5, 4, 4, 2, 2, 20, 0, 30, 3, 0, kNaN, 4, 4, 0, 0, 2, 2},
                    {10, 10}};
  EXPECT_EQ(select_on_host(cells, {}).sources, (Ints{4, -1, -1, -1, -1}));
  EXPECT_EQ(select_on_host(cells, {.nms_pre = 4}).counts, Ints{0});
  const CandidateArrays kept = select_on_host(cells, {.keep_empty_boxes = true});
  EXPECT_EQ(kept.sources, (Ints{0, 1, 2, 3, 4}));
  EXPECT_TRUE(std::isnan(kept.boxes[13]));
  EXPECT_EQ(kept.boxes[8], 10);
}

TEST(SelectCandidates, Empty) {
  EXPECT_EQ(select_on_host({2, 3, {0, 0}, {}, {}, {1, 1, 1, 1}}, {}).counts, (Ints{0, 0}));
  EXPECT_EQ(select_on_host({2, 3, {}, {}, {}, {1, 1, 1, 1}}, {}).counts, (Ints{0, 0}));
  EXPECT_EQ(select_on_host({1, 0, {2}, {}, Floats(8, 1), {1, 1}}, {}).counts, Ints{0});
  EXPECT_EQ(select_on_host({0, 3, {2, 1}, {}, {}, {}}, {}).counts, Ints{});
}

// Step by step as the contract says it.
CandidateArrays by_definition(const Cells& cells, const CandidateOptions& options) {
  CandidateArrays all;
  const int64_t P = cells.P(), C = cells.C;
  const int64_t K = candidates_per_image(cells.level_rows, C, options.nms_pre);
  for (int64_t n = 0; n < cells.N; ++n) {
    CandidateArrays image;
    int64_t first = 0;
    for (const int64_t rows : cells.level_rows) {
      const auto score = [&](int32_t i) { return cells.scores[static_cast<size_t>(n * P * C + i)]; };
      Ints level;
      for (int64_t i = first * C; i < (first + rows) * C; ++i)
        if (score(static_cast<int32_t>(i)) > options.score_threshold) level.push_back(static_cast<int32_t>(i));
      std::stable_sort(level.begin(), level.end(), [&](int i, int j) { return score(i) > score(j); });
      if (options.nms_pre > 0) level.resize(std::min(level.size(), static_cast<size_t>(options.nms_pre)));
      for (const int32_t i : level) {
        const float* b = &cells.boxes[static_cast<size_t>(4 * (n * P + i / C))];
        const auto height = static_cast<float>(cells.sizes[static_cast<size_t>(2 * n)]);
        const auto width = static_cast<float>(cells.sizes[static_cast<size_t>(2 * n + 1)]);
        const float box[4] = {std::clamp(b[0], 0.f, width), std::clamp(b[1], 0.f, height), std::clamp(b[2], 0.f, width),
                              std::clamp(b[3], 0.f, height)};
        if (!options.keep_empty_boxes && !(box[2] > box[0] && box[3] > box[1])) continue;
        image.boxes.insert(image.boxes.end(), box, box + 4);
        image.scores.push_back(score(i));
        image.labels.push_back(static_cast<int32_t>(i % C));
        image.sources.push_back(i);
      }
      first += rows;
    }
    all.counts.push_back(static_cast<int32_t>(image.scores.size()));
    image.boxes.resize(static_cast<size_t>(4 * K), 0);
    image.scores.resize(static_cast<size_t>(K), 0);
    image.labels.resize(static_cast<size_t>(K), -1);
    image.sources.resize(static_cast<size_t>(K), -1);
    all.boxes.insert(all.boxes.end(), image.boxes.begin(), image.boxes.end());
    all.scores.insert(all.scores.end(), image.scores.begin(), image.scores.end());
    all.labels.insert(all.labels.end(), image.labels.begin(), image.labels.end());
    all.sources.insert(all.sources.end(), image.sources.begin(), image.sources.end());
  }
  return all;
}

TEST(SelectCandidates, RandomCasesFollowTheDefinition) {
  std::mt19937 rng(3);
  for (const int64_t C : {1, 3})
    for (const auto& level_rows : {std::vector<int64_t>{100}, std::vector<int64_t>{64, 0, 17, 4, 1}})
      for (const unsigned values : {1u, 16u, 100000u})
        for (const int64_t nms_pre : {-1, 1, 20, 1000})
          for (const bool keep_empty : {false, true}) {
            const Cells cells = random_cells(3, C, level_rows, values, rng);
            const CandidateOptions options{0.25f, nms_pre, keep_empty};
            const CandidateArrays got = select_on_host(cells, options), want = by_definition(cells, options);
            EXPECT_EQ(got.counts, want.counts);
            EXPECT_TRUE(same_bits(got.boxes, want.boxes));
            EXPECT_TRUE(same_bits(got.scores, want.scores));
            EXPECT_EQ(got.labels, want.labels);
            EXPECT_EQ(got.sources, want.sources);
          }
}

TEST(SelectCandidates, NamesWhatIsWrong) {
  Cpu cpu(1);
  const auto message = [&](Shape scores, Shape boxes, const std::vector<int64_t>& level_rows, Shape sizes, int64_t K,
                           CandidateOptions options, int64_t workspace) {
    const int64_t N = scores[0];
    return message_of<std::invalid_argument>([&] {
      select_candidates(cpu, View<const float>(nullptr, scores), {}, View<const float>(nullptr, boxes), level_rows,
                        View<const int32_t>(nullptr, sizes), options,
                        {View<float>(nullptr, {N, K, 4}), View<float>(nullptr, {N, K}), View<int32_t>(nullptr, {N, K}),
                         View<int32_t>(nullptr, {N, K}), View<int32_t>(nullptr, {N})},
                        View<int64_t>(nullptr, {workspace}));
    });
  };
  const int64_t big = int64_t{1} << 28;
  EXPECT_EQ(message({2, 6}, {2, 3, 4}, {3}, {2, 2}, 6, {}, 99),
            "select_candidates: scores must be (N, P, C), are (2, 6)");
  EXPECT_EQ(message({1, big, 8}, {1, big, 4}, {big}, {1, 2}, 1000, {}, 0),
            "select_candidates: 2147483648 scores per image, at most 2^31 - 1 are possible");
  EXPECT_EQ(message({1, 17, 1}, {1, 17, 4}, std::vector<int64_t>(17, 1), {1, 2}, 17, {}, 99),
            "select_candidates: 17 levels, at most 16 are possible");
  EXPECT_EQ(message({1, 3, 2}, {1, 3, 4}, {3}, {1, 2}, 6, {.score_threshold = kInfinity}, 99),
            "select_candidates: score_threshold must be finite, is inf");
  EXPECT_EQ(message({1, 3, 2}, {1, 3, 4}, {4, -1}, {1, 2}, 6, {}, 99), "select_candidates: a level has -1 cells");
  EXPECT_EQ(message({1, 3, 2}, {1, 3, 4}, {2}, {1, 2}, 4, {}, 99),
            "select_candidates: the levels have 2 cells, scores 3");
  EXPECT_EQ(message({1, 3, 2}, {1, 3, 2}, {3}, {1, 2}, 6, {}, 99),
            "select_candidates: boxes has shape (1, 3, 2), expected (1, 3, 4)");
  EXPECT_EQ(message({1, 3, 2}, {1, 3, 4}, {3}, {2}, 6, {}, 99),
            "select_candidates: sizes has shape (2), expected (1, 2)");
  EXPECT_EQ(message({1, 3, 2}, {1, 3, 4}, {3}, {1, 2}, 5, {}, 99),
            "select_candidates: candidates.boxes has shape (1, 5, 4), expected (1, 6, 4)");
  EXPECT_EQ(message({1, 3, 2}, {1, 3, 4}, {3}, {1, 2}, 6, {}, 8), "select_candidates: workspace has 8 values, needs 9");
}

// The threshold and a level's limit look at the score alone; what comes out is the product.
TEST(SelectCandidates, FactorsComeAfterTheThreshold) {
  Cells cells{1, 2, {3}, {0.9f, 0.2f, 0.3f, 0.1f, 0.5f, 0.04f}, {}, {100, 100}, {0.5f, 1, 0.01f}};
  for (int i = 0; i < 3; ++i) cells.boxes.insert(cells.boxes.end(), {0, 0, 10, 10});
  const CandidateArrays got = select_on_host(cells, {0.05f, 4, false});
  EXPECT_EQ(got.counts, Ints{4});
  EXPECT_EQ(got.sources, (Ints{0, 4, 2, 1}));
  EXPECT_EQ(got.scores, (Floats{0.9f * 0.5f, 0.5f * 0.01f, 0.3f, 0.2f * 0.5f}));
}

TEST(GatherDetections, RowsOfWhatIsKept) {
  Cpu cpu(2);
  const Floats boxes{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, scores{0.5f, 0.6f, 0.7f, 0.8f};
  const Ints labels{0, 3, 2, 1}, keep{1, 0, -1, 1, -1, -1};
  Floats detections(36, kNaN);
  gather_detections(cpu, view(boxes, {2, 2, 4}), view(scores, {2, 2}), view(labels, {2, 2}), view(keep, {2, 3}),
                    view(detections, {2, 3, 6}));
  EXPECT_EQ(detections, (Floats{5,  6,  7,  8,  0.6f, 3, 1, 2, 3, 4, 0.5f, 0,  0, 0, 0, 0, 0, -1,
                                13, 14, 15, 16, 0.8f, 1, 0, 0, 0, 0, 0,    -1, 0, 0, 0, 0, 0, -1}));
  EXPECT_THROW(gather_detections(cpu, view(boxes, {2, 2, 4}), view(scores, {2, 2}), view(labels, {2, 2}),
                                 view(keep, {2, 3}), view(detections, {2, 6, 3})),
               std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
