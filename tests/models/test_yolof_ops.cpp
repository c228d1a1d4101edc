// SPDX-License-Identifier: MIT
// What YOLOF puts on the tape: values and gradients, also where several use one input.
#include "models/heads/yolof_ops.h"

#include "models/heads/anchor_ops.h"
#include "tests/runtime/autograd/gradient_check.h"

namespace gradlibra {
namespace {

using namespace testing;

double softplus(double t) { return t > 0 ? t + std::log1p(std::exp(-t)) : std::log1p(std::exp(t)); }

TEST(YolofOps, ValuesAndGradients) {
  Context context(1, ConvolutionLibrary::plain);
  GradientCheck{
      .op = [](Tape& tape, const std::vector<Var>& in) { return ops::implicit_objectness(tape, in[0], in[1], 2); },
      .oracle =
          [](const std::vector<Doubles>& in) {
            Doubles z;
            for (size_t i = 0; i < in[0].size(); ++i)
              z.push_back(in[0][i] + in[1][i / 2] - softplus(in[0][i] + std::log1p(std::exp(in[1][i / 2] - in[0][i]))));
            return z;
          },
      .inputs = {random_input({1, 2, 3, 4}, 1, -3, 3), random_input({1, 2, 3, 2}, 2, -3, 3)}}
      .run(context);
  GradientCheck{.op = [](Tape& tape, const std::vector<Var>& in) { return ops::anchor_rows(tape, in[0], 2); },
                .oracle = [](const std::vector<Doubles>& in) { return in[0]; },
                .inputs = {random_input({1, 2, 3, 4}, 1)}}
      .run(context);
  GradientCheck{.op = [](Tape& tape, const std::vector<Var>& in) { return ops::add(tape, in[0], in[1]); },
                .oracle =
                    [](const std::vector<Doubles>& in) {
                      Doubles y = in[0];
                      for (size_t i = 0; i < y.size(); ++i) y[i] += in[1][i];
                      return y;
                    },
                .inputs = {random_input({1, 2, 3, 4}, 1), random_input({1, 2, 3, 4}, 2)},
                .trained_alone = {{0}, {1}}}
      .run(context);
}

TEST(YolofOps, PairsOfOnePriorAddUp) {
  Context context(1, ConvolutionLibrary::plain);
  // One image, one object: the first prior twice, the last not kept, and a place without a pair.
  const std::vector<int32_t> places{0, 1, 0, ~2}, counts{1};
  const GroundTruth truth{context.upload<float>(std::vector<float>{0, 0, 8, 8}, {1, 1, 4}),
                          context.upload<int32_t>(counts, {1, 1}), context.upload<int32_t>(counts, {1})};
  GradientCheck{.op =
                    [&](Tape& tape, const std::vector<Var>& in) {
                      return ops::gather_pairs(tape, in[0], context.upload<int32_t>(places, {1, 4, 1}), truth).boxes;
                    },
                .oracle =
                    [&](const std::vector<Doubles>& in) {
                      Doubles rows;
                      for (const int32_t place : places)
                        for (size_t c = 0; c < 4; ++c)
                          rows.push_back(place >= 0 ? in[0][4 * static_cast<size_t>(place) + c] : 0);
                      return rows;
                    },
                .inputs = {random_input({1, 3, 4}, 1)}}
      .run(context);
}

TEST(AnchorOps, BoxesOfAMapOfDeltas) {
  Context context(1, ConvolutionLibrary::plain);
  AnchorGrid grid({16}, {1, 2}, {1});
  Tape shapes(context, Tape::Mode::inference);
  const std::vector<Var> level{shapes.make({1, 2, 1, 1}, false)};
  const Anchors& anchors = grid(shapes, level);
  GradientCheck{
      .op = [&](Tape& tape, const std::vector<Var>& in) { return ops::decode_deltas(tape, in[0], anchors, {}); },
      .oracle =
          [](const std::vector<Doubles>& in) {
            Doubles boxes(16);
            for (size_t row = 0; row < 4; ++row)
              for (size_t axis = 0; axis < 2; ++axis) {
                const double side = row % 2 == 0 ? 16 : 32, at = axis == 1 && row >= 2 ? 16 : 0;
                const double centre = at + side * in[0][4 * row + axis],
                             half = side * std::exp(in[0][4 * row + 2 + axis]) / 2;
                boxes[4 * row + axis] = centre - half;
                boxes[4 * row + 2 + axis] = centre + half;
              }
            return boxes;
          },
      .inputs = {random_input({1, 2, 1, 8}, 1)}}
      .run(context);
}

}  // namespace
}  // namespace gradlibra
