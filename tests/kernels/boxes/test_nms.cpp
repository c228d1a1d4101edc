// SPDX-License-Identifier: MIT
// Non-maximum suppression on the host: worked examples, ties, limits, NaN, random cases against the plain greedy
// definition.
#include "kernels/boxes/nms.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "tests/kernels/boxes/assign_cases.h"
#include "tests/kernels/vectors.h"
#include "tests/messages.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using nlohmann::json;
using Ints = std::vector<int32_t>;

struct Result {
  Ints keep, counts;
};

Result run(const std::vector<float>& boxes, const std::vector<float>& scores, const Ints& labels, const Ints& counts,
           float threshold, int64_t max_kept, int threads = 2) {
  Cpu cpu(threads);
  const auto N = static_cast<int64_t>(counts.size());
  const int64_t K = static_cast<int64_t>(scores.size()) / N;
  Result result{Ints(static_cast<size_t>(N * max_kept), -77), Ints(counts.size(), -77)};
  std::vector<int64_t> workspace(static_cast<size_t>(nms_workspace(cpu, N, K)), -77);
  multiclass_nms(cpu, {view(boxes, {N, K, 4}), view(scores, {N, K}), view(labels, {N, K}), view(counts, {N})},
                 threshold, view(result.keep, {N, max_kept}), view(result.counts, {N}),
                 view(workspace, {static_cast<int64_t>(workspace.size())}));
  return result;
}

// One image, the indices kept.
Ints kept(const std::vector<float>& boxes, const std::vector<float>& scores, const Ints& labels, float threshold,
          int64_t max_kept = 100) {
  Result result = run(boxes, scores, labels, {static_cast<int32_t>(scores.size())}, threshold, max_kept);
  const auto count = static_cast<size_t>(result.counts[0]);
  EXPECT_TRUE(std::all_of(result.keep.begin() + result.counts[0], result.keep.end(), [](int k) { return k == -1; }));
  result.keep.resize(count);
  return result.keep;
}

TEST(Nms, WorkedExamples) {
  const json vectors = read_vectors("nms");
  const json &in = vectors["nms"]["inputs"], &expected = vectors["nms"]["expected"];
  const auto boxes = flatten<float>(in["boxes"]), scores = flatten<float>(in["scores"]);
  const float threshold = in["iou_threshold"];
  EXPECT_EQ(kept(boxes, scores, flatten<int32_t>(in["labels"]), threshold),
            flatten<int32_t>(expected["keep_class_wise"]));
  EXPECT_EQ(kept(boxes, scores, Ints(scores.size(), 0), threshold), flatten<int32_t>(expected["keep_class_agnostic"]));

  // Candidates of the selection example: (prior, class) with probability above the threshold, scaled by the prior's
  // factor.
  const json& post = vectors["post_process"];
  const auto prob = flatten<float>(post["inputs"]["prob"]), prior_boxes = flatten<float>(post["inputs"]["boxes"]);
  const auto factor = flatten<float>(post["inputs"]["factor"]);
  for (const char* name : {"plain", "factor"}) {
    std::vector<float> candidate_boxes, candidate_scores;
    Ints candidate_labels;
    for (size_t i = 0; i < prob.size(); ++i)
      if (prob[i] > post["inputs"]["score_thr"].get<float>()) {
        candidate_boxes.insert(candidate_boxes.end(), &prior_boxes[i / 2 * 4], &prior_boxes[i / 2 * 4] + 4);
        candidate_scores.push_back(prob[i] * (name == std::string("factor") ? factor[i / 2] : 1));
        candidate_labels.push_back(static_cast<int32_t>(i % 2));
      }
    const json& want = post["expected"][name];
    const auto want_scores = flatten(want["scores"]), want_boxes = flatten(want["boxes"]);
    const auto want_labels = flatten<int32_t>(want["labels"]);
    const Ints keep = kept(candidate_boxes, candidate_scores, candidate_labels, post["inputs"]["iou_threshold"],
                           name == std::string("factor") ? 3 : 100);
    ASSERT_EQ(keep.size(), want_scores.size()) << name;
    for (size_t k = 0; k < keep.size(); ++k) {
      const auto i = static_cast<size_t>(keep[k]);
      EXPECT_TRUE(near(candidate_scores[i], want_scores[k], 0, 1e-6)) << name << " " << k;
      EXPECT_EQ(candidate_labels[i], want_labels[k]) << name << " " << k;
      for (size_t c = 0; c < 4; ++c) EXPECT_EQ(candidate_boxes[4 * i + c], want_boxes[4 * k + c]) << name << " " << k;
    }
  }
}

// An IoU of exactly the threshold survives; the next float above does not.
TEST(Nms, ThresholdIsStrict) {
  const std::vector<float> boxes = {0, 0, 8, 8, 0, 0, 8, 4};  // IoU 0.5
  EXPECT_EQ(kept(boxes, {2, 1}, {0, 0}, 0.5f), (Ints{0, 1}));
  EXPECT_EQ(kept(boxes, {2, 1}, {0, 0}, std::nextafter(0.5f, 0.f)), (Ints{0}));
}

TEST(Nms, TiesKeepTheLowerIndexFirst) {
  const std::vector<float> apart = {0, 0, 1, 1, 5, 5, 6, 6, 9, 9, 10, 10}, same = {0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1};
  EXPECT_EQ(kept(apart, {0.5f, 0.5f, 0.5f}, {0, 0, 0}, 0.5f), (Ints{0, 1, 2}));
  EXPECT_EQ(kept(same, {0.5f, 0.5f, 0.5f}, {0, 0, 0}, 0.5f), (Ints{0}));
  EXPECT_EQ(kept(same, {0.1f, 0.5f, 0.5f}, {0, 1, 0}, 0.5f), (Ints{1, 2}));
  EXPECT_EQ(kept(apart, {-0.f, 0.f, -kInfinity}, {0, 0, 0}, 0.5f), (Ints{0, 1, 2}));
}

// A suppressed box suppresses nothing: 1 falls to 0, and 2, which overlaps only 1, stays.
TEST(Nms, SuppressedBoxesDoNotSuppress) {
  EXPECT_EQ(kept({0, 0, 10, 1, 3, 0, 13, 1, 6, 0, 16, 1}, {3, 2, 1}, {0, 0, 0}, 0.5f), (Ints{0, 2}));
}

TEST(Nms, MaxKeptCountsAndPadding) {
  const std::vector<float> boxes = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5};
  std::vector<float> batch;
  for (int n = 0; n < 4; ++n) batch.insert(batch.end(), boxes.begin(), boxes.end());
  const Result result = run(batch, {1, 2, 3, 1, 2, 3, 1, 2, 3, 3, 2, 1}, Ints(12, 0), {3, 2, 0, 99}, 0.5f, 2);
  EXPECT_EQ(result.counts, (Ints{2, 2, 0, 2}));
  EXPECT_EQ(result.keep, (Ints{2, 1, 1, 0, -1, -1, 0, 1}));
  EXPECT_EQ(run(batch, std::vector<float>(12, 1), Ints(12, 0), {3, 3, 3, 3}, 0.5f, 0).counts, Ints(4, 0));
}

TEST(Nms, NaNIsNeverKept) {
  for (size_t c = 0; c < 4; ++c) {
    std::vector<float> boxes = {0, 0, 1, 1, 0, 0, 1, 1};
    boxes[c] = kNaN;
    EXPECT_EQ(kept(boxes, {1, 0.5f}, {0, 0}, 0.5f), (Ints{1})) << c;
  }
  EXPECT_EQ(kept({0, 0, 1, 1, 0, 0, 1, 1}, {kNaN, 0.5f}, {0, 0}, 0.5f), (Ints{1}));
  EXPECT_EQ(kept({0, 0, 1, 1}, {kNaN}, {0}, 0.5f), Ints{});
}

TEST(Nms, NoCandidates) {
  EXPECT_EQ(kept({}, {}, {}, 0.5f), Ints{});
  EXPECT_EQ(run({}, {}, {}, {0, 0}, 0.5f, 3).keep, Ints(6, -1));
}

// Greedy over classes one at a time, overlaps in double on boxes whose coordinates are small integers (so both are
// exact).
Ints by_definition(const std::vector<float>& boxes, const std::vector<float>& scores, const Ints& labels,
                   double threshold) {
  Ints order(scores.size()), keep;
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)]; });
  const auto overlap_above = [&](int i, int j) {
    const float *a = &boxes[4 * static_cast<size_t>(i)], *b = &boxes[4 * static_cast<size_t>(j)];
    const double w = std::max(0.0, double{std::min(a[2], b[2])} - double{std::max(a[0], b[0])});
    const double h = std::max(0.0, double{std::min(a[3], b[3])} - double{std::max(a[1], b[1])});
    const double areas = double{(a[2] - a[0]) * (a[3] - a[1])} + double{(b[2] - b[0]) * (b[3] - b[1])};
    return w * h > threshold * (areas - w * h);
  };
  for (const int j : order)
    if (std::none_of(keep.begin(), keep.end(), [&](int i) {
          return labels[static_cast<size_t>(i)] == labels[static_cast<size_t>(j)] && overlap_above(i, j);
        }))
      keep.push_back(j);
  return keep;
}

TEST(Nms, RandomCasesFollowTheDefinition) {
  std::mt19937 rng(31);
  for (const int64_t K : {1, 31, 32, 33, 500})
    for (const int classes : {1, 3})
      for (const float threshold : {0.f, 0.25f, 0.5f, 0.75f}) {
        const auto boxes = random_boxes(K, 64, 2, rng);
        std::vector<float> scores;
        Ints labels;
        for (int64_t i = 0; i < K; ++i) {
          scores.push_back(static_cast<float>(rng() % 64) / 64);
          labels.push_back(static_cast<int32_t>(rng()) % classes);
        }
        EXPECT_EQ(kept(boxes, scores, labels, threshold, K), by_definition(boxes, scores, labels, double{threshold}))
            << K << " " << classes << " " << threshold;
      }
}

// No element is touched before all is checked.
TEST(Nms, NamesWhatIsWrong) {
  Cpu cpu(1);
  const auto message = [&](Shape boxes, Shape scores, float threshold, Shape keep, int64_t workspace) {
    const int64_t N = scores[0], K = scores[1];
    return message_of<std::invalid_argument>([&] {
      multiclass_nms(cpu,
                     {View<const float>(nullptr, boxes), View<const float>(nullptr, scores),
                      View<const int32_t>(nullptr, {N, K}), View<const int32_t>(nullptr, {N})},
                     threshold, View<int32_t>(nullptr, keep), View<int32_t>(nullptr, {N}),
                     View<int64_t>(nullptr, {workspace}));
    });
  };
  const int64_t big = int64_t{1} << 31;
  EXPECT_EQ(message({1, 3, 4}, {3}, 0.5f, {1, 2}, 2),
            "multiclass_nms: scores must be (N, K) and keep (N, max_kept), are (3) and (1, 2)");
  EXPECT_EQ(message({1, 3, 5}, {1, 3}, 0.5f, {1, 2}, 2),
            "multiclass_nms: boxes has shape (1, 3, 5), expected (1, 3, 4)");
  EXPECT_EQ(message({1, 3, 4}, {1, 3}, 0.5f, {2, 2}, 2), "multiclass_nms: keep has shape (2, 2), expected (1, 2)");
  EXPECT_EQ(message({1, 3, 4}, {1, 3}, -0.5f, {1, 2}, 2),
            "multiclass_nms: iou_threshold must not be negative, is -0.500000");
  EXPECT_EQ(message({1, 3, 4}, {1, 3}, 0.5f, {1, 2}, 1), "multiclass_nms: workspace has 1 values, needs 2");
  EXPECT_EQ(message({1, big, 4}, {1, big}, 0.5f, {1, 2}, big),
            "multiclass_nms: 2147483648 candidates per image, of which 2 may be kept: more than 2^31 - 1");
}

}  // namespace
}  // namespace gradlibra::kernels
