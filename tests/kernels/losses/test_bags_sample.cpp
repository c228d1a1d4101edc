// SPDX-License-Identifier: MIT
// The drawing of rows for balanced group softmax on the host: hash values, whole draws from worked examples, its
// definition by sorting, edges.
#include "kernels/losses/bags_sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/kernels/losses/softmax_losses.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using nlohmann::json;

struct Draw {
  std::vector<uint8_t> sample;  // (R, G)
  Doubles sums;
};

Draw draw(const Labels& labels, const Floats& weights, const Labels& group_of, int64_t G, double beta, double seed,
          double iteration, int rank = 0) {
  Cpu cpu(2);
  const auto R = static_cast<int64_t>(labels.size()), C = static_cast<int64_t>(group_of.size());
  Draw result{std::vector<uint8_t>(static_cast<size_t>(R * G), 77), Doubles(static_cast<size_t>(G + 1), NAN)};
  const Doubles state{seed, iteration};
  std::vector<int64_t> workspace(static_cast<size_t>(bags_sample_workspace(cpu, R, G)));
  bags_sample(cpu, view(labels, {R}), view(weights, {R}), view(group_of, {C}), beta, view(state, {2}), rank,
              view(result.sample, {R, G}), view(result.sums, {G + 1}),
              view(workspace, {static_cast<int64_t>(workspace.size())}));
  return result;
}

TEST(BagsSample, HashValues) {
  const json values = read_vectors("long_tail_losses")["bags_hash"];
  ASSERT_GE(values.size(), 5u);
  for (const json& v : values)
    EXPECT_EQ(bags_hash(v["seed"], v["iteration"], v["rank"], v["group"], v["row"]),
              std::stoull(v["hash_hex"].get<std::string>(), nullptr, 16));
}

TEST(BagsSample, WorkedExamples) {
  const json examples = read_vectors("long_tail_losses")["bags"];
  for (const json& example : examples) {
    SCOPED_TRACE(example["id"].get<std::string>());
    const json& params = example["params"];
    const BagsTables tables(params["groups"].get<std::vector<Labels>>());
    ASSERT_EQ(example["iterations"].size(), 3u);
    for (const json& iteration : example["iterations"]) {
      const auto labels = flatten<int32_t>(iteration["labels"]);
      const auto weights = flatten<float>(iteration["weights"]);
      const Draw got = draw(labels, weights, tables.group_of, tables.G(), params["beta"], params["seed"],
                            iteration["iteration"], params["rank"]);
      const json& mask = iteration["sample_mask"];
      for (size_t g = 0; g < static_cast<size_t>(tables.G()); ++g) {
        double sum = 0;
        for (size_t i = 0; i < labels.size(); ++i) {
          EXPECT_EQ(got.sample[i * static_cast<size_t>(tables.G()) + g], mask[g + 1][i].get<int>())
              << "group " << g + 1 << " row " << i;
          sum += mask[g + 1][i].get<int>() * double{weights[i]};
        }
        EXPECT_EQ(got.sums[g + 1], sum);
      }
      EXPECT_EQ(got.sums[0], iteration["expected_rows_normaliser"]["group_avg_factor"][0].get<double>());
    }
  }
}

// All candidates sorted by hash.
TEST(BagsSample, TakesTheSmallestHashes) {
  std::mt19937 rng(9);
  for (const double beta : {0.0, 0.3, 1.0, 8.0, 1e9})
    for (const int64_t R : {1, 50, 3000}) {
      const Labels group_of{1, 3, 2, 1};
      Labels labels;
      Floats weights;
      for (int64_t i = 0; i < R; ++i) {
        labels.push_back(rng() % 10 < 2 ? static_cast<int32_t>(rng() % 6) - 1 : 4);
        weights.push_back(static_cast<float>(rng() % 4) / 2);
      }
      const Draw got = draw(labels, weights, group_of, 3, beta, 5, 17, 2);
      double valid = 0;
      for (size_t i = 0; i < labels.size(); ++i) valid += weights[i] != 0 && labels[i] >= 0;
      EXPECT_EQ(got.sums[0], valid);
      for (int g = 1; g <= 3; ++g) {
        std::vector<std::pair<uint64_t, size_t>> others;
        std::vector<int> want(labels.size(), 0);
        int own = 0;
        for (size_t i = 0; i < labels.size(); ++i) {
          if (weights[i] == 0 || labels[i] < 0) continue;
          if (labels[i] < 4 && group_of[static_cast<size_t>(labels[i])] == g)
            ++own, want[i] = 1;
          else
            others.emplace_back(bags_hash(5, 17, 2, static_cast<uint64_t>(g), i), i);
        }
        std::sort(others.begin(), others.end());
        const auto k = std::min(others.size(), static_cast<size_t>(std::min(1e6, beta * own)));
        for (size_t e = 0; e < k; ++e) want[others[e].second] = 1;
        double sum = 0;
        for (size_t i = 0; i < labels.size(); ++i) {
          ASSERT_EQ(got.sample[i * 3 + static_cast<size_t>(g) - 1], want[i]) << "row " << i << " beta " << beta;
          sum += want[i] * double{weights[i]};
        }
        EXPECT_EQ(got.sums[static_cast<size_t>(g)], sum);
      }
    }
}

TEST(BagsSample, WithoutPositivesGroupsAreSilent) {
  const Draw got = draw({2, 2, -1, 0}, {1, 1, 1, 0}, {1, 2}, 2, 8, 0, 0);
  EXPECT_EQ(got.sample, std::vector<uint8_t>(8, 0));
  EXPECT_EQ(got.sums, (Doubles{2, 0, 0}));
  EXPECT_EQ(draw({}, {}, {1}, 1, 8, 0, 0).sums, (Doubles{0, 0}));
}

TEST(BagsSample, StepsRanksAndSeedsDrawOthers) {
  const Labels labels = [] {
    Labels all(200, 1);
    all[3] = 0;
    return all;
  }();
  const Floats weights(200, 1);
  const Draw first = draw(labels, weights, {1}, 1, 8, 1, 0);
  EXPECT_EQ(first.sums[1], 9);
  EXPECT_EQ(draw(labels, weights, {1}, 1, 8, 1, 0).sample, first.sample);
  EXPECT_NE(draw(labels, weights, {1}, 1, 8, 1, 1).sample, first.sample);
  EXPECT_NE(draw(labels, weights, {1}, 1, 8, 2, 0).sample, first.sample);
  EXPECT_NE(draw(labels, weights, {1}, 1, 8, 1, 0, 1).sample, first.sample);
}

TEST(BagsSample, RefusesWrongInput) {
  EXPECT_THROW(draw({0}, {1}, {1}, 1, -1, 0, 0), std::invalid_argument);
  EXPECT_THROW(draw({0}, {1}, {1}, 1, kNaN, 0, 0), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
