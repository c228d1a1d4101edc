// SPDX-License-Identifier: MIT
// What the losses of all heads are multiplied with and divided by: weights of the terms, normalisers, lower bounds.
#include "tests/models/small_heads.h"

namespace gradlibra {
namespace {

using namespace testing;

class HeadLosses : public HeadTest {
 protected:
  template <class Small, class Config>
  Losses losses(const Config& config, const LossConfig& loss = {.type = "cross_entropy"}) {
    Small head(context, config, loss);
    return head.step({0, 1}, truth({some, {{2, 2, 30, 28, 0}}}, 4));
  }

  // Twice the weight, twice the term; the others as they were.
  template <class Small, class Config>
  void expect_weighs(const Config& once, double Config::*weight, const std::string& term) {
    SCOPED_TRACE(term);
    Config twice = once;
    twice.*weight *= 2;
    const Losses before = losses<Small>(once), after = losses<Small>(twice);
    ASSERT_GT(before.at(term), 0);
    for (const auto& [name, value] : before) EXPECT_DOUBLE_EQ(after.at(name), name == term ? 2 * value : value) << name;
  }

  // Rows without an object count for the classes alone.
  template <class Small, class Config>
  void expect_num_valid_for_classes_alone(const Config& config) {
    const Losses by_positives = losses<Small>(config, {.type = "cross_entropy", .normalizer = "num_pos"}),
                 by_valid = losses<Small>(config, {.type = "cross_entropy", .normalizer = "num_valid"});
    for (const auto& [name, value] : by_positives) {
      ASSERT_GT(value, 0) << name;
      if (name == "loss_cls")
        EXPECT_LT(by_valid.at(name), 0.5 * value);
      else
        EXPECT_DOUBLE_EQ(by_valid.at(name), value) << name;
    }
  }
};

TEST_F(HeadLosses, TermsGoByTheirWeights) {
  expect_weighs<AnyRepPoints>(RepPointsConfig{}, &RepPointsConfig::init_loss_weight, "loss_pts_init");
  expect_weighs<AnyRepPoints>(RepPointsConfig{}, &RepPointsConfig::refine_loss_weight, "loss_pts_refine");
  expect_weighs<AnyFcos>(FcosConfig{}, &FcosConfig::box_loss_weight, "loss_bbox");
  expect_weighs<AnyFcos>(FcosConfig{}, &FcosConfig::centerness_loss_weight, "loss_centerness");
  expect_weighs<AnyAtss>(AtssConfig{}, &AtssConfig::box_loss_weight, "loss_bbox");
  expect_weighs<AnyAtss>(AtssConfig{}, &AtssConfig::centerness_loss_weight, "loss_centerness");
  expect_weighs<AnyYolof>(YolofConfig{}, &YolofConfig::box_loss_weight, "loss_bbox");
}

// The later smooth L1 turns linear, the less it is.
TEST_F(HeadLosses, SmoothL1TurnsWhereItIsTold) {
  const Losses early = losses<AnyRepPoints>(RepPointsConfig{.smooth_l1_beta = 0.05}),
               late = losses<AnyRepPoints>(RepPointsConfig{.smooth_l1_beta = 1});
  EXPECT_LT(late.at("loss_pts_init"), early.at("loss_pts_init"));
  EXPECT_LT(late.at("loss_pts_refine"), early.at("loss_pts_refine"));
  EXPECT_EQ(late.at("loss_cls"), early.at("loss_cls"));
}

TEST_F(HeadLosses, NumValidIsForClassesAlone) {
  expect_num_valid_for_classes_alone<AnyRepPoints>(RepPointsConfig{});
  expect_num_valid_for_classes_alone<AnyFcos>(FcosConfig{});
  expect_num_valid_for_classes_alone<AnyAtss>(AtssConfig{});
  expect_num_valid_for_classes_alone<AnyYolof>(YolofConfig{});
}

// Box losses that are weighed by centerness are divided by its sum: by no less than 1 on each rank in ATSS, by nearly
// any sum in FCOS.
TEST_F(HeadLosses, SumsOfCenternessAndTheirLowerBounds) {
  constexpr double kEpsilon = 1.1920928955078125e-7;
  const auto positives = [](const std::vector<int32_t>& assigned) {
    return std::count_if(assigned.begin(), assigned.end(), [](int32_t a) { return a > 0; });
  };
  // One anchor or cell lies in the object, one pixel from its left and upper side and five from the others.
  AnyAtss atss(context);
  (void)atss.step({0}, truth({{{7, 7, 13, 13, 0}}}, 1));
  EXPECT_EQ(positives(atss.told<int32_t>("targets.assigned")), 1);
  const Floats centerness = atss.told("targets.centerness");
  EXPECT_FLOAT_EQ(*std::max_element(centerness.begin(), centerness.end()), 0.2f);
  EXPECT_EQ(atss.told<double>("targets.box_normalizer")[0], 1);
  AnyFcos fcos(context);
  (void)fcos.step({0}, truth({{{3, 3, 9, 9, 0}}}, 1));
  EXPECT_EQ(positives(fcos.told<int32_t>("targets.assigned")), 1);
  EXPECT_NEAR(fcos.told<double>("targets.box_normalizer")[0], double{0.2f} + kEpsilon, 1e-10);

  // Two ranks without an object.
  TwoRanks ranks(0);
  (void)atss.step({0}, truth({{}}, 1), ranks);
  EXPECT_EQ(atss.told<double>("targets.box_normalizer")[0], 2);
  (void)fcos.step({0}, truth({{}}, 1), ranks);
  EXPECT_NEAR(fcos.told<double>("targets.box_normalizer")[0], 2 * (1e-6 + kEpsilon), 1e-12);
}

}  // namespace
}  // namespace gradlibra
