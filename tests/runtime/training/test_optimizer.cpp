// SPDX-License-Identifier: MIT
// SGD over a parameter store: a trajectory over two ranks, clipping, exclusions, and steps that must not happen.
#include "runtime/training/optimizer.h"

#include <cmath>
#include <limits>

#include "runtime/training/gradient_buckets.h"
#include "runtime/training/schedule.h"
#include "tests/kernels/vectors.h"

namespace gradlibra {
namespace {

using testing::expect_near;
using testing::flatten;
using testing::near;
using testing::read_vectors;
using testing::same_bits;

using Floats = std::vector<float>;

// This rank's side of a job of two: the other rank's flat gradients are known beforehand.
class TwoRanks final : public Communicator {
 public:
  explicit TwoRanks(const Tensor& flat) : flat_(flat) {}
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int world_size() const override { return 2; }
  void sum(View<float> values) override {
    const auto begin = values.data() - flat_.view().data();
    ASSERT_TRUE(begin >= 0 && begin + values.size() <= static_cast<int64_t>(other.size()));
    for (int64_t i = 0; i < values.size(); ++i) values[i] += other[static_cast<size_t>(begin + i)];
  }
  void sum(View<double>) override {}
  void broadcast(View<float>, int) override {}
  void barrier() override {}
  std::vector<std::string> gather(const std::string& own) override { return {own, own}; }

  Floats other;

 private:
  const Tensor& flat_;
};

class Optimizers : public ::testing::Test {
 protected:
  Parameter& add(const std::string& name, int64_t size) { return store.add(name, {size}, {}); }
  void set(Tensor& tensor, const Floats& values) { context.upload<float>(values, tensor); }
  Floats get(const Tensor& tensor) { return context.download<float>(tensor); }
  static void expect_close(const Floats& got, const nlohmann::json& want) {
    expect_near(got, flatten(want), 2e-6, 2e-6);  // float32 over 20 steps
  }

  static void take_step(Optimizer& optimizer, double lr) {
    optimizer.set_lr(lr);
    optimizer.update();
  }
  double grad_norm(const Optimizer& optimizer) {
    return std::sqrt(context.download<double>(optimizer.sum_squares())[0]);
  }

  Context context{1, ConvolutionLibrary::plain};
  ParameterStore store{context};
};

TEST_F(Optimizers, TrajectoryOverTwoRanks) {
  const auto example = read_vectors("optimizer")["sgd_trajectory"];
  // The weight decays, the bias does not.
  Parameter& w = store.add("bbox_head.reppoints_cls_out.weight", {3}, {}, Role::convolution_weight);
  Parameter& b = store.add("bbox_head.reppoints_cls_out.bias", {2}, {}, Role::bias);
  store.allocate();
  set(w.node.value, example["initial"]["w"]);
  set(b.node.value, example["initial"]["b"]);
  Optimizer optimizer(store, {.momentum = example["momentum"],
                              .weight_decay = example["weight_decay"],
                              .clip_norm = example["clip_max_norm"],
                              .decay_bias = false});
  const ScheduleConfig schedule{.steps = example["milestones_epochs"],
                                .gamma = example["gamma"],
                                .warmup_iterations = example["warmup_iters"],
                                .warmup_ratio = example["warmup_ratio"]};
  TwoRanks ranks(store.flat_grads());
  GradientBuckets buckets(store, ranks, {.first_mb = 1e-6, .mb = 1e-6});
  EXPECT_EQ(buckets.buckets().size(), 2u);
  // A rank's gradients are of its share of the whole batch: its losses are divided by what all ranks count.
  const auto share = [](const nlohmann::json& of_rank) {
    Floats values = of_rank;
    for (float& v : values) v /= 2;
    return values;
  };
  ASSERT_EQ(example["steps"].size(), 20u);
  bool clipped = false;
  for (const auto& given : example["steps"]) {
    SCOPED_TRACE("iteration " + given["it"].dump());
    const double lr = learning_rate(schedule, example["base_lr"], given["epoch"], given["it"]);
    EXPECT_TRUE(near(lr, given["lr"], 0, 1e-12));
    // The other rank's gradients as they lie in its flat block.
    set(w.node.grad, share(given["grad_w_per_rank"][1]));
    set(b.node.grad, share(given["grad_b_per_rank"][1]));
    ranks.other = get(store.flat_grads());
    set(w.node.grad, share(given["grad_w_per_rank"][0]));
    set(b.node.grad, share(given["grad_b_per_rank"][0]));
    w.node.grad_written = b.node.grad_written = true;
    buckets.ready(b.node);
    buckets.ready(w.node);
    buckets.finish();
    take_step(optimizer, lr);
    EXPECT_TRUE(near(grad_norm(optimizer), given["grad_norm"], 0, 1e-6));
    clipped |= grad_norm(optimizer) > example["clip_max_norm"].get<double>();
    expect_close(get(w.velocity), given["momentum_w"]);
    expect_close(get(b.velocity), given["momentum_b"]);
    expect_close(get(w.node.value), given["w"]);
    expect_close(get(b.node.value), given["b"]);
  }
  EXPECT_TRUE(clipped) << "the example should show clipping";
}

TEST_F(Optimizers, ClipsTheNormOfAllGradientsTogether) {
  Parameter& a = add("neck.a.weight", 1);
  Parameter& b = add("neck.b.weight", 1);
  store.allocate();
  Optimizer optimizer(store, {.momentum = 0, .weight_decay = 0, .clip_norm = 2.5});
  set(a.node.grad, {3});
  set(b.node.grad, {-4});
  take_step(optimizer, 1);
  EXPECT_NEAR(grad_norm(optimizer), 5, 1e-6);  // before clipping
  EXPECT_NEAR(get(a.node.value)[0], -1.5, 1e-5);
  EXPECT_NEAR(get(b.node.value)[0], 2, 1e-5);
  // A norm below the bound is left alone.
  set(a.node.grad, {1});
  set(b.node.grad, {0});
  take_step(optimizer, 1);
  EXPECT_NEAR(get(a.node.value)[0], -2.5, 1e-5);
}

TEST_F(Optimizers, ANonFiniteGradientChangesNothing) {
  Parameter& a = add("backbone.a.weight", 3);
  Parameter& b = add("neck.b.bias", 2);
  store.allocate();
  set(a.node.value, {1, 2, 3});
  set(b.node.value, {4, 5});
  Optimizer optimizer(store, {.clip_norm = 35});
  set(a.node.grad, {1, 1, 1});
  set(b.node.grad, {1, 1});
  take_step(optimizer, 0.1);
  const Floats values_a = get(a.node.value), values_b = get(b.node.value), velocities = get(store.flat_velocities());
  for (const float bad : {testing::kNaN, testing::kInfinity, -testing::kInfinity}) {
    set(a.node.grad, {1, 1, 1});
    set(b.node.grad, {1, bad});
    take_step(optimizer, 0.1);
    EXPECT_FALSE(std::isfinite(grad_norm(optimizer)));
    EXPECT_TRUE(same_bits(get(a.node.value), values_a));
    EXPECT_TRUE(same_bits(get(b.node.value), values_b));
    EXPECT_TRUE(same_bits(get(store.flat_velocities()), velocities));
  }
  set(b.node.grad, {1, 1});
  take_step(optimizer, 0.1);
  EXPECT_TRUE(std::isfinite(grad_norm(optimizer)));
  EXPECT_LT(get(a.node.value)[0], values_a[0]);
}

TEST_F(Optimizers, SumsOfSquaresBeyondFloatAreNoOverflow) {
  Parameter& a = add("neck.a.weight", 2);
  store.allocate();
  Optimizer optimizer(store, {.momentum = 0, .weight_decay = 0, .clip_norm = 1});
  set(a.node.grad, {3e30f, 4e30f});
  take_step(optimizer, 1);
  EXPECT_TRUE(near(grad_norm(optimizer), 5e30, 0, 1e-6));
  EXPECT_NEAR(get(a.node.value)[0], -0.6, 1e-5);
}

// One step of rate 1 from 1 with gradient 0 leaves 1 - decay.
TEST_F(Optimizers, ExclusionsFromWeightDecay) {
  struct Case {
    bool decay_norm, decay_bias;
  };
  for (const auto& [decay_norm, decay_bias] :
       {Case{true, true}, Case{false, true}, Case{true, false}, Case{false, false}}) {
    ParameterStore parameters(context);
    const auto added = [&](Role role) {
      return &parameters.add("p" + std::to_string(parameters.all().size()), {2}, {Init::Kind::constant, 1}, role);
    };
    const Parameter *weight = added(Role::convolution_weight), *bias = added(Role::bias),
                    *scale = added(Role::norm_scale), *shift = added(Role::norm_shift), *other = added(Role::other);
    parameters.allocate();
    parameters.initialize(0);
    Optimizer optimizer(parameters, {.weight_decay = 0.25, .decay_norm = decay_norm, .decay_bias = decay_bias});
    take_step(optimizer, 1);
    const auto expect = [&, norm = decay_norm, bias_too = decay_bias](const Parameter* p, bool decays) {
      EXPECT_EQ(get(p->node.value), Floats(2, decays ? 0.75f : 1.0f)) << p->name << norm << bias_too;
    };
    expect(weight, true);
    expect(bias, decay_bias);
    expect(scale, decay_norm);
    expect(shift, decay_norm);
    expect(other, true);
  }
}

TEST_F(Optimizers, BackboneHasItsOwnRate) {
  store.enter(Section::backbone);
  Parameter& a = add("backbone.conv1.weight", 1);
  store.enter(Section::neck);
  Parameter& b = add("neck.lateral_convs.0.conv.weight", 1);
  store.allocate();
  Optimizer optimizer(store, {.momentum = 0.5, .weight_decay = 0, .backbone_lr_factor = 0.25});
  for (int step = 0; step < 2; ++step) {
    set(a.node.grad, {1});
    set(b.node.grad, {1});
    take_step(optimizer, 1);
  }
  // Velocities 1 and 1.5; the rate is not inside them.
  EXPECT_EQ(get(a.velocity), Floats{1.5f});
  EXPECT_EQ(get(b.node.value), Floats{-2.5f});
  EXPECT_EQ(get(a.node.value), Floats{-0.625f});
}

TEST_F(Optimizers, BiasesHaveTheirOwnRate) {
  Parameter& weight = store.add("bbox_head.conv_reg.weight", {1}, {}, Role::other);
  Parameter& bias = store.add("bbox_head.conv_reg.bias", {1}, {}, Role::bias);
  Parameter& shift = store.add("bbox_head.cls_convs.0.gn.bias", {1}, {}, Role::norm_shift);
  store.allocate();
  store.initialize(0);
  Optimizer optimizer(store, {.momentum = 0, .weight_decay = 0, .bias_lr_factor = 2});
  for (Parameter* p : {&weight, &bias, &shift}) set(p->node.grad, {1});
  take_step(optimizer, 1);
  EXPECT_EQ(get(weight.node.value), Floats{-1});
  EXPECT_EQ(get(bias.node.value), Floats{-2});
  EXPECT_EQ(get(shift.node.value), Floats{-1});
}

TEST_F(Optimizers, FrozenParametersAndBuffersStay) {
  Parameter& frozen = store.add("backbone.conv1.weight", {2}, {Init::Kind::constant, 3}, Role::other, false);
  Parameter& buffer = store.add_buffer("backbone.bn1.running_var", {2}, {Init::Kind::constant, 1});
  Parameter& trained = add("neck.a.weight", 2);
  store.allocate();
  store.initialize(0);
  Optimizer optimizer(store, {.weight_decay = 0.5});
  set(trained.node.grad, {1, 1});
  take_step(optimizer, 1);
  EXPECT_EQ(get(frozen.node.value), Floats(2, 3.0f));
  EXPECT_EQ(get(buffer.node.value), Floats(2, 1.0f));
  EXPECT_EQ(get(trained.node.value), Floats(2, -1.0f));
}

}  // namespace
}  // namespace gradlibra
