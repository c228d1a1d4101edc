// SPDX-License-Identifier: MIT
// The ResNet's switches: what is frozen, which statistics are used, how it starts, what files it takes.
#include "models/backbones/resnet.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "runtime/training/weights.h"
#include "tests/messages.h"
#include "tests/models/filler.h"

namespace gradlibra {
namespace {

using testing::fill_parameters;
using testing::filled_nhwc;

// A narrow ResNet-18 on images of 32 x 32.
struct Network {
  Network(Context& c, BackboneConfig config) : context(c), store(c), net(store, narrow(std::move(config))) {
    store.allocate();
    fill_parameters(store);
  }
  static BackboneConfig narrow(BackboneConfig config) {
    config.base_channels = 4;
    return config;
  }
  std::vector<Var> run(Tape& tape) {
    return net(tape, tape.constant(context.upload<float>(filled_nhwc("image", 2, 3, 32, 32, -2, 2), {2, 32, 32, 3})));
  }
  void train_once() {
    Tape tape(context);
    const std::vector<Var> levels = run(tape);
    const Var last = levels.back();
    if (last.requires_grad()) {
      const View<float> gradient = tape.grad_of(last).grad;
      std::fill(gradient.span().begin(), gradient.span().end(), 1.0f);
    }
    tape.backward();
  }
  [[nodiscard]] std::vector<float> value(const std::string& name) {
    return context.download<float>(store.find(name)->node.value);
  }
  // Names of the buffers that `step` changed.
  template <class Step>
  std::vector<std::string> changed_by(Step&& step) {
    std::vector<std::vector<float>> before;
    for (const Parameter& p : store.all()) before.push_back(value(p.name));
    step();
    std::vector<std::string> names;
    size_t i = 0;
    for (const Parameter& p : store.all())
      if (value(p.name) != before[i++]) names.push_back(p.name);
    return names;
  }

  Context& context;
  ParameterStore store;
  ResNet net;
};

class ResNets : public ::testing::Test {
 protected:
  Context context{1, ConvolutionLibrary::plain};
};

int stage_of(const std::string& name) {
  const size_t at = name.find("layer");
  return at == std::string::npos ? 0 : name[at + 5] - '0';
}

TEST_F(ResNets, ChannelsAndStrides) {
  struct Case {
    int depth;
    std::array<int, 4> channels;
  };
  for (const auto& [depth, channels] :
       {Case{18, {4, 8, 16, 32}}, Case{34, {4, 8, 16, 32}}, Case{50, {16, 32, 64, 128}}}) {
    Network network(context, {.depth = depth});
    EXPECT_EQ(network.net.channels(), channels);
    Tape tape(context, Tape::Mode::shapes);
    const auto levels = network.net(tape, tape.make({2, 64, 96, 3}, false));
    for (size_t l = 0; l < 4; ++l) EXPECT_EQ(levels[l].shape(), (Shape{2, 16 >> l, 24 >> l, channels[l]}));
  }
}

TEST_F(ResNets, FrozenStagesAreConstants) {
  for (int frozen = -1; frozen <= 4; ++frozen) {
    SCOPED_TRACE(frozen);
    Network network(context, {.depth = 18, .frozen_stages = frozen});
    for (const Parameter& p : network.store.all()) {
      if (p.buffer) continue;
      EXPECT_EQ(p.trainable, frozen < 0 || stage_of(p.name) > frozen) << p.name;
    }
    network.train_once();
    for (const Parameter& p : network.store.all()) {
      EXPECT_EQ(p.node.grad_written, p.trainable) << p.name;
      EXPECT_EQ(p.node.grad.empty(), !p.trainable) << p.name;
    }
  }
}

TEST_F(ResNets, NormsMayBeFrozenAlone) {
  Network network(context, {.depth = 18, .frozen_stages = 0, .norm_trainable = false});
  for (const Parameter& p : network.store.all()) {
    if (p.buffer) continue;
    const bool norm = p.role == Role::norm_scale || p.role == Role::norm_shift;
    EXPECT_EQ(p.trainable, stage_of(p.name) > 0 && !norm) << p.name;
  }
  network.train_once();
}

TEST_F(ResNets, StoredStatisticsStayWithNormEval) {
  Network network(context, {.depth = 18, .frozen_stages = -1, .norm_eval = true});
  EXPECT_TRUE(network.changed_by([&] { network.train_once(); }).empty());
}

TEST_F(ResNets, BatchStatisticsAreLearnedInTrainedStagesOnly) {
  for (const int frozen : {-1, 0, 2}) {
    SCOPED_TRACE(frozen);
    Network network(context, {.depth = 18, .frozen_stages = frozen, .norm_eval = false});
    const auto changed = network.changed_by([&] { network.train_once(); });
    std::vector<std::string> expected;
    for (const Parameter& p : network.store.all())
      if (p.buffer && (frozen < 0 || stage_of(p.name) > frozen)) expected.push_back(p.name);
    EXPECT_EQ(changed, expected);
    EXPECT_TRUE(network
                    .changed_by([&] {
                      Tape tape(context, Tape::Mode::inference);
                      (void)network.run(tape);
                    })
                    .empty());
  }
}

// Inference after training with batch statistics uses the stored ones: the same output for the same image, whatever
// else is in the batch.
TEST_F(ResNets, InferenceDoesNotDependOnTheBatch) {
  Network network(context, {.depth = 18, .frozen_stages = -1, .norm_eval = false});
  const std::vector<float> images = filled_nhwc("image", 2, 3, 32, 32, -2, 2);
  const auto features = [&](int64_t N) {
    Tape tape(context, Tape::Mode::inference);
    const auto first = std::span(images).first(static_cast<size_t>(N * 32 * 32 * 3));
    return context.download<float>(
        network.net(tape, tape.constant(context.upload<float>(first, {N, 32, 32, 3}))).back().node().value);
  };
  const std::vector<float> one = features(1), two = features(2);
  EXPECT_EQ(one, std::vector<float>(two.begin(), two.begin() + static_cast<int64_t>(one.size())));
}

TEST_F(ResNets, BlocksMayStartAsTheirShortcut) {
  for (const bool zero : {true, false}) {
    Network network(context, {.depth = 18, .zero_init_residual = zero});
    network.store.initialize(1);
    for (const Parameter& p : network.store.all())
      if (p.name.ends_with("bn2.weight")) {
        EXPECT_EQ(network.value(p.name)[0], zero ? 0.0f : 1.0f) << p.name;
      }
    EXPECT_EQ(network.value("backbone.layer1.0.bn1.weight")[0], 1.0f);
    EXPECT_EQ(network.value("backbone.layer2.0.downsample.1.weight")[0], 1.0f);
    EXPECT_EQ(network.value("backbone.layer2.0.bn1.running_var")[0], 1.0f);
    EXPECT_EQ(network.value("backbone.layer2.0.bn1.running_mean")[0], 0.0f);
  }
}

TEST_F(ResNets, ErrorsNameTheKey) {
  const auto failure = [&](const BackboneConfig& config) {
    return message_of<std::invalid_argument>([&] {
      ParameterStore store(context);
      const ResNet net(store, config);
    });
  };
  for (const int depth : {0, 20, 152, -50}) EXPECT_HAS(failure({.depth = depth}), "model.backbone.depth") << depth;
  EXPECT_HAS(failure({.depth = 20}), "18, 34, 50, 101");
  for (const int frozen : {-2, 5}) EXPECT_HAS(failure({.frozen_stages = frozen}), "model.backbone.frozen_stages");
  EXPECT_HAS(failure({.base_channels = 0}), "model.backbone.base_channels");
}

// What torchvision.models.resnet18().state_dict() holds, under its names.
TEST_F(ResNets, ATorchvisionFileLoads) {
  for (const int depth : {18, 50}) {
    Network source(context, {.depth = depth}), target(context, {.depth = depth});
    target.store.initialize(3);
    SafetensorsFile saved, file;
    save_weights(source.store, saved);
    for (const auto& [name, tensor] : saved.tensors) {
      const std::string bare = name.substr(std::string("backbone.").size());
      file.tensors[bare] = tensor;
      if (bare.ends_with("running_var"))
        file.tensors[bare.substr(0, bare.rfind('.')) + ".num_batches_tracked"] = make_file_scalar<int64_t>(0);
    }
    file.tensors["fc.weight"] = make_file_tensor(std::vector<float>(32), {1, 32});
    file.tensors["fc.bias"] = make_file_tensor(std::vector<float>(1), {1});
    ASSERT_TRUE(file.tensors.contains("layer2.0.downsample.1.num_batches_tracked"));
    ASSERT_EQ(scope_of(file), WeightScope::backbone);
    const WeightReport report = load_weights(target.store, file, "resnet", WeightScope::backbone);
    EXPECT_EQ(report.matched.size(), saved.tensors.size());
    SafetensorsFile again;
    save_weights(target.store, again);
    EXPECT_EQ(again.tensors, saved.tensors);
  }
  // Another depth is no silent partial load.
  Network shallow(context, {.depth = 18}), deeper(context, {.depth = 34});
  SafetensorsFile file;
  save_weights(shallow.store, file);
  EXPECT_THROW((void)load_weights(deeper.store, file, "resnet18", WeightScope::backbone), std::runtime_error);
}

}  // namespace
}  // namespace gradlibra
