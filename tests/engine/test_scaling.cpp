// SPDX-License-Identifier: MIT
// The model of data-parallel steps against sums that can be done by hand.
#include "engine/scaling.h"

#include <gtest/gtest.h>

#include <cmath>

namespace gradlibra {
namespace {

constexpr double kMiB = 1 << 20;

TEST(Scaling, AllReduceByHand) {
  const Interconnect links{.ranks_per_host = 4,
                           .host_bytes_per_s = 100,
                           .network_bytes_per_s = 10,
                           .host_latency_s = 0.5,
                           .network_latency_s = 3};
  EXPECT_EQ(all_reduce_seconds(1000, 1, links), 0);
  EXPECT_DOUBLE_EQ(all_reduce_seconds(1000, 2, links), 2 * 0.5 * 10 + 2 * 0.5);
  EXPECT_DOUBLE_EQ(all_reduce_seconds(1000, 4, links), 2 * 0.75 * 10 + 6 * 0.5);
  // Eight hosts: each rank moves a quarter of the bytes over the network.
  EXPECT_DOUBLE_EQ(all_reduce_seconds(1000, 32, links), 15 + 3 + 2 * 0.875 * 25 + 2 * 3 * 3);
  EXPECT_DOUBLE_EQ(all_reduce_seconds(0, 32, links), 3 + 18);  // latency alone
  EXPECT_THROW((void)all_reduce_seconds(1, 6, links), std::invalid_argument);
  EXPECT_THROW((void)all_reduce_seconds(1, 0, links), std::invalid_argument);
}

TEST(Scaling, BackwardCostsTwiceForwardWhereBothGradientsAreNeeded) {
  const std::vector<Detector::PartCost> parts = {
      {.part = "frozen", .parameters = 5, .multiply_adds = 10, .trainable = false},
      {.part = "first", .parameters = 10, .multiply_adds = 20, .trainable = true, .reads_image = true},
      {.part = "head", .parameters = 100, .multiply_adds = 30, .trainable = true}};
  const StepModel step = step_model(parts, 10, 0.1);
  const double unit = 9.0 / (60 + 20 + 60);
  EXPECT_DOUBLE_EQ(step.seconds(), 10);
  EXPECT_DOUBLE_EQ(step.rest_seconds, 1);
  EXPECT_DOUBLE_EQ(step.forward_seconds, 60 * unit);
  ASSERT_EQ(step.backward.size(), 2u);
  EXPECT_EQ(step.backward[0].name, "head");
  EXPECT_DOUBLE_EQ(step.backward[0].seconds, 60 * unit);
  EXPECT_DOUBLE_EQ(step.backward[1].seconds, 20 * unit);
  EXPECT_EQ(step.gradient_bytes(), 440);
  EXPECT_THROW((void)step_model({}, 10), std::invalid_argument);
}

// Two parts of a second and four bytes each, buckets of two bytes, the first of one: full at 0.25, 0.75, 1.25, 1.75 s,
// the last byte at 2.
StepModel two_parts() { return {.forward_seconds = 1, .backward = {{"b", 1, 4}, {"a", 1, 4}}}; }
constexpr ScalingOptions kSmall{.bucket_bytes = 2, .first_bucket_bytes = 1, .small_reductions = 0, .jitter = 0};

TEST(Scaling, FastLinksHideAllButTheLastBucket) {
  const Interconnect links{.ranks_per_host = 2, .host_bytes_per_s = 10, .host_latency_s = 0};  // a byte takes 0.1 s
  const ScalingResult got = simulate_step(two_parts(), 2, links, kSmall);
  EXPECT_EQ(got.buckets, 5);
  EXPECT_NEAR(got.all_reduce_seconds, 0.8, 1e-12);
  EXPECT_NEAR(got.exposed_seconds, 0.1, 1e-12);
  EXPECT_NEAR(got.efficiency, 3 / 3.1, 1e-12);
}

TEST(Scaling, SlowLinksAreWaitedFor) {
  const Interconnect links{.ranks_per_host = 2, .host_bytes_per_s = 0.5, .host_latency_s = 0};  // a byte takes 2 s
  // From the first bucket at 0.25 s the link is never idle: 16 s behind it.
  EXPECT_NEAR(simulate_step(two_parts(), 2, links, kSmall).exposed_seconds, 0.25 + 16 - 2, 1e-12);
  // All in one bucket: nothing is hidden.
  const ScalingOptions one{.bucket_bytes = 100, .first_bucket_bytes = 100, .small_reductions = 0, .jitter = 0};
  EXPECT_NEAR(simulate_step(two_parts(), 2, links, one).exposed_seconds, 16, 1e-12);
}

TEST(Scaling, SmallSumsAndStragglersAreAdded) {
  const Interconnect links{.ranks_per_host = 2, .host_bytes_per_s = 1e30, .host_latency_s = 0.1};
  const ScalingOptions options{.bucket_bytes = 100, .first_bucket_bytes = 100, .small_reductions = 3, .jitter = 0.01};
  const ScalingResult got = simulate_step(two_parts(), 2, links, options);
  EXPECT_NEAR(got.small_seconds, 3 * 0.2, 1e-9);
  EXPECT_NEAR(got.straggler_seconds, 0.01 * 3 * std::sqrt(2 * std::log(2.0)), 1e-12);
  const ScalingResult alone = simulate_step(two_parts(), 1, links, options);
  EXPECT_EQ(alone.step_seconds, 3);
  EXPECT_EQ(alone.efficiency, 1);
}

TEST(Scaling, MeasuredBucketsAreReplayed) {
  const Interconnect links{.ranks_per_host = 2, .host_bytes_per_s = 10 * kMiB, .host_latency_s = 0};  // 1 MB: 0.1 s
  StepModel step = two_parts();
  step.rest_seconds = 7;  // of no matter to shares, which are of the 3 s of forward and backward
  // Ready 0.8, 0.8 and 2 s after backward began; the second waits for the first; the third is exposed.
  const ScalingOptions options{.small_reductions = 0, .jitter = 0, .replay = parse_buckets("3@60,4.5@60,2@100")};
  const ScalingResult got = simulate_step(step, 2, links, options);
  EXPECT_EQ(got.buckets, 3);
  EXPECT_NEAR(got.all_reduce_seconds, 0.95, 1e-9);
  EXPECT_NEAR(got.exposed_seconds, 0.2, 1e-9);
  // A link so slow that it is never idle.
  const Interconnect slow{.ranks_per_host = 2, .host_bytes_per_s = kMiB, .host_latency_s = 0};
  EXPECT_NEAR(simulate_step(step, 2, slow, options).exposed_seconds, 0.8 + 9.5 - 2, 1e-9);
}

TEST(Scaling, BucketsAsText) {
  const std::vector<ReadyBucket> buckets = parse_buckets("1.5@61.25,25@100");
  ASSERT_EQ(buckets.size(), 2u);
  EXPECT_EQ(buckets[0].bytes, 1.5 * kMiB);
  EXPECT_EQ(buckets[0].share, 0.6125);
  EXPECT_EQ(to_string(buckets), "1.5@61.25,25@100");
  EXPECT_TRUE(parse_buckets("").empty());
  for (const char* wrong : {"1", "1@", "@5", "1@x", "1@101", "0@5", "-1@5", "1@5;2@6", "1@5,,2@6", "1@5 x", "nan@5"}) {
    try {
      (void)parse_buckets(wrong);
      ADD_FAILURE() << wrong;
    } catch (const std::invalid_argument& error) {
      EXPECT_NE(std::string(error.what()).find("MB@PERCENT"), std::string::npos) << error.what();
    }
  }
}

TEST(Scaling, MoreRanksNeverCostLess) {
  const StepModel step{
      .forward_seconds = 9e-3,
      .rest_seconds = 1e-3,
      .backward = {{"head", 9e-3, 20 * kMiB}, {"neck", 3e-3, 30 * kMiB}, {"backbone", 6e-3, 90 * kMiB}}};
  double last = 1;
  for (const int ranks : {2, 4, 8, 16, 64, 512}) {
    const ScalingResult got = simulate_step(step, ranks, {});
    EXPECT_LT(got.efficiency, last) << ranks;
    EXPECT_GE(got.exposed_seconds, all_reduce_seconds(140 * kMiB - kMiB - 5 * 25 * kMiB, ranks, {}) - 1e-9) << ranks;
    last = got.efficiency;
  }
  EXPECT_GT(last, 0.9);
}

}  // namespace
}  // namespace gradlibra
