// SPDX-License-Identifier: MIT
// Assigners on the host: worked examples, ties and level thresholds, random cases against the step-by-step definitions,
// memory.
#include "kernels/boxes/assign.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/boxes/box_iou.h"
#include "tests/kernels/boxes/assign_cases.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using nlohmann::json;
using Ints = std::vector<int32_t>;

constexpr int32_t kUnwritten = -77;

Ints run_points(const std::vector<float>& priors, const std::vector<float>& gt, const Ints& counts,
                const PointAssign& options = {}, int threads = 2) {
  Cpu cpu(threads);
  const auto P = static_cast<int64_t>(priors.size()) / 3, N = static_cast<int64_t>(counts.size());
  const int64_t M = static_cast<int64_t>(gt.size()) / 4 / N;
  Ints assigned(static_cast<size_t>(N * P), kUnwritten);
  Ints workspace(static_cast<size_t>(point_assign_workspace(N, M, options)), kUnwritten);
  point_assign(cpu, view(priors, {P, 3}), view(gt, {N, M, 4}), view(counts, {N}), {}, options, view(assigned, {N, P}),
               view(workspace, {static_cast<int64_t>(workspace.size())}));
  return assigned;
}

Ints run_iou(const std::vector<float>& boxes, const std::vector<float>& gt, const Ints& counts,
             const MaxIouAssign& options = {}, int threads = 2) {
  Cpu cpu(threads);
  const auto N = static_cast<int64_t>(counts.size());
  const int64_t P = static_cast<int64_t>(boxes.size()) / 4 / N, M = static_cast<int64_t>(gt.size()) / 4 / N;
  Ints assigned(static_cast<size_t>(N * P), kUnwritten);
  std::vector<float> workspace(static_cast<size_t>(max_iou_assign_workspace(N, M)), kNaN);
  max_iou_assign(cpu, view(boxes, {N, P, 4}), view(gt, {N, M, 4}), view(counts, {N}), {}, options,
                 view(assigned, {N, P}), view(workspace, {static_cast<int64_t>(workspace.size())}));
  return assigned;
}

TEST(BoxIou, WorkedExamples) {
  const json example = read_vectors("assign")["overlaps"];
  const auto a = flatten<float>(example["inputs"]["a"]), b = flatten<float>(example["inputs"]["b"]);
  const auto want = flatten(example["expected"]["iou"]);
  for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(near(box_iou(&a[4 * i], &b[4 * i]), want[i], 1e-7, 1e-6)) << i;
}

TEST(BoxIou, DegenerateAndNaN) {
  const float unit[4] = {0, 0, 1, 1}, point[4] = {0.5f, 0.5f, 0.5f, 0.5f}, inverted[4] = {1, 1, 0, 0};
  EXPECT_EQ(box_iou(unit, unit), 1);
  EXPECT_EQ(box_iou(unit, point), 0);
  EXPECT_EQ(box_iou(unit, inverted), 0);
  EXPECT_FALSE(boxes_overlap_above(inverted, inverted, 0.5f));
  for (int k = 0; k < 4; ++k) {
    float bad[4] = {0, 0, 1, 1};
    bad[k] = kNaN;
    EXPECT_EQ(box_iou(bad, unit), 0) << k;
    EXPECT_EQ(box_iou(unit, bad), 0) << k;
    EXPECT_FALSE(boxes_overlap_above(unit, bad, 0.1f)) << k;
  }
}

std::vector<float> example_priors(const json& example) {
  std::vector<Level> levels;
  for (const json& level : example["inputs"]["h_w_stride"]) levels.push_back({level[0], level[1], level[2]});
  return point_priors(levels);
}

TEST(PointAssign, WorkedExamples) {
  const json vectors = read_vectors("assign");
  for (const char* name : {"point_assigner", "point_assigner_tie", "point_assigner_level"}) {
    const json& example = vectors[name];
    const auto gt = flatten<float>(example["inputs"]["gt"]);
    const Ints counts = {static_cast<int32_t>(gt.size() / 4)};
    EXPECT_EQ(run_points(example_priors(example), gt, counts), flatten<int32_t>(example["expected"]["assigned"]))
        << name;
  }
  const json& three = vectors["point_assigner"];
  EXPECT_EQ(run_points(example_priors(three), flatten<float>(three["inputs"]["gt"]), {6}, {.pos_num = 3}),
            flatten<int32_t>(three["expected"]["assigned_pos_num_3"]));
}

// sqrt(w h) < 64 -> stride 8, < 128 -> 16, ..., from 512 on 128, whatever the shape of the box.
TEST(PointAssign, LevelThresholdsAreExact) {
  const std::vector<Level> levels = {{64, 64, 8}, {32, 32, 16}, {16, 16, 32}, {8, 8, 64}, {4, 4, 128}};
  const auto priors = point_priors(levels);
  const auto stride_of = [&](float w, float h) {
    const Ints assigned = run_points(priors, {0, 0, w, h}, {1});
    const auto p = std::find(assigned.begin(), assigned.end(), 1) - assigned.begin();
    return priors.at(static_cast<size_t>(3 * p + 2));
  };
  for (const float stride : {16.f, 32.f, 64.f, 128.f}) {
    const float side = 4 * stride, below = std::nextafter(side, 0.f);
    for (const float stretch : {1.f, 4.f, 0.5f}) {
      EXPECT_EQ(stride_of(side * stretch, side / stretch), stride);
      EXPECT_EQ(stride_of(side * stretch, below / stretch), stride / 2);
      EXPECT_EQ(stride_of(below * stretch, side / stretch), stride / 2);
    }
  }
  EXPECT_EQ(stride_of(0, 0), 8);
  EXPECT_EQ(stride_of(1e-3f, 900), 8);
  EXPECT_EQ(stride_of(5000, 5000), 128);
}

TEST(PointAssign, NoBoxesPaddingAndNaN) {
  const auto priors = point_priors({{2, 2, 8}});
  EXPECT_EQ(run_points(priors, {}, {0, 0}), Ints(8, 0));
  // Image 0 has one of two boxes; the padding would take point 3. Image 1 has none, image 2 says more than there are.
  const std::vector<float> two = {-4, -4, 4, 4, 4, 4, 12, 12};
  std::vector<float> gt;
  for (int n = 0; n < 3; ++n) gt.insert(gt.end(), two.begin(), two.end());
  EXPECT_EQ(run_points(priors, gt, {1, 0, 9}), (Ints{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 2}));
  EXPECT_EQ(run_points(priors, {kNaN, 0, 1, 1, 4, 4, 12, 12}, {2}), (Ints{0, 0, 0, 2}));
  EXPECT_EQ(run_points({}, {0, 0, 1, 1}, {1}), Ints{});
}

TEST(PointAssign, FewerPointsThanAsked) {
  EXPECT_EQ(run_points(point_priors({{1, 2, 8}, {1, 1, 16}}), {0, 0, 8, 8}, {1}, {.pos_num = 5}), (Ints{1, 1, 0}));
}

// |((x - cx)/w, (y - cy)/h)|^2 as a fraction: exact in long double for coordinates on a grid, and compared without a
// division.
struct Distance {
  long double numerator = 1, denominator = 0;  // infinite
  bool operator<(const Distance& other) const { return numerator * other.denominator < other.numerator * denominator; }
};

// The definition step by step, one image: level by logarithms, then box after box with a record of the distances.
Ints points_by_definition(const std::vector<float>& priors, const std::vector<float>& gt, const PointAssign& options) {
  const size_t P = priors.size() / 3;
  Ints assigned(P, 0);
  std::vector<Distance> record(P);
  double lowest = INFINITY, highest = -INFINITY;
  for (size_t p = 0; p < P; ++p) {
    lowest = std::min(lowest, std::log2(double{priors[3 * p + 2]}));
    highest = std::max(highest, std::log2(double{priors[3 * p + 2]}));
  }
  for (size_t g = 0; g < gt.size() / 4; ++g) {
    const double x1 = gt[4 * g], y1 = gt[4 * g + 1], x2 = gt[4 * g + 2], y2 = gt[4 * g + 3];
    const double w = std::max(x2 - x1, 1e-6), h = std::max(y2 - y1, 1e-6), scale = options.scale;
    const double level = std::clamp(std::trunc((std::log2(w / scale) + std::log2(h / scale)) / 2), lowest, highest);
    std::vector<std::pair<Distance, size_t>> distances;
    for (size_t p = 0; p < P; ++p)
      if (std::log2(double{priors[3 * p + 2]}) == level) {
        const long double a = (priors[3 * p] - (x1 + x2) / 2) * static_cast<long double>(h);
        const long double b = (priors[3 * p + 1] - (y1 + y2) / 2) * static_cast<long double>(w);
        const long double area = static_cast<long double>(w) * h;
        distances.push_back({{a * a + b * b, area * area}, p});
      }
    std::stable_sort(distances.begin(), distances.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    distances.resize(std::min(distances.size(), static_cast<size_t>(options.pos_num)));
    for (const auto& [distance, p] : distances)
      if (distance < record[p]) {
        record[p] = distance;
        assigned[p] = static_cast<int32_t>(g + 1);
      }
  }
  return assigned;
}

// Empty sides become one pixel: a side of 1e-6 is no binary fraction, so distances that tie on paper would not tie
// exactly.
std::vector<float> with_area(std::vector<float> boxes) {
  for (size_t i = 0; i < boxes.size(); i += 4)
    for (size_t c = i; c < i + 2; ++c)
      if (boxes[c + 2] == boxes[c]) boxes[c + 2] += 1;
  return boxes;
}

TEST(PointAssign, RandomCasesFollowTheDefinition) {
  std::mt19937 rng(21);
  const auto priors = point_priors({{16, 16, 8}, {8, 8, 16}, {4, 4, 32}, {2, 2, 64}, {1, 1, 128}});
  for (const float grid : {0.f, 1.f, 4.f})
    for (const int pos_num : {1, 2, 9, 16})
      for (const int64_t boxes : {1, 7, 60}) {
        const auto gt = with_area(random_boxes(boxes, 128, grid, rng));
        const PointAssign options{.pos_num = pos_num};
        EXPECT_EQ(run_points(priors, gt, {static_cast<int32_t>(boxes)}, options),
                  points_by_definition(priors, gt, options))
            << grid << " " << pos_num << " " << boxes;
      }
}

TEST(MaxIouAssign, WorkedExamples) {
  const json vectors = read_vectors("assign");
  const json &example = vectors["max_iou_assigner"], &zero = vectors["max_iou_zero_overlap"];
  const auto boxes = flatten<float>(example["inputs"]["boxes"]), gt = flatten<float>(example["inputs"]["gt"]);
  const auto iou = flatten(example["expected"]["iou"]);
  for (size_t g = 0; g < gt.size() / 4; ++g)
    for (size_t b = 0; b < boxes.size() / 4; ++b)
      EXPECT_TRUE(near(box_iou(&boxes[4 * b], &gt[4 * g]), iou[g * boxes.size() / 4 + b], 1e-7, 1e-6));
  EXPECT_EQ(run_iou(boxes, gt, {4}), flatten<int32_t>(example["expected"]["assigned"]));
  EXPECT_EQ(run_iou(boxes, gt, {4}, {.min_pos_iou = 2}),
            flatten<int32_t>(example["expected"]["assigned_no_low_quality"]));
  const auto zero_boxes = flatten<float>(zero["inputs"]["boxes"]), zero_gt = flatten<float>(zero["inputs"]["gt"]);
  EXPECT_EQ(run_iou(zero_boxes, zero_gt, {2}, {.min_pos_iou = 0}), flatten<int32_t>(zero["expected"]["assigned"]));
  EXPECT_EQ(run_iou(zero_boxes, zero_gt, {2}), flatten<int32_t>(zero["expected"]["assigned_min_pos_1e_6"]));
}

// Overlaps of exactly 0.5 and 0.25 with one box: >= for positives, < for background.
TEST(MaxIouAssign, ThresholdsAreExact) {
  const std::vector<float> gt = {0, 0, 8, 8}, boxes = {0, 0, 8, 4, 0, 0, 4, 4, 0, 0, 8, 8};
  EXPECT_EQ(run_iou(boxes, gt, {1}, {.pos_iou = 0.5f, .neg_iou = 0.25f, .min_pos_iou = 2}), (Ints{1, -1, 1}));
  EXPECT_EQ(run_iou(boxes, gt, {1}, {.pos_iou = 0.50001f, .neg_iou = 0.25001f, .min_pos_iou = 2}), (Ints{-1, 0, 1}));
}

// Equal ground truth: the lower index by step 3, the larger by low-quality matching, which goes last.
TEST(MaxIouAssign, TiesBetweenGroundTruth) {
  const std::vector<float> gt = {0, 0, 8, 8, 0, 0, 8, 8}, boxes = {0, 0, 8, 8, 0, 0, 8, 6};
  EXPECT_EQ(run_iou(boxes, gt, {2}, {.min_pos_iou = 2}), (Ints{1, 1}));
  EXPECT_EQ(run_iou(boxes, gt, {2}), (Ints{2, 1}));
}

TEST(MaxIouAssign, NoBoxesPaddingAndNaN) {
  const std::vector<float> boxes = {0, 0, 4, 4, 8, 8, 12, 12};
  EXPECT_EQ(run_iou(boxes, {}, {0}), (Ints{0, 0}));
  EXPECT_EQ(run_iou(boxes, {0, 0, 4, 4, 8, 8, 12, 12}, {1}), (Ints{1, 0}));
  EXPECT_EQ(run_iou(boxes, {0, 0, 4, 4, 8, 8, 12, 12}, {0}), (Ints{0, 0}));
  EXPECT_EQ(run_iou({kNaN, 0, 4, 4, 0, 0, 4, kNaN, 0, 1, 4, 4}, {0, 0, 4, 4}, {1}), (Ints{0, 0, 1}));
  EXPECT_EQ(run_iou({}, {0, 0, 4, 4}, {1}), Ints{});
}

// The definition step by step, from the matrix of overlaps.
Ints iou_by_definition(const std::vector<float>& boxes, const std::vector<float>& gt, const MaxIouAssign& options) {
  const size_t P = boxes.size() / 4, M = gt.size() / 4;
  Ints assigned(P, M == 0 ? 0 : -1);
  if (M == 0) return assigned;
  std::vector<float> iou(M * P);
  for (size_t g = 0; g < M; ++g)
    for (size_t b = 0; b < P; ++b) iou[g * P + b] = box_iou(&boxes[4 * b], &gt[4 * g]);
  for (size_t b = 0; b < P; ++b) {
    size_t best = 0;
    for (size_t g = 1; g < M; ++g)
      if (iou[g * P + b] > iou[best * P + b]) best = g;
    const float largest = iou[best * P + b];
    if (largest >= 0 && largest < options.neg_iou) assigned[b] = 0;
    if (largest >= options.pos_iou) assigned[b] = static_cast<int32_t>(best + 1);
  }
  for (size_t g = 0; g < M; ++g) {
    const auto row = iou.begin() + static_cast<int64_t>(g * P);
    const float largest = *std::max_element(row, row + static_cast<int64_t>(P));
    if (largest >= options.min_pos_iou)
      for (size_t b = 0; b < P; ++b)
        if (iou[g * P + b] == largest) assigned[b] = static_cast<int32_t>(g + 1);
  }
  return assigned;
}

TEST(MaxIouAssign, RandomCasesFollowTheDefinition) {
  std::mt19937 rng(22);
  for (const float grid : {0.f, 2.f, 16.f})
    for (const float min_pos : {0.f, 1e-6f, 0.3f, 2.f})
      for (const int64_t count : {0, 1, 5, 40}) {
        const auto boxes = random_boxes(333, 128, grid, rng), gt = random_boxes(count, 128, grid, rng);
        const MaxIouAssign options{.min_pos_iou = min_pos};
        EXPECT_EQ(run_iou(boxes, gt, {static_cast<int32_t>(count)}, options), iou_by_definition(boxes, gt, options))
            << grid << " " << min_pos << " " << count;
      }
}

// Images are independent, and the number of threads is of no consequence.
TEST(Assign, BatchAndThreads) {
  std::mt19937 rng(23);
  const auto priors = point_priors({{16, 16, 8}, {8, 8, 16}, {4, 4, 32}});
  const int64_t N = 3, P = static_cast<int64_t>(priors.size()) / 3, M = 20;
  const Ints counts = {20, 0, 13};
  const auto gt = with_area(random_boxes(N * M, 128, 4, rng)), boxes = random_boxes(N * P, 128, 4, rng);
  const Ints points = run_points(priors, gt, counts, {.pos_num = 4}, 1), iou = run_iou(boxes, gt, counts, {}, 1);
  for (int64_t n = 0; n < N; ++n) {
    const std::vector<float> own_gt(gt.begin() + 4 * n * M, gt.begin() + 4 * (n * M + counts[static_cast<size_t>(n)]));
    const std::vector<float> own_boxes(boxes.begin() + 4 * n * P, boxes.begin() + 4 * (n + 1) * P);
    const Ints own_points(points.begin() + n * P, points.begin() + (n + 1) * P),
        own_iou(iou.begin() + n * P, iou.begin() + (n + 1) * P);
    EXPECT_EQ(own_points, points_by_definition(priors, own_gt, {.pos_num = 4}));
    EXPECT_EQ(own_iou, iou_by_definition(own_boxes, own_gt, {}));
  }
  for (const int threads : {2, 5}) {
    EXPECT_EQ(points, run_points(priors, gt, counts, {.pos_num = 4}, threads));
    EXPECT_EQ(iou, run_iou(boxes, gt, counts, {}, threads));
  }
}

// 5,000 boxes in one image: a 5456 x 5000 float matrix would take 109 MB.
TEST(Assign, FiveThousandBoxesInLittleMemory) {
  const auto peak_kib = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  std::mt19937 rng(24);
  const auto priors = point_priors({{64, 64, 8}, {32, 32, 16}, {16, 16, 32}, {8, 8, 64}, {4, 4, 128}});
  const auto gt = random_boxes(5000, 512, 0, rng), boxes = random_boxes(5456, 512, 0, rng);
  EXPECT_LE(point_assign_workspace(1, 5000, {}), 5456 + 5000);
  EXPECT_LE(max_iou_assign_workspace(1, 5000), 5456 + 5000);
  const auto before = peak_kib();
  const Ints points = run_points(priors, gt, {5000}), iou = run_iou(boxes, gt, {5000});
  EXPECT_LT(peak_kib() - before, 64 * 1024);
  EXPECT_GT(std::count_if(points.begin(), points.end(), [](int a) { return a > 0; }), 1000);
  EXPECT_GT(std::count_if(iou.begin(), iou.end(), [](int a) { return a > 0; }), 1000);
}

TEST(GatherTargets, ByHand) {
  Cpu cpu(2);
  const Ints assigned = {2, 0, -1, 1, 0, 0}, gt_labels = {7, 3, 5, 9};
  const std::vector<float> gt = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  Ints labels(6, kUnwritten);
  std::vector<float> class_weights(6, kNaN), targets(24, kNaN), box_weights(6, kNaN);
  gather_targets(cpu, view(assigned, {2, 3}), view(gt, {2, 2, 4}), view(gt_labels, {2, 2}), 10, view(labels, {2, 3}),
                 view(class_weights, {2, 3}), view(targets, {2, 3, 4}), view(box_weights, {2, 3}));
  EXPECT_EQ(labels, (Ints{3, 10, 10, 5, 10, 10}));
  EXPECT_EQ(class_weights, (std::vector<float>{1, 1, 0, 1, 1, 1}));
  EXPECT_EQ(targets, (std::vector<float>{5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 9, 10, 11, 12, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(box_weights, (std::vector<float>{1, 0, 0, 1, 0, 0}));
  // Boxes alone.
  std::fill(targets.begin(), targets.end(), kNaN);
  gather_targets(cpu, view(assigned, {2, 3}), view(gt, {2, 2, 4}), {}, 10, {}, {}, view(targets, {2, 3, 4}),
                 view(box_weights, {2, 3}));
  EXPECT_EQ(targets[0], 5);
  EXPECT_EQ(targets[23], 0);
}

TEST(CountAssigned, ByHand) {
  Cpu cpu(2);
  // Images: 2 positives and 1 negative; none and 3 ignored; none and 2 negatives.
  const Ints assigned = {4, 0, 1, -1, -1, -1, 0, -1, 0};
  std::vector<double> counts(4, NAN);
  count_assigned(cpu, view(assigned, {3, 3}), view(counts, {4}), {});
  EXPECT_EQ(counts, (std::vector<double>{2, 5, 2 + 1 + 1, 3 + 2 + 3}));
  count_assigned(cpu, View<const int32_t>(nullptr, {0, 3}), view(counts, {4}), {});
  EXPECT_EQ(counts, (std::vector<double>{0, 0, 0, 0}));
}

TEST(Assign, RefusesWrongInput) {
  EXPECT_THROW(run_points(point_priors({{2, 2, 8}}), {0, 0, 1, 1}, {1}, {.pos_num = 0}), std::invalid_argument);
  EXPECT_THROW(run_points(point_priors({{2, 2, 8}}), {0, 0, 1, 1}, {1}, {.pos_num = 17}), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
