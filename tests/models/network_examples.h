// SPDX-License-Identifier: MIT
// What whole networks are compared by with worked examples in double precision: summaries of maps, losses, norms of
// gradients, detections, sizes.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "models/detector.h"
#include "tests/models/filler.h"

namespace gradlibra::testing {

// Each network runs through oneDNN (where built) and through the plain loops.
class NetworkTest : public ::testing::TestWithParam<ConvolutionLibrary> {
 protected:
  void SetUp() override {
    if (GetParam() == ConvolutionLibrary::best && context.device_name().find("oneDNN") == std::string::npos)
      GTEST_SKIP() << "built without oneDNN";
  }
  Context context{2, GetParam()};
};
inline std::string library_name(const ::testing::TestParamInfo<ConvolutionLibrary>& library) {
  return library.param == ConvolutionLibrary::best ? "OneDnn" : "Plain";
}

// shape, sum and sum of magnitudes (relative to the latter), first and last four elements.
inline void expect_summary(const Tensor& tensor, Context& context, const nlohmann::json& want, double tol,
                           const std::string& what) {
  SCOPED_TRACE(what);
  const auto shape = want["shape"].get<std::vector<int64_t>>();
  ASSERT_EQ(tensor.shape(), Shape(shape)) << tensor.shape().to_string();
  const std::vector<float> values = context.download<float>(tensor);
  double sum = 0, abs_sum = 0;
  for (const float v : values) sum += v, abs_sum += std::abs(v);
  const double scale = want["abs_sum"].get<double>();
  EXPECT_TRUE(near(sum, want["sum"], tol * scale));
  EXPECT_TRUE(near(abs_sum, scale, tol * scale));
  const double typical = std::max(1.0, scale / static_cast<double>(values.size()));
  for (size_t i = 0; i < want["first"].size(); ++i) EXPECT_TRUE(near(values[i], want["first"][i], tol * typical));
  const size_t tail = values.size() - want["last"].size();
  for (size_t i = 0; i < want["last"].size(); ++i) EXPECT_TRUE(near(values[tail + i], want["last"][i], tol * typical));
}

inline Var input_of(Tape& tape, const nlohmann::json& spec) {
  const auto s = spec[1].get<std::vector<int64_t>>();
  const auto values = filled_nhwc(spec[0], s[0], s[1], s[2], s[3], spec[2], spec[3]);
  return tape.constant(tape.context().upload<float>(values, {s[0], s[2], s[3], s[1]}));
}

inline GroundTruth truth_of(Context& context, const nlohmann::json& inputs) {
  const size_t N = inputs["gt"].size(), M = 5;  // padded beyond the largest count
  std::vector<float> boxes(N * M * 4, 0.0f);
  std::vector<int32_t> labels(N * M, -1), counts(N);
  for (size_t n = 0; n < N; ++n) {
    counts[n] = static_cast<int32_t>(inputs["gt"][n].size());
    for (size_t m = 0; m < inputs["gt"][n].size(); ++m) {
      for (size_t k = 0; k < 4; ++k) boxes[(n * M + m) * 4 + k] = inputs["gt"][n][m][k];
      labels[n * M + m] = inputs["labels"][n][m];
    }
  }
  const auto n = static_cast<int64_t>(N), m = static_cast<int64_t>(M);
  return {context.upload<float>(boxes, {n, m, 4}), context.upload<int32_t>(labels, {n, m}),
          context.upload<int32_t>(counts, {n})};
}

inline double norm_of(Context& context, const Tensor& t) {
  double sum = 0;
  for (const float v : context.download<float>(t)) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

inline std::vector<int> assignment_of(Context& context, const Tensor& assigned) {
  const auto values = context.download<int32_t>(assigned);
  return {values.begin(), values.end()};
}

// Runs the losses of `inputs` on the tape: want["losses"] and want["total"], to 1e-4.
inline void expect_losses(const Detector& detector, Tape& tape, const nlohmann::json& inputs,
                          const nlohmann::json& want) {
  Context& context = tape.context();
  SingleProcess alone;
  const auto terms = detector.loss(tape, input_of(tape, inputs["image"]), truth_of(context, inputs), alone);
  ASSERT_EQ(terms.size(), want["losses"].size());
  double total = 0;
  for (const LossTerm& term : terms) {
    const double value = context.download<double>(term.value)[0], wanted = want["losses"][term.name];
    EXPECT_TRUE(near(value, wanted, 1e-4 * std::abs(wanted))) << term.name;
    total += value;
  }
  EXPECT_TRUE(near(total, want["total"], 1e-4 * want["total"].get<double>()));
}

// Backwards from there: norms of all and of named gradients. One that is listed as 0 is 0 by the mathematics.
inline void expect_gradients(Detector& detector, Tape& tape, const nlohmann::json& want, double tolerance = 2e-3) {
  Context& context = tape.context();
  tape.backward();
  detector.parameters().finish_backward();
  const double all = norm_of(context, detector.parameters().flat_grads()), wanted = want["grad_norm_all"];
  EXPECT_TRUE(near(all, wanted, tolerance * wanted));
  for (const auto& [parameter, norm] : want["grad_norms"].items()) {
    const Parameter* p = detector.parameters().find(parameter);
    ASSERT_NE(p, nullptr) << parameter;
    ASSERT_TRUE(p->trainable) << parameter;
    const double allowed = norm == 0 ? 1e-6 * wanted : tolerance * norm.get<double>();
    EXPECT_TRUE(near(norm_of(context, p->node.grad), norm, allowed)) << parameter;
  }
}

// Of the first of the images, each 64 x 64: how many, and the best.
inline void expect_detections(const Detector& detector, const nlohmann::json& inputs, const nlohmann::json& expected,
                              const std::string& what) {
  SCOPED_TRACE(what);
  Tape detecting(detector.context(), Tape::Mode::inference);
  const std::vector<int32_t> sizes(6, 64);
  const auto detections = detector.detect(detecting, input_of(detecting, inputs["image"]), sizes);
  ASSERT_EQ(detections.size(), 3u);
  EXPECT_EQ(detections[0].size(), expected["count"].get<size_t>());
  for (size_t d = 0; d < expected["top"].size(); ++d) {
    const nlohmann::json& want = expected["top"][d];
    const ScoredBox& got = detections[0][d];
    SCOPED_TRACE("detection " + std::to_string(d));
    EXPECT_TRUE(near(got.x1, want[0], 1e-3 * 64));
    EXPECT_TRUE(near(got.y1, want[1], 1e-3 * 64));
    EXPECT_TRUE(near(got.x2, want[2], 1e-3 * 64));
    EXPECT_TRUE(near(got.y2, want[3], 1e-3 * 64));
    EXPECT_TRUE(near(got.score, want[4], 1e-3));
    EXPECT_EQ(got.label, want[5].get<int>());
  }
}

// Parameters and multiply-adds of every part at 512 x 512.
inline void check_costs(const nlohmann::json& costs, const std::string& key, const ModelConfig& config, int classes,
                        bool whole) {
  SCOPED_TRACE(key);
  const nlohmann::json& expected = costs[key];
  Context context(1);
  Detector detector(context, config, classes);
  std::map<std::string, int64_t> multiply_adds, parameters;
  for (const auto& part : detector.costs(512, 512)) {
    multiply_adds[part.part] = part.multiply_adds;
    parameters[part.part.substr(0, part.part.find('.'))] += part.parameters;
  }
  for (const auto& [module, macs] : expected["by_module"].items())
    EXPECT_EQ(multiply_adds[module], macs.get<int64_t>()) << module;
  EXPECT_EQ(parameters["backbone"], expected["params"]["backbone"].get<int64_t>());
  if (!whole) return;
  EXPECT_EQ(parameters["neck"], expected["params"]["neck"].get<int64_t>());
  EXPECT_EQ(parameters["bbox_head"], expected["params"]["head"].get<int64_t>());
  EXPECT_EQ(detector.parameters().parameter_count(), expected["total_params"].get<int64_t>());
}

}  // namespace gradlibra::testing
