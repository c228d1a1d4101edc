// SPDX-License-Identifier: MIT
// Branches of a tape on a device, real or emulated: what they may share, and what is left when one of them fails. The
// emulator replays recorded work in any order that streams and events allow, so a branch that does not wait for what it
// needs shows.
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

#include "kernels/elementwise.h"
#include "runtime/autograd/ops/convolution.h"
#include "runtime/autograd/ops/elementwise.h"
#include "runtime/device/transfer.h"
#include "runtime/training/parameters.h"

namespace gradlibra {
namespace {

using Floats = std::vector<float>;
constexpr int kBranches = 4;
constexpr int64_t kSize = 1000;

class Branches : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      context_ = Context::for_device("cuda");
    } catch (const NoGpu&) {
      GTEST_SKIP() << "no CUDA device";
    }
    context_->configure({});
    ASSERT_TRUE(context_->has_branches());
  }
  Tensor filled(float value) { return context_->upload<float>(Floats(kSize, value), {kSize}); }
  Var leaf(Node& node, float value) {
    node.value = filled(value);
    node.requires_grad = true;
    return Var(&node);
  }
  void seed(Var y, float gradient) {
    y.node().grad = filled(gradient);
    y.node().grad_written = true;
  }
  // Two branches read x, and want to add to its gradient.
  void use_twice(Tape& tape, Var x) {
    std::vector<Var> outputs;
    tape.in_branches(2, [&](int) { outputs.push_back(ops::relu(tape, x)); });
    for (const Var& y : outputs) seed(y, 1);
  }
  Floats get(const Tensor& t) { return context_->download<float>(t); }

  std::unique_ptr<Context> context_;
};

// Each branch makes and drops buffers on its way, more of them the later it comes.
TEST_F(Branches, KeepTheirMemoryApartAlsoInARecording) {
  const Tensor start = filled(1);
  std::vector<Tensor> results;
  for (int b = 0; b < kBranches; ++b) results.push_back(filled(0));
  const auto work = [&] {
    Tape tape(*context_, Tape::Mode::inference);
    tape.in_branches(kBranches, [&](int b) {
      Tensor value = context_->empty({kSize});
      context_->copy(start, value);
      for (int i = 0; i < 3 * (b + 1); ++i) {
        Tensor next = context_->empty({kSize});
        context_->run([&](auto& device) {
          kernels::scale(device, std::as_const(value).view(), 2.0f, next.view(), Accumulate::overwrite);
        });
        value = std::move(next);
      }
      context_->copy(value, results[static_cast<size_t>(b)]);
    });
  };
  const auto expect_results = [&] {
    for (int b = 0; b < kBranches; ++b)
      EXPECT_EQ(get(results[static_cast<size_t>(b)]), Floats(kSize, std::pow(8.0f, static_cast<float>(b + 1)))) << b;
  };
  work();
  expect_results();
  const auto recorded = context_->capture(work);
  for (int launch = 0; launch < 20; ++launch) {
    for (Tensor& result : results) context_->zero(result);
    recorded->launch();
    expect_results();
  }
}

TEST_F(Branches, AddUpTheGradientsOfASharedParameter) {
  ParameterStore store(*context_);
  Parameter& shared = store.add("head.weight", {kSize}, {Init::Kind::constant, 1});
  store.allocate();
  store.initialize(0);
  store.share_between_branches({0, 1}, kBranches);
  const int64_t before = context_->memory().bytes_in_use();
  for (int pass = 0; pass < 2; ++pass) {
    Tape tape(*context_);
    std::vector<Var> outputs;
    std::vector<const Node*> ready;
    tape.on_grad_ready([&](Node& node) { ready.push_back(&node); });
    tape.in_branches(kBranches, [&](int) { outputs.push_back(ops::relu(tape, Var(&shared.node))); });
    for (int b = 0; b < kBranches; ++b) seed(outputs[static_cast<size_t>(b)], std::pow(10.0f, float(b)));
    tape.backward();
    EXPECT_EQ(ready, std::vector<const Node*>{&shared.node});  // once, when all branches have joined
    store.finish_backward();
    EXPECT_EQ(get(shared.node.grad), Floats(kSize, 1111));
  }
  EXPECT_EQ(context_->memory().bytes_in_use(), before);
}

TEST_F(Branches, MayNotAddToOneGradientOtherwise) {
  Node node;
  const Var x = leaf(node, 1);
  Tape tape(*context_);
  use_twice(tape, x);
  EXPECT_THROW(tape.backward(), std::logic_error);
  // The device is not left forked.
  Tape next(*context_);
  next.in_branches(2, [&](int) { (void)ops::relu(next, x); });
}

TEST_F(Branches, MayNotUseEachOthersValues) {
  Node node;
  const Var x = leaf(node, 1);
  Tape tape(*context_);
  Var first, second;
  tape.in_branches(2, [&](int b) {
    if (b == 0)
      first = ops::relu(tape, x);
    else
      second = ops::relu(tape, first);
  });
  seed(second, 1);
  EXPECT_THROW(tape.backward(), std::logic_error);
}

TEST_F(Branches, OneAfterTheOtherMayAddToOneGradient) {
  Node node;
  const Var x = leaf(node, 1);
  Tape tape(*context_);
  std::vector<Var> outputs(2);
  for (int fork = 0; fork < 2; ++fork)
    tape.in_branches(2, [&](int b) {
      if (b == fork) outputs[static_cast<size_t>(fork)] = ops::relu(tape, x);
    });
  for (const Var& y : outputs) seed(y, 5);
  tape.backward();
  EXPECT_EQ(get(node.grad), Floats(kSize, 10));
}

// Gradients of weights run beside those of maps in training, not in inspection; the bits are the same.
TEST_F(Branches, WeightsAsideHaveTheGradientsOfWeightsInTurn) {
  constexpr int64_t kChannels = 8, kLayers = 12;  // more than are ever open at a time
  const Shape maps{2, 5, 6, kChannels}, weights{kChannels, 3, 3, kChannels}, channels{kChannels};
  const auto varied = [&](const Shape& shape, float from, float scale) {
    Floats values(static_cast<size_t>(shape.size()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = from + scale * std::sin(static_cast<float>(7 * i + 1));
    return context_->upload<float>(values, shape);
  };
  struct Layer {
    Node weight, gamma, beta, mean, var;
  };
  std::vector<Layer> layers(kLayers);
  for (Layer& l : layers) {
    l.weight.value = varied(weights, 0, 0.2f);
    l.gamma.value = varied(channels, 1, 0.5f);
    l.beta.value = varied(channels, 0.1f, 0.1f);
    l.mean.value = varied(channels, 0, 0.1f);
    l.var.value = varied(channels, 1, 0.5f);
    for (Node* trained : {&l.weight, &l.gamma, &l.beta}) trained->requires_grad = true;
  }
  Node input;
  input.value = varied(maps, 0, 1);
  input.requires_grad = true;
  const Tensor grad = varied(maps, 0, 0.3f);
  const auto run = [&](Tape::Mode mode) {
    input.grad_written = false;
    Tape tape(*context_, mode);
    Var y(&input), skip;
    for (Layer& l : layers) {
      for (Node* trained : {&l.weight, &l.gamma, &l.beta}) trained->grad_written = false;
      const Var residual = y;
      y = ops::conv2d_batch_norm(tape, {.x = y,
                                        .weight = Var(&l.weight),
                                        .gamma = Var(&l.gamma),
                                        .beta = Var(&l.beta),
                                        .buffers = {&l.mean, &l.var},
                                        .shape = {.padding = 1},
                                        .residual = skip,
                                        .activation = ops::Activation::relu});
      skip = residual;
    }
    y.node().grad = context_->empty(maps);
    context_->copy(grad, y.node().grad);
    y.node().grad_written = true;
    tape.backward();
  };
  const auto gradients = [&] {
    std::vector<Floats> all{get(input.grad)};
    for (const Layer& l : layers)
      for (const Node* trained : {&l.weight, &l.gamma, &l.beta}) all.push_back(get(trained->grad));
    return all;
  };
  run(Tape::Mode::inspection);
  const std::vector<Floats> want = gradients();
  run(Tape::Mode::training);
  EXPECT_EQ(gradients(), want);
  const auto recorded = context_->capture([&] { run(Tape::Mode::training); });
  for (int launch = 0; launch < 10; ++launch) {
    for (Layer& l : layers) context_->zero(l.weight.grad);
    recorded->launch();
    EXPECT_EQ(gradients(), want);
  }
}

TEST_F(Branches, AnExceptionLeavesTheDeviceInOrder) {
  Tape tape(*context_);
  EXPECT_THROW(tape.in_branches(kBranches,
                                [&](int b) {
                                  Tensor t = context_->zeros({kSize});
                                  if (b == 2) throw std::runtime_error("stopped");
                                }),
               std::runtime_error);
  EXPECT_THROW(tape.in_branches(2, [&](int) { tape.in_branches(2, [](int) {}); }), std::invalid_argument);
  int calls = 0;
  tape.in_branches(kBranches, [&](int) { ++calls; });
  EXPECT_EQ(calls, kBranches);
  const Tensor t = filled(3);
  EXPECT_EQ(get(t), Floats(kSize, 3));
}

TEST_F(Branches, AreOneAfterTheOtherWhereTheConfigurationSaysSo) {
  context_->configure({.parallel_levels = false});
  EXPECT_FALSE(context_->has_branches());
  Node node;
  const Var x = leaf(node, 1);
  Tape tape(*context_);
  use_twice(tape, x);
  tape.backward();  // then one gradient may have two sources
  EXPECT_EQ(get(node.grad), Floats(kSize, 2));
}

}  // namespace
}  // namespace gradlibra
