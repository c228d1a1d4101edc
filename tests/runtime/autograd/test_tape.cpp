// SPDX-License-Identifier: MIT
// The tape: order of the backward steps, accumulation, and what lives how long in each mode.
#include "runtime/autograd/tape.h"

#include <gtest/gtest.h>

#include <memory>

#include "runtime/autograd/ops/convolution.h"
#include "runtime/autograd/ops/elementwise.h"
#include "runtime/autograd/ops/norm.h"
#include "runtime/autograd/ops/resample.h"

namespace gradlibra {
namespace {

using Floats = std::vector<float>;

class Tapes : public ::testing::Test {
 protected:
  // A value that is trained, as a parameter is.
  Var leaf(Node& node, const Floats& values) {
    node.value = context.upload<float>(values, {static_cast<int64_t>(values.size())});
    node.requires_grad = true;
    return Var(&node);
  }
  void seed(Tape& tape, Var y, const Floats& gradient) {
    const auto target = tape.grad_of(y);
    ASSERT_EQ(target.mode, Accumulate::overwrite);
    std::copy(gradient.begin(), gradient.end(), target.grad.data());
  }
  Floats gradient(const Node& node) { return context.download<float>(node.grad); }

  Context context{1, ConvolutionLibrary::plain};
};

TEST_F(Tapes, AddsTheGradientsOfTwoConsumers) {
  Node node;
  const Var x = leaf(node, {1, -2, 3});
  Tape tape(context);
  const Var h = ops::relu(tape, x);         // 1 0 3
  const Var a = ops::add_relu(tape, h, x);  // x has consumers at two depths
  const Var b = ops::relu(tape, h);
  seed(tape, a, {1, 1, 1});
  seed(tape, b, {10, 10, 10});
  tape.backward();
  // h: 1 from a where a > 0, 10 from b. x: that where x > 0, and 1 from a.
  EXPECT_EQ(gradient(node), (Floats{12, 0, 12}));
  EXPECT_TRUE(node.grad_written);
}

TEST_F(Tapes, AddsToWhatAnEarlierTapeLeft) {
  Node node;
  const Var x = leaf(node, {1, 2});
  for (int pass = 0; pass < 3; ++pass) {  // as gradient accumulation over batches does
    Tape tape(context);
    seed(tape, ops::relu(tape, x), {1, 10});
    tape.backward();
  }
  EXPECT_EQ(gradient(node), (Floats{3, 30}));
  node.grad_written = false;  // a new step starts
  Tape tape(context);
  seed(tape, ops::relu(tape, x), {1, 10});
  tape.backward();
  EXPECT_EQ(gradient(node), (Floats{1, 10}));
}

TEST_F(Tapes, LeavesUnusedBranchesAlone) {
  Node used_node, unused_node;
  const Var used = leaf(used_node, {1, 2}), unused = leaf(unused_node, {3, 4});
  Tape tape(context);
  const Var y = ops::relu(tape, used);
  const Var h = ops::add_relu(tape, used, unused);
  const Var nowhere = ops::relu(tape, h);
  ASSERT_TRUE(nowhere.requires_grad());
  seed(tape, y, {5, 6});
  tape.backward();
  EXPECT_EQ(gradient(used_node), (Floats{5, 6}));
  EXPECT_FALSE(unused_node.grad_written);
  EXPECT_TRUE(unused_node.grad.empty());
}

TEST_F(Tapes, WithoutAnyGradientNothingRuns) {
  Node node;
  const Var x = leaf(node, {1, 2});
  Tape tape(context);
  (void)ops::relu(tape, ops::relu(tape, x));
  tape.backward();
  EXPECT_FALSE(node.grad_written);
}

TEST_F(Tapes, RunsStepsInReverseOrder) {
  Node node;
  const Var x = leaf(node, {1});
  Tape tape(context);
  std::vector<int> order;
  for (int i = 0; i < 3; ++i) {
    const Var y = tape.make({1}, x.requires_grad());
    tape.on_backward(y, {x}, [&order, i] { order.push_back(i); });
    seed(tape, y, {1});
  }
  tape.backward();
  EXPECT_EQ(order, (std::vector<int>{2, 1, 0}));
  tape.backward();  // nothing is left to run
  EXPECT_EQ(order.size(), 3u);
}

// A gradient is ready when the last step that may add to it has run or been skipped, the last parameter of a network
// first.
TEST_F(Tapes, SaysWhenAGradientIsReady) {
  Node early, late, twice, aside, frozen;
  const Var a = leaf(early, {1}), b = leaf(late, {2}), c = leaf(twice, {3}), d = leaf(aside, {4}),
            e = leaf(frozen, {5});
  frozen.requires_grad = false;
  Tape tape(context);
  std::vector<std::pair<const Node*, bool>> ready;  // and whether it was written by then
  tape.on_grad_ready([&](Node& node) { ready.emplace_back(&node, node.grad_written); });
  const Var x = ops::add_relu(tape, a, c);
  const Var y = ops::add_relu(tape, ops::add_relu(tape, x, b), c);
  (void)ops::relu(tape, d);  // nothing comes back through it
  const Var z = ops::add_relu(tape, y, e);
  seed(tape, z, {1});
  EXPECT_TRUE(ready.empty());
  tape.backward();
  const std::vector<std::pair<const Node*, bool>> want{{&aside, false}, {&late, true}, {&early, true}, {&twice, true}};
  EXPECT_EQ(ready, want);
  EXPECT_EQ(gradient(twice), (Floats{2}));
  EXPECT_THROW(
      {
        Tape late_to_ask(context);
        (void)ops::relu(late_to_ask, a);
        late_to_ask.on_grad_ready([](Node&) {});
      },
      std::logic_error);
}

TEST_F(Tapes, WhatNobodyDifferentiatesIsNotRecorded) {
  Tape tape(context);
  const Var image = tape.constant(context.upload<float>(Floats{1, -1}, {2}));
  EXPECT_FALSE(image.requires_grad());
  const Var y = ops::relu(tape, image);
  EXPECT_FALSE(y.requires_grad());
  EXPECT_EQ(context.download<float>(y.node().value), (Floats{1, 0}));
  auto owned = std::make_shared<int>(1);
  bool ran = false;
  tape.on_backward(y, {image}, [owned, &ran] { ran = true; });
  EXPECT_EQ(owned.use_count(), 1) << "the closure is kept";
  seed(tape, y, {1, 1});
  tape.backward();
  EXPECT_FALSE(ran);

  // A trained input next to the constant gets its gradient, the constant none.
  Node node;
  const Var x = leaf(node, {1, 3});
  Tape second(context);
  const Var constant = second.constant(context.upload<float>(Floats{1, -1}, {2}));
  const Var z = ops::add_relu(second, constant, x);
  seed(second, z, {1, 1});
  second.backward();
  EXPECT_EQ(gradient(node), (Floats{1, 1}));
  EXPECT_FALSE(constant.node().grad_written);
  EXPECT_TRUE(constant.node().grad.empty());
}

TEST_F(Tapes, TrainingReleasesValuesOnTheWay) {
  Node node;
  const Var x = leaf(node, Floats(1000, 1.0f));
  const int64_t before = context.memory().bytes_in_use();
  Tape tape(context);
  const Var a = ops::relu(tape, x);
  const Var between = tape.make({1}, true);
  bool earlier_kept = false, later_released = false;
  const auto owned = std::make_shared<int>(1), owned_later = std::make_shared<int>(1);
  Var b;
  tape.on_backward(between, {a}, [&, owned] {
    earlier_kept = !a.node().value.empty() && a.node().grad_written;
    later_released = b.node().value.empty() && b.node().grad.empty() && owned_later.use_count() == 1;
  });
  b = ops::relu(tape, a);
  const Var last = tape.make({1}, true);
  tape.on_backward(last, {b}, [kept = owned_later] {});
  for (const Var& probe : {between, last}) seed(tape, probe, {1});
  seed(tape, b, Floats(1000, 2.0f));
  tape.backward();
  EXPECT_TRUE(earlier_kept);
  EXPECT_TRUE(later_released);
  EXPECT_EQ(owned.use_count(), 1) << "a closure that has run is kept";
  EXPECT_TRUE(a.node().value.empty());
  EXPECT_EQ(gradient(node), Floats(1000, 2.0f));
  EXPECT_FALSE(node.value.empty()) << "parameters stay";
  EXPECT_LE(context.memory().bytes_in_use(), before + 4096);  // only the leaf's gradient is new
}

TEST_F(Tapes, InspectionKeepsValuesAndGradients) {
  Node node;
  const Var x = leaf(node, {1, -2});
  Tape tape(context, Tape::Mode::inspection);
  const Var a = ops::relu(tape, x);
  const Var b = ops::relu(tape, a);
  tape.note("a", a);
  tape.note("b", b);
  seed(tape, b, {3, 4});
  tape.backward();
  ASSERT_EQ(tape.noted().size(), 2u);
  EXPECT_EQ(tape.noted()[0].first, "a");
  EXPECT_EQ(context.download<float>(tape.noted()[0].second.node().value), (Floats{1, 0}));
  EXPECT_EQ(gradient(a.node()), (Floats{3, 0}));
  EXPECT_EQ(gradient(b.node()), (Floats{3, 4}));
  EXPECT_EQ(gradient(node), (Floats{3, 0}));
}

TEST_F(Tapes, InferenceRecordsNothing) {
  Node node;
  const Var x = leaf(node, {1, -2});
  Tape tape(context, Tape::Mode::inference);
  const Var y = ops::relu(tape, x);
  EXPECT_FALSE(y.requires_grad());
  EXPECT_EQ(context.download<float>(y.node().value), (Floats{1, 0}));
  tape.note("y", y);
  EXPECT_TRUE(tape.noted().empty());
  tape.backward();
  EXPECT_FALSE(node.grad_written);
}

TEST_F(Tapes, MemoryComesBackWhenATapeDies) {
  Node node;
  const Var x = leaf(node, Floats(1000, 1.0f));
  const int64_t before = context.memory().bytes_in_use();
  for (const Tape::Mode mode : {Tape::Mode::training, Tape::Mode::inspection, Tape::Mode::inference}) {
    {
      Tape tape(context, mode);
      (void)ops::relu(tape, ops::relu(tape, x));  // backward is never called: a failed step
      EXPECT_GT(context.memory().bytes_in_use(), before);
    }
    EXPECT_EQ(context.memory().bytes_in_use(), before);
  }
}

// Every op that a network uses: shapes come out, memory is not touched, not even for a moment.
TEST_F(Tapes, ShapesModeAllocatesNothing) {
  const auto parameter = [](Node& node, Shape shape) {
    node.value = Tensor::borrow<float>(nullptr, shape);
    node.requires_grad = true;
    return Var(&node);
  };
  Node conv, deform, scale, shift, mean, var;
  const Var w = parameter(conv, {18, 7, 7, 3}), d = parameter(deform, {18, 3, 3, 18});
  const Var g = parameter(scale, {18}), b = parameter(shift, {18});
  parameter(mean, {18});
  parameter(var, {18});
  Tape tape(context, Tape::Mode::shapes);
  const Var image = tape.make({8, 1333, 800, 3}, false);
  Var x = ops::conv2d(tape, image, w, b, {.stride = 2, .padding = 3}, ops::Activation::none);
  EXPECT_EQ(x.shape(), (Shape{8, 667, 400, 18}));
  x = ops::batch_norm(tape, x, g, b, {&mean, &var}, ops::Activation::relu);
  EXPECT_EQ(ops::conv2d_batch_norm(tape, {image, w, g, b, {&mean, &var}, {.stride = 2, .padding = 3}, x}).shape(),
            x.shape());
  x = ops::max_pool(tape, x, {.kernel = 3, .stride = 2, .padding = 1});
  EXPECT_EQ(x.shape(), (Shape{8, 334, 200, 18}));
  x = ops::group_norm(tape, x, g, b, 2, 1e-5f, ops::Activation::relu);
  const Var half = ops::subsample2(tape, x);
  EXPECT_EQ(half.shape(), (Shape{8, 167, 100, 18}));
  x = ops::upsample_add(tape, half, x);
  x = ops::add_relu(tape, ops::relu(tape, x), x);
  x = ops::deform_conv2d(tape, x, x, d, ops::Activation::relu);
  const Var all = ops::concat_levels(tape, std::vector<Var>{x, half});
  EXPECT_EQ(all.shape(), (Shape{8, 334 * 200 + 167 * 100, 18}));
  EXPECT_FALSE(all.requires_grad());
  tape.add_cost("layer", 5);
  tape.add_cost("layer", 7);
  EXPECT_EQ(tape.costs().at("layer"), 12);
  EXPECT_EQ(context.memory().bytes_reserved(), 0);
}

// A fused activation is undone on the gradient; what is shown of a value must be the gradient of that value, cut off or
// not.
TEST_F(Tapes, InspectionShowsTheGradientBehindAFusedActivation) {
  Node x, w;
  x.value = context.upload<float>(Floats{1, 2}, {1, 1, 2, 1});
  x.requires_grad = true;
  w.value = context.upload<float>(Floats{1, -1}, {2, 1, 1, 1});
  w.requires_grad = true;
  Tape tape(context, Tape::Mode::inspection);
  const Var y = ops::conv2d(tape, Var(&x), Var(&w), Var(), {}, ops::Activation::relu);  // (1, 0), (2, 0)
  seed(tape, y, {3, 4, 5, 6});
  tape.backward();
  EXPECT_EQ(gradient(y.node()), (Floats{3, 4, 5, 6}));
  EXPECT_EQ(gradient(x), (Floats{3, 5}));
  EXPECT_EQ(gradient(w), (Floats{13, 0}));
}

TEST_F(Tapes, CostsAreCountedInShapesModeOnly) {
  Tape tape(context);
  tape.add_cost("layer", 5);
  EXPECT_TRUE(tape.costs().empty());
}

}  // namespace
}  // namespace gradlibra
