// SPDX-License-Identifier: MIT
// All heads at the size of head_test.h, for what is tested of each of them alike. The pyramid has two levels over a
// 64 x 64 image, 64 cells of stride 8 and 16 of stride 16; of YOLOF the second alone.
#pragma once

#include <utility>

#include "models/heads/atss_head.h"
#include "models/heads/fcos_head.h"
#include "models/heads/reppoints_head.h"
#include "models/heads/yolof_head.h"
#include "tests/models/head_test.h"

namespace gradlibra::testing {

inline RepPointsConfig small(RepPointsConfig config) {
  config.feat_channels = config.point_channels = 8;
  config.stacked_convs = 1;
  return config;
}
inline FcosConfig small(FcosConfig config) {
  config.feat_channels = 8;
  config.stacked_convs = 1;
  config.norm_groups = 2;
  config.level_bounds = std::vector<double>(1, 32);
  return config;
}
inline AtssConfig small(AtssConfig config) {
  config.feat_channels = 8;
  config.stacked_convs = 1;
  config.norm_groups = 2;
  config.anchor_scale = 2;
  return config;
}
inline YolofConfig small(YolofConfig config) {
  config.cls_convs = config.reg_convs = 1;
  config.anchor_scales = {1, 2, 4};
  return config;
}

inline Pyramid small_pyramid(const YolofConfig&) { return {8, {16}}; }
template <class Config>
Pyramid small_pyramid(const Config&) {
  return {8, {8, 16}};
}

// A head of any kind, and what it noted in the last step.
template <class OneHead, class Config>
class AnySmallHead : public SmallHead<OneHead> {
 public:
  explicit AnySmallHead(Context& c, const Config& config = {}, const LossConfig& loss = {})
      : SmallHead<OneHead>(c, small(config), small_pyramid(config), loss) {}

  Losses step(const std::vector<int>& images, const GroundTruth& truth, Communicator& ranks) {
    tape_ = std::make_unique<Tape>(this->context, Tape::Mode::inspection);
    return this->train(*tape_, images, truth, ranks);
  }
  Losses step(const std::vector<int>& images, const GroundTruth& truth) {
    SingleProcess alone;
    return step(images, truth, alone);
  }
  [[nodiscard]] const Tensor& noted(const std::string& name) const { return tape_->noted(name).node().value; }
  template <class T = float>
  [[nodiscard]] std::vector<T> told(const std::string& name) const {
    return this->context.template download<T>(noted(name));
  }
  // As if nothing had been learned and nothing drawn: every output is 0.
  void clear() {
    this->context.zero(this->store.flat_values());
    this->context.convolution().weights_changed();
  }

 private:
  std::unique_ptr<Tape> tape_;
};

using AnyRepPoints = AnySmallHead<RepPointsHead, RepPointsConfig>;
using AnyFcos = AnySmallHead<FcosHead, FcosConfig>;
using AnyAtss = AnySmallHead<AtssHead, AtssConfig>;
using AnyYolof = AnySmallHead<YolofHead, YolofConfig>;

}  // namespace gradlibra::testing
