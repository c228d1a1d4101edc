// SPDX-License-Identifier: MIT
// Starting from weights of another training: what fits, and what is refused.
#include "runtime/training/weights.h"
#include "tests/engine/trainer_test.h"

namespace gradlibra {
namespace {

TEST_F(TrainerTest, PretrainedWeightsFitOrAreRefused) {
  ExperimentConfig c = config();
  c.train.pretrained = (folder_ / "none.safetensors").string();
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(c, "a")); }), "none.safetensors");

  Detector other(context_, c.model, 5);
  other.parameters().initialize(77);
  SafetensorsFile backbone;  // as torchvision has it
  for (Parameter& p : other.parameters().all())
    if (p.section == Section::backbone)
      backbone.tensors[p.name.substr(9)] = to_file_tensor(context_, p.node.value, p.layout);
  backbone.tensors["fc.weight"] = make_file_tensor(std::vector<float>(64 * 10, 1), {10, 64});
  backbone.tensors["bn1.num_batches_tracked"] = make_file_scalar<int64_t>(3);
  c.train.pretrained = (folder_ / "resnet18.safetensors").string();
  write_safetensors(c.train.pretrained, backbone);
  const auto fits = trainer(c, "b");
  for (Parameter& p : fits->detector().parameters().all()) {
    if (p.section != Section::backbone) continue;
    EXPECT_TRUE(to_file_tensor(context_, p.node.value, p.layout) == backbone.tensors.at(p.name.substr(9))) << p.name;
  }

  // A detector with other classes gives its backbone alone when that is asked for, and is refused otherwise.
  Detector of_others(context_, c.model, 5);
  of_others.parameters().initialize(78);
  SafetensorsFile whole;
  save_weights(of_others.parameters(), whole);
  c.train.pretrained = (folder_ / "detector.safetensors").string();
  write_safetensors(c.train.pretrained, whole);
  std::string refused = message_of([&] { static_cast<void>(trainer(c, "other_classes")); });
  EXPECT_HAS(refused, "does not fit the model");
  EXPECT_HAS(refused, "train.pretrained_scope=no_classifier");
  // All but the classifier, which starts as it does from scratch.
  c.train.pretrained_scope = "no_classifier";
  {
    const auto tuned = trainer(c, "no_classifier");
    Detector start(context_, c.model, tuned->detector().classes());
    start.parameters().initialize(static_cast<uint64_t>(c.train.seed));
    for (Parameter& p : tuned->detector().parameters().all()) {
      const bool classifier = p.name.starts_with("bbox_head.reppoints_cls_out.");
      Parameter* own = start.parameters().find(p.name);
      EXPECT_TRUE(to_file_tensor(context_, p.node.value, p.layout) ==
                  (classifier ? to_file_tensor(context_, own->node.value, own->layout) : whole.tensors.at(p.name)))
          << p.name;
    }
  }
  c.train.pretrained_scope = "backbone";
  const auto taken = trainer(c, "backbone_alone");
  Detector fresh(context_, c.model, taken->detector().classes());
  fresh.parameters().initialize(static_cast<uint64_t>(c.train.seed));
  for (size_t i = 0; i < fresh.parameters().all().size(); ++i) {
    Parameter& p = taken->detector().parameters().all()[i];
    const FileTensor now = to_file_tensor(context_, p.node.value, p.layout);
    Parameter& before = fresh.parameters().all()[i];
    const bool of_backbone = p.section == Section::backbone;
    EXPECT_TRUE(now ==
                (of_backbone ? whole.tensors.at(p.name) : to_file_tensor(context_, before.node.value, before.layout)))
        << p.name;
  }
  c.train.pretrained_scope = "auto";
  c.train.pretrained = (folder_ / "resnet18.safetensors").string();

  const FileTensor stem = backbone.tensors.at("conv1.weight");
  backbone.tensors["conv1.weight"] = make_file_tensor(std::vector<float>(16 * 3 * 49), {16, 3, 7, 7});
  write_safetensors(c.train.pretrained, backbone);
  std::string message = message_of([&] { static_cast<void>(trainer(c, "c")); });
  EXPECT_HAS(message, "backbone.conv1.weight: file (16, 3, 7, 7), model (8, 3, 7, 7)");
  EXPECT_HAS(message, "resnet18.safetensors");
  backbone.tensors.erase("conv1.weight");
  write_safetensors(c.train.pretrained, backbone);
  message = message_of([&] { static_cast<void>(trainer(c, "c")); });
  EXPECT_HAS(message, "missing from the file: 1\n    backbone.conv1.weight");
  // Nothing in common.
  write_safetensors(c.train.pretrained, {{{"stem.weight", stem}}, {}});
  message = message_of([&] { static_cast<void>(trainer(c, "c")); });
  EXPECT_HAS(message, "matched: 0");
  EXPECT_HAS(message, "backbone.stem.weight");
}

// A checkpoint's averages detect better than the weights that it goes on from, and are what another training starts
// with.
TEST_F(TrainerTest, PretrainedWeightsAreTheMovingAverages) {
  ExperimentConfig c = config();
  c.schedule.warmup_iterations = 0;
  c.train.average_decay = 0.5;
  static_cast<void>(trainer(c, "run", false, 2)->run());
  const SafetensorsFile file = checkpoint("run", 2);
  ExperimentConfig next = config();
  next.train.pretrained = (work("run") / "checkpoints/checkpoint_2.safetensors").string();
  const auto tuned = trainer(next, "tuned");
  size_t apart = 0;
  for (Parameter& p : tuned->detector().parameters().all()) {
    const FileTensor& average = file.tensors.at("average." + p.name);
    EXPECT_TRUE(to_file_tensor(context_, p.node.value, p.layout) == average) << p.name;
    apart += !(average == file.tensors.at(p.name));
  }
  EXPECT_GT(apart, 10u);
}

TEST_F(TrainerTest, PretrainedWeightsOfADamagedCheckpointAreRefused) {
  static_cast<void>(trainer(config(), "run", false, 1)->run());
  const auto file = work("run") / "checkpoints/checkpoint_1.safetensors";
  ExperimentConfig c = config();
  c.train.pretrained = file.string();
  EXPECT_EQ(message_of([&] { static_cast<void>(trainer(c, "good")); }), "");
  std::string bytes = get(file);
  bytes[bytes.size() - 1] = static_cast<char>(bytes[bytes.size() - 1] ^ 1);
  put(file, bytes);
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(c, "bad")); }), "checkpoint_1.safetensors: damaged");
}

}  // namespace
}  // namespace gradlibra
