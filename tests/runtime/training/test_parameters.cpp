// SPDX-License-Identifier: MIT
// The parameter store: flat blocks, groups, start values, and what finish_backward promises.
#include "runtime/training/parameters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace gradlibra {
namespace {

using Floats = std::vector<float>;

class Parameters : public ::testing::Test {
 protected:
  Floats get(const Tensor& tensor) { return context.download<float>(tensor); }
  Context context{1, ConvolutionLibrary::plain};
  ParameterStore store{context};
};

TEST_F(Parameters, LieInFlatBlocksOnAlignedPlaces) {
  Parameter& a = store.add("a", {3, 5}, {});
  Parameter& frozen = store.add("frozen", {7}, {}, Role::other, false);
  Parameter& b = store.add("b", {1}, {});
  Parameter& buffer = store.add_buffer("buffer", {4}, {});
  Parameter& c = store.add("c", {16}, {});
  store.allocate();
  const float* grads = store.flat_grads().view().data();
  const float* velocities = store.flat_velocities().view().data();
  ASSERT_EQ(store.flat_grads().size(), 16 + 16 + 16);
  ASSERT_EQ(store.flat_velocities().size(), store.flat_grads().size());
  EXPECT_EQ(a.node.grad.view().data() - grads, 0);
  EXPECT_EQ(b.node.grad.view().data() - grads, 16);  // frozen ones lie elsewhere
  EXPECT_EQ(c.node.grad.view().data() - grads, 32);
  for (const Parameter* p : {&a, &b, &c}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p->node.value.data()) % 64, 0u) << p->name;
    EXPECT_EQ(p->node.grad.view().data() - grads, p->velocity.view().data() - velocities) << p->name;
    EXPECT_EQ(p->node.grad.view().data() - grads, p->node.value.view().data() - a.node.value.view().data()) << p->name;
    EXPECT_EQ(p->node.grad.shape(), p->node.value.shape());
  }
  for (const Parameter* p : {&frozen, &buffer}) {
    EXPECT_TRUE(p->node.grad.empty()) << p->name;
    EXPECT_TRUE(p->velocity.empty()) << p->name;
    EXPECT_FALSE(p->node.requires_grad) << p->name;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p->node.value.data()) % 64, 0u) << p->name;
  }
  EXPECT_EQ(get(store.flat_grads()), Floats(48, 0.0f));
  EXPECT_EQ(get(store.flat_velocities()), Floats(48, 0.0f));
  EXPECT_EQ(store.trainable_count(), 15 + 1 + 16);
  EXPECT_EQ(store.parameter_count(), 15 + 7 + 1 + 16);
}

TEST_F(Parameters, AreFoundByName) {
  Parameter& a = store.add("a", {1}, {});
  EXPECT_EQ(store.find("a"), &a);
  EXPECT_EQ(store.find("b"), nullptr);
  for (int i = 0; i < 100; ++i) store.add("p" + std::to_string(i), {1}, {});
  EXPECT_EQ(store.find("a"), &a) << "references stay valid";
  EXPECT_EQ(&store.all().front(), &a);
}

TEST_F(Parameters, TwoOfOneNameOrALateOneAreErrors) {
  store.add("a", {1}, {});
  EXPECT_THROW(store.add("a", {2}, {}), std::logic_error);
  EXPECT_THROW(store.add_buffer("a", {2}, {}), std::logic_error);
  ParameterStore other(context);
  other.add("a", {1}, {});
  other.allocate();
  EXPECT_THROW(other.add("b", {1}, {}), std::logic_error);
}

TEST_F(Parameters, NeighboursWithEqualFactorsAreOneGroup) {
  Parameter& a = store.add("a", {20}, {});
  store.add("b", {3}, {});
  store.add("frozen", {100}, {}, Role::other, false);
  Parameter& c = store.add("c", {5}, {});
  Parameter& d = store.add("d", {5}, {});
  store.allocate();
  c.decay_factor = 0;
  d.decay_factor = 0;
  d.lr_factor = 2;
  const auto groups = store.groups();
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[0].begin, 0);
  EXPECT_EQ(groups[0].end, 48);
  EXPECT_EQ(groups[0].decay_factor, 1);
  EXPECT_EQ(groups[1].begin, 48);
  EXPECT_EQ(groups[1].end, 64);
  EXPECT_EQ(groups[1].decay_factor, 0);
  EXPECT_EQ(groups[2].begin, 64);
  EXPECT_EQ(groups[2].end, 80);
  EXPECT_EQ(groups[2].lr_factor, 2);
  EXPECT_EQ(store.flat_values(groups[0]).data(), a.node.value.view().data());
  EXPECT_EQ(store.flat_values(groups[1]).data(), c.node.value.view().data());
  EXPECT_EQ(store.flat_values(groups[1]).size(), 16);
}

TEST_F(Parameters, StartValuesDependOnSeedAndNameOnly) {
  const Init normal{Init::Kind::normal, 0.1}, uniform{Init::Kind::uniform, 0.1};
  store.add("first", {4, 3}, normal);
  Parameter& weight = store.add("layer.weight", {5, 2}, normal);
  Parameter& twin = store.add("other.weight", {5, 2}, normal);
  store.allocate();
  store.initialize(7);
  const Floats values = get(weight.node.value);
  EXPECT_NE(values, get(twin.node.value));

  ParameterStore other(context);
  Parameter& alone = other.add("layer.weight", {5, 2}, normal);
  Parameter& different = other.add("last", {100}, uniform);
  other.allocate();
  other.initialize(7);
  EXPECT_EQ(get(alone.node.value), values);
  const Floats last = get(different.node.value);
  other.initialize(8);
  EXPECT_NE(get(alone.node.value), values);
  EXPECT_NE(get(different.node.value), last);
  other.initialize(7);
  EXPECT_EQ(get(alone.node.value), values);
}

TEST_F(Parameters, StartValuesHaveTheirDistribution) {
  constexpr int64_t kSize = 100000;
  Parameter& normal = store.add("normal", {kSize}, {Init::Kind::normal, 0.5});
  Parameter& uniform = store.add("uniform", {kSize}, {Init::Kind::uniform, 0.25});
  Parameter& constant = store.add("constant", {3}, {Init::Kind::constant, -4.5});
  Parameter& zero = store.add("zero", {3}, {});
  Parameter& buffer = store.add_buffer("buffer", {3}, {Init::Kind::constant, 1});
  store.allocate();
  store.initialize(1);
  const auto moments = [&](const Parameter& p) {
    double mean = 0, square = 0, fourth = 0;
    for (const float v : get(p.node.value)) {
      mean += v / static_cast<double>(kSize);
      square += static_cast<double>(v) * v / static_cast<double>(kSize);
      fourth += std::pow(v, 4) / static_cast<double>(kSize);
    }
    return std::vector<double>{mean, square, fourth};
  };
  // Five standard errors of each moment.
  const auto n = moments(normal), u = moments(uniform);
  const double root = std::sqrt(static_cast<double>(kSize));
  EXPECT_NEAR(n[0], 0, 5 * 0.5 / root);
  EXPECT_NEAR(n[1], 0.25, 5 * 0.25 * std::sqrt(2.0) / root);
  EXPECT_NEAR(n[2], 3 * 0.0625, 5 * 0.0625 * std::sqrt(96.0) / root);
  EXPECT_NEAR(u[0], 0, 5 * 0.25 / std::sqrt(3.0) / root);
  EXPECT_NEAR(u[1], 0.0625 / 3, 5 * 0.0625 * std::sqrt(4.0 / 45) / root);
  const Floats values = get(uniform.node.value);
  EXPECT_LT(*std::max_element(values.begin(), values.end()), 0.25f + 1e-6f);
  EXPECT_GE(*std::min_element(values.begin(), values.end()), -0.25f);
  EXPECT_GT(*std::max_element(values.begin(), values.end()), 0.2499f);
  EXPECT_EQ(get(constant.node.value), Floats(3, -4.5f));
  EXPECT_EQ(get(zero.node.value), Floats(3, 0.0f));
  EXPECT_EQ(get(buffer.node.value), Floats(3, 1.0f));
}

TEST_F(Parameters, GradientsThatNobodyWroteAreZero) {
  Parameter& used = store.add("used", {2}, {});
  Parameter& unused = store.add("unused", {2}, {});
  store.allocate();
  const Floats old{5, 6};
  for (Parameter* p : {&used, &unused}) context.upload<float>(old, p->node.grad);  // of the step before
  used.node.grad_written = true;
  store.finish_backward();
  EXPECT_EQ(get(used.node.grad), old);
  EXPECT_EQ(get(unused.node.grad), Floats(2, 0.0f));
  EXPECT_FALSE(used.node.grad_written);
  EXPECT_FALSE(unused.node.grad_written);
}

TEST_F(Parameters, WhatBranchesHaveComputedIsAddedUp) {
  Parameter& other = store.add("body.weight", {3}, {});
  Parameter& a = store.add("head.a", {2}, {});
  Parameter& frozen = store.add("head.frozen", {2}, {}, Role::other, false);
  Parameter& b = store.add("head.b", {3}, {});
  EXPECT_THROW(store.share_between_branches({1, 4}, 3), std::logic_error);  // before allocate
  store.allocate();
  store.share_between_branches({1, 4}, 3);
  EXPECT_THROW(store.share_between_branches({1, 4}, 3), std::logic_error);
  EXPECT_TRUE(other.node.branch_grads.empty());
  EXPECT_TRUE(frozen.node.branch_grads.empty());
  ASSERT_EQ(a.node.branch_grads.size(), 2u);  // the first branch writes where everybody does
  ASSERT_EQ(b.node.branch_grads.size(), 2u);

  const auto write = [&](Tensor& grad, bool& written, const Floats& values) {
    ASSERT_EQ(grad.size(), static_cast<int64_t>(values.size()));
    context.upload<float>(values, grad);
    written = true;
  };
  for (int step = 0; step < 2; ++step) {
    write(other.node.grad, other.node.grad_written, {7, 8, 9});
    write(a.node.grad, a.node.grad_written, {1, 2});
    write(a.node.branch_grads[0].grad, a.node.branch_grads[0].written, {10, 20});
    write(a.node.branch_grads[1].grad, a.node.branch_grads[1].written, {100, 200});
    if (step == 0) write(b.node.branch_grads[1].grad, b.node.branch_grads[1].written, {4, 5, 6});
    store.finish_backward();
    EXPECT_EQ(get(other.node.grad), (Floats{7, 8, 9}));
    EXPECT_EQ(get(a.node.grad), (Floats{111, 222}));
    EXPECT_EQ(get(b.node.grad), step == 0 ? (Floats{4, 5, 6}) : Floats(3, 0.0f));
    for (const auto& part : a.node.branch_grads) EXPECT_FALSE(part.written);
  }
}

TEST_F(Parameters, NothingTrainable) {
  store.add("frozen", {2}, {}, Role::other, false);
  store.allocate();
  store.initialize(0);
  EXPECT_EQ(store.trainable_count(), 0);
  EXPECT_TRUE(store.groups().empty());
  store.finish_backward();
}

}  // namespace
}  // namespace gradlibra
