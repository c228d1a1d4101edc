// SPDX-License-Identifier: MIT
// Checks an op's values and gradients against a forward pass in double precision and its central differences.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "runtime/autograd/ops/convolution.h"
#include "runtime/autograd/ops/elementwise.h"
#include "runtime/autograd/ops/norm.h"
#include "runtime/autograd/ops/resample.h"
#include "tests/kernels/host_array.h"

namespace gradlibra::testing {

using Doubles = std::vector<double>;

// One input of an op and what is expected of its gradient.
struct Input {
  Shape shape;
  std::vector<float> values;
  double gradient_factor = 1;  // of the true derivative; 0: the op must leave the gradient alone
};

inline Input random_input(Shape shape, uint32_t seed, float lo = -1, float hi = 1) {
  return {shape, random_array(shape, seed, lo, hi).values};
}

// The inputs of an op as nodes that nobody computes, like parameters. Gradients start as NaN, so that an unwritten
// element shows.
class Leaves {
 public:
  Leaves(Context& context, const std::vector<Input>& inputs, const std::vector<size_t>& trained) : context_(context) {
    context.convolution().weights_changed();  // new weights may lie where old ones lay
    for (const Input& input : inputs) {
      Node& node = nodes_.emplace_back();
      node.value = context.upload<float>(input.values, input.shape);
    }
    for (const size_t i : trained) {
      nodes_[i].requires_grad = true;
      nodes_[i].grad = context.empty(inputs[i].shape);
      const std::vector<float> unwritten(inputs[i].values.size(), kNaN);
      context.upload<float>(unwritten, nodes_[i].grad);
    }
  }
  [[nodiscard]] std::vector<Var> vars() {
    std::vector<Var> result;
    for (Node& node : nodes_) result.emplace_back(&node);
    return result;
  }
  [[nodiscard]] const Node& operator[](size_t i) const { return nodes_[i]; }
  [[nodiscard]] std::vector<float> gradient(size_t i) const { return context_.download<float>(nodes_[i].grad); }

 private:
  Context& context_;
  std::deque<Node> nodes_;
};

inline void seed_gradient(Tape& tape, Var y, const std::vector<float>& values) {
  tape.context().upload<float>(values, y.node().grad = tape.context().empty(y.shape()));
  y.node().grad_written = true;
}

struct GradientCheck {
  std::function<Var(Tape&, const std::vector<Var>&)> op;
  std::function<Doubles(const std::vector<Doubles>&)> oracle;  // the op in double precision, flat
  std::vector<Input> inputs;
  // Which inputs are trained together in a run of their own; all of them together is always one.
  std::vector<std::vector<size_t>> trained_alone{};
  // Relative to the element, and a tenth of it to the largest element: float32 sums of up to a few hundred terms.
  double tolerance = 1e-4;

  // d <weights, oracle> / d inputs[i], by central differences.
  [[nodiscard]] Doubles expected_gradient(size_t i, const Doubles& weights) const {
    std::vector<Doubles> moved;
    for (const Input& input : inputs) moved.emplace_back(input.values.begin(), input.values.end());
    Doubles result(inputs[i].values.size());
    for (size_t k = 0; k < result.size(); ++k) {
      const double at = moved[i][k], h = 1e-6;
      double difference = 0;
      for (const double side : {1.0, -1.0}) {
        moved[i][k] = at + side * h;
        const Doubles y = oracle(moved);
        for (size_t j = 0; j < y.size(); ++j) difference += side * weights[j] * y[j];
      }
      moved[i][k] = at;
      result[k] = inputs[i].gradient_factor * difference / (2 * h);
    }
    return result;
  }

  void run(Context& context) const {
    std::vector<Doubles> exact;
    for (const Input& input : inputs) exact.emplace_back(input.values.begin(), input.values.end());
    const Doubles want = oracle(exact);
    const std::vector<float> seed = random_array({static_cast<int64_t>(want.size())}, 77).values;
    const Doubles weights(seed.begin(), seed.end());
    std::vector<Doubles> gradients;
    for (size_t i = 0; i < inputs.size(); ++i) gradients.push_back(expected_gradient(i, weights));

    std::vector<size_t> all;
    for (size_t i = 0; i < inputs.size(); ++i) all.push_back(i);
    std::vector<std::vector<size_t>> subsets = trained_alone;
    subsets.push_back(all);
    for (const auto& subset : subsets) {
      // Twice on one tape: the second use must add to what the first has left.
      for (const int uses : {1, 2}) {
        SCOPED_TRACE("trained: " + ::testing::PrintToString(subset) + ", uses: " + std::to_string(uses));
        Leaves leaves(context, inputs, subset);
        Tape tape(context);
        std::vector<Var> outputs;
        for (int use = 0; use < uses; ++use) outputs.push_back(op(tape, leaves.vars()));
        for (const Var& y : outputs) {
          expect_close(context.download<float>(y.node().value), want, 1);
          ASSERT_TRUE(y.requires_grad());
          seed_gradient(tape, y, seed);
        }
        tape.backward();
        for (size_t i = 0; i < inputs.size(); ++i) {
          SCOPED_TRACE("gradient of input " + std::to_string(i));
          const bool is_trained = std::find(subset.begin(), subset.end(), i) != subset.end();
          ASSERT_EQ(leaves[i].grad_written, is_trained && inputs[i].gradient_factor != 0);
          if (leaves[i].grad_written) expect_close(leaves.gradient(i), gradients[i], uses);
        }
      }
    }
  }

 private:
  void expect_close(const std::vector<float>& got, Doubles want, double times) const {
    double largest = 0;
    for (double& v : want) largest = std::max(largest, std::abs(v *= times));
    expect_near(got, want, tolerance / 10 * largest, tolerance);
  }
};

// Both convolution libraries; without oneDNN there is only one.
inline std::vector<ConvolutionLibrary> convolution_libraries() {
#ifdef GRADLIBRA_HAVE_ONEDNN
  return {ConvolutionLibrary::best, ConvolutionLibrary::plain};
#else
  return {ConvolutionLibrary::plain};
#endif
}

}  // namespace gradlibra::testing
