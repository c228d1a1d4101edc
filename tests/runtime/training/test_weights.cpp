// SPDX-License-Identifier: MIT
// Weights to and from files: layouts, names, and files that do not fit.
#include "runtime/training/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/messages.h"
#include "tests/support.h"

namespace gradlibra {
namespace {

using Floats = std::vector<float>;

Floats counting(int64_t size, float first) {
  Floats values(static_cast<size_t>(size));
  std::iota(values.begin(), values.end(), first);
  return values;
}

class Weights : public ::testing::Test {
 protected:
  Weights() {
    store.enter(Section::backbone);
    store.add("backbone.conv1.weight", {2, 3, 3, 2}, {}, Role::convolution_weight);
    store.add("backbone.bn1.weight", {2}, {});
    store.add_buffer("backbone.bn1.running_mean", {2}, {});
    store.enter(Section::neck);
    store.add("neck.lateral_convs.0.conv.weight", {3, 1, 1, 2}, {}, Role::convolution_weight);
    store.enter(Section::head);
    store.add("bbox_head.moment_transfer", {2}, {}, Role::other, false);
    store.allocate();
    for (Parameter& p : store.all())
      context.upload<float>(Floats(static_cast<size_t>(p.node.value.size()), -1.0f), p.node.value);
  }
  Floats value(const std::string& name) { return context.download<float>(store.find(name)->node.value); }
  // Every value is still what the constructor put there.
  void expect_untouched() {
    for (const Parameter& p : store.all())
      EXPECT_EQ(value(p.name), Floats(static_cast<size_t>(p.node.value.size()), -1.0f)) << p.name;
  }
  // The message of the error that loading gives.
  std::string failure(const SafetensorsFile& file, WeightScope scope) {
    return message_of<std::runtime_error>([&] { (void)load_weights(store, file, "given.safetensors", scope); });
  }

  static void expect_lacks(const std::string& text, const std::string& part) {
    EXPECT_EQ(text.find(part), std::string::npos) << "'" << part << "' in\n" << text;
  }

  static SafetensorsFile detector_file() {
    SafetensorsFile file;
    file.tensors["backbone.conv1.weight"] = make_file_tensor(counting(36, 0), {2, 2, 3, 3});
    file.tensors["backbone.bn1.weight"] = make_file_tensor(counting(2, 100), {2});
    file.tensors["backbone.bn1.running_mean"] = make_file_tensor(counting(2, 200), {2});
    file.tensors["neck.lateral_convs.0.conv.weight"] = make_file_tensor(counting(6, 300), {3, 2, 1, 1});
    file.tensors["bbox_head.moment_transfer"] = make_file_tensor(counting(2, 400), {2});
    return file;
  }
  // As torchvision saves a ResNet.
  static SafetensorsFile torchvision_file() {
    SafetensorsFile file;
    file.tensors["conv1.weight"] = make_file_tensor(counting(36, 0), {2, 2, 3, 3});
    file.tensors["bn1.weight"] = make_file_tensor(counting(2, 100), {2});
    file.tensors["bn1.running_mean"] = make_file_tensor(counting(2, 200), {2});
    file.tensors["bn1.num_batches_tracked"] = make_file_scalar<int64_t>(12);
    file.tensors["fc.weight"] = make_file_tensor(counting(20, 0), {10, 2});
    file.tensors["fc.bias"] = make_file_tensor(counting(10, 0), {10});
    return file;
  }

  Context context{1, ConvolutionLibrary::plain};
  ParameterStore store{context};
};

TEST_F(Weights, ADetectorFileLoads) {
  SafetensorsFile file = detector_file();
  file.tensors["backbone.bn1.num_batches_tracked"] = make_file_scalar<int64_t>(12);
  EXPECT_EQ(scope_of(file), WeightScope::detector);
  const WeightReport report = load_weights(store, file, "f", WeightScope::detector);
  EXPECT_EQ(report.matched.size(), 5u);
  EXPECT_EQ(report.ignored, std::vector<std::string>{"backbone.bn1.num_batches_tracked"});
  EXPECT_TRUE(report.missing.empty() && report.unexpected.empty() && report.mismatched.empty());
  expect_mentions(report.to_string(), {"matched: 5", "missing from the file: 0"});
  EXPECT_EQ(value("backbone.bn1.running_mean"), (Floats{200, 201}));
  EXPECT_EQ(value("bbox_head.moment_transfer"), (Floats{400, 401}));
}

TEST_F(Weights, ConvolutionsAreTurnedFromOihw) {
  (void)load_weights(store, detector_file(), "f", WeightScope::detector);
  const Floats weight = value("backbone.conv1.weight");
  for (size_t o = 0; o < 2; ++o)
    for (size_t i = 0; i < 2; ++i)
      for (size_t r = 0; r < 3; ++r)
        for (size_t s = 0; s < 3; ++s)
          EXPECT_EQ(weight[((o * 3 + r) * 3 + s) * 2 + i], static_cast<float>(((o * 2 + i) * 3 + r) * 3 + s));
  EXPECT_EQ(value("neck.lateral_convs.0.conv.weight"), counting(6, 300));
}

TEST_F(Weights, SavingIsTheInverseOfLoading) {
  const SafetensorsFile file = detector_file();
  (void)load_weights(store, file, "f", WeightScope::detector);
  SafetensorsFile saved;
  save_weights(store, saved);
  EXPECT_EQ(saved.tensors, file.tensors);
}

TEST_F(Weights, ATorchvisionBackboneLoads) {
  const SafetensorsFile file = torchvision_file();
  EXPECT_EQ(scope_of(file), WeightScope::backbone);
  const WeightReport report = load_weights(store, file, "resnet.safetensors", WeightScope::backbone);
  EXPECT_EQ(report.matched.size(), 3u);
  EXPECT_EQ(report.ignored.size(), 3u);
  EXPECT_EQ(value("backbone.bn1.weight"), (Floats{100, 101}));
  EXPECT_EQ(value("backbone.conv1.weight")[1], 9.0f);
  EXPECT_EQ(value("neck.lateral_convs.0.conv.weight"), Floats(6, -1.0f)) << "the rest is left alone";
}

TEST_F(Weights, ABackboneUnderItsOwnPrefixLoads) {
  SafetensorsFile file = detector_file();
  file.tensors.erase("neck.lateral_convs.0.conv.weight");
  file.tensors.erase("bbox_head.moment_transfer");
  EXPECT_EQ(scope_of(file), WeightScope::backbone);
  EXPECT_EQ(load_weights(store, file, "f", WeightScope::backbone).matched.size(), 3u);
}

TEST_F(Weights, AMissingTensorIsAnError) {
  SafetensorsFile file = torchvision_file();
  file.tensors.erase("bn1.running_mean");
  expect_mentions(failure(file, WeightScope::backbone),
                  {"given.safetensors", "nothing was loaded", "missing from the file: 1", "backbone.bn1.running_mean",
                   "model.backbone.depth"});
  expect_untouched();
  SafetensorsFile detector = detector_file();
  detector.tensors.erase("bbox_head.moment_transfer");
  expect_mentions(failure(detector, WeightScope::detector), {"bbox_head.moment_transfer"});
  expect_untouched();
}

TEST_F(Weights, AnUnexpectedTensorIsAnError) {
  SafetensorsFile file = torchvision_file();
  file.tensors["layer5.0.conv1.weight"] = make_file_tensor(counting(1, 0), {1});
  expect_mentions(failure(file, WeightScope::backbone), {"unexpected in the file: 1", "layer5.0.conv1.weight"});
  expect_untouched();
  // A detector file's classifier is not an accessory.
  SafetensorsFile detector = detector_file();
  detector.tensors["fc.weight"] = make_file_tensor(counting(1, 0), {1});
  expect_mentions(failure(detector, WeightScope::detector), {"fc.weight"});
  expect_untouched();
}

TEST_F(Weights, AMisshapenTensorIsAnError) {
  SafetensorsFile file = detector_file();
  file.tensors["backbone.conv1.weight"] =
      make_file_tensor(counting(36, 0), {2, 3, 3, 2});  // the order of memory, not of files
  expect_mentions(failure(file, WeightScope::detector),
                  {"backbone.conv1.weight: file (2, 3, 3, 2), model (2, 2, 3, 3)"});
  expect_untouched();
}

TEST_F(Weights, AnIntegerTensorIsAnError) {
  SafetensorsFile file = detector_file();
  file.tensors["neck.lateral_convs.0.conv.weight"] = make_file_tensor(std::vector<int64_t>(6, 1), {3, 2, 1, 1});
  expect_mentions(failure(file, WeightScope::detector), {"neck.lateral_convs.0.conv.weight: file I64, model F32"});
  expect_untouched();
}

TEST_F(Weights, ATensorUnderTwoNamesIsAnError) {
  SafetensorsFile file = torchvision_file();
  file.tensors["backbone.conv1.weight"] = make_file_tensor(counting(36, 7), {2, 2, 3, 3});
  expect_mentions(failure(file, WeightScope::backbone), {"unexpected in the file: 1", "conv1.weight"});
  expect_untouched();
}

TEST_F(Weights, AnEmptyFileIsAnError) {
  expect_mentions(failure({}, WeightScope::backbone), {"matched: 0"});
  expect_untouched();
}

TEST_F(Weights, AllProblemsAreReportedAtOnce) {
  SafetensorsFile file = torchvision_file();
  file.tensors.erase("bn1.weight");
  file.tensors["conv1.weight"] = make_file_tensor(counting(4, 0), {4});
  for (int i = 0; i < 20; ++i) file.tensors["extra" + std::to_string(i)] = make_file_tensor(counting(1, 0), {1});
  expect_mentions(failure(file, WeightScope::backbone), {"missing from the file: 1", "unexpected in the file: 20",
                                                         "and 12 more", "of another shape or type: 1"});
}

TEST_F(Weights, DoublesAndHalvesLoad) {
  SafetensorsFile file = detector_file();
  const auto sixteen = [](FileDType dtype, const std::vector<uint16_t>& values) {
    FileTensor tensor{dtype, {static_cast<int64_t>(values.size())}, {}};
    for (const uint16_t v : values) {
      tensor.bytes.push_back(static_cast<std::byte>(v & 255));
      tensor.bytes.push_back(static_cast<std::byte>(v >> 8));
    }
    return tensor;
  };
  file.tensors["backbone.bn1.weight"] = make_file_tensor(std::vector<double>{0.5, 0.1}, {2});
  file.tensors["backbone.bn1.running_mean"] = sixteen(FileDType::f16, {0x3555, 0xC000});
  file.tensors["bbox_head.moment_transfer"] = sixteen(FileDType::bf16, {0x3EAB, 0xC000});
  (void)load_weights(store, file, "f", WeightScope::detector);
  EXPECT_EQ(value("backbone.bn1.weight"), (Floats{0.5f, 0.1f}));
  EXPECT_EQ(value("backbone.bn1.running_mean"), (Floats{0.333251953125f, -2}));
  EXPECT_EQ(value("bbox_head.moment_transfer"), (Floats{0.333984375f, -2}));
}

TEST_F(Weights, VelocitiesMakeARoundTrip) {
  float first = 0;
  for (Parameter& p : store.all())
    if (p.trainable) {
      context.upload<float>(counting(p.velocity.size(), first), p.velocity);
      first += 1000;
    }
  SafetensorsFile file;
  save_velocities(store, file);
  EXPECT_EQ(file.tensors.size(), 3u);  // neither the frozen one nor the running mean has any
  const FileTensor& conv = file.tensors.at("optim.momentum.backbone.conv1.weight");
  EXPECT_EQ(conv.shape, (std::vector<int64_t>{2, 2, 3, 3}));
  EXPECT_EQ(conv.to_floats()[1], 2.0f);  // the neighbour in the row: two channels further in memory
  const Floats before = context.download<float>(store.flat_velocities());
  context.zero(store.flat_velocities());
  load_velocities(store, file, "f");
  EXPECT_EQ(context.download<float>(store.flat_velocities()), before);

  SafetensorsFile incomplete = file;
  incomplete.tensors.erase("optim.momentum.backbone.bn1.weight");
  EXPECT_THROW(load_velocities(store, incomplete, "f"), std::runtime_error);
  incomplete.tensors["optim.momentum.backbone.bn1.weight"] = make_file_tensor(counting(3, 0), {3});
  EXPECT_THROW(load_velocities(store, incomplete, "f"), std::runtime_error);
}

TEST_F(Weights, AFixedTrainingStateMustBeTheFiles) {
  Tensor groups = context.upload<double>(std::vector<double>{1, 2, 1}, {3});
  const std::vector<TrainingState> states{{.name = "groups", .values = &groups, .fixed = true}};
  SafetensorsFile file;
  save_state(context, states, file);
  load_state(context, states, file, "f");
  check_fixed_state(context, states, file, "f");
  context.upload<double>(std::vector<double>{1, 1, 1}, groups);
  for (const auto check : {load_state, check_fixed_state}) {
    try {
      check(context, states, file, "f");
      ADD_FAILURE();
    } catch (const std::runtime_error& error) {
      EXPECT_NE(std::string(error.what()).find("f: train.state.groups has 2.0"), std::string::npos) << error.what();
    }
  }
  EXPECT_EQ(context.download<double>(groups), (std::vector<double>{1, 1, 1})) << "not overwritten";
  EXPECT_THROW(check_fixed_state(context, states, {}, "f"), std::runtime_error);
}

TEST_F(Weights, TrainingStatesMakeARoundTrip) {
  Tensor sums = context.empty({2, 3}, DType::f64), count = context.empty({}, DType::f64);
  const std::vector<double> values{1, 1e300, -0.1, 4, 5, 1.0 / 3}, one{7};
  context.upload<double>(values, sums);
  context.upload<double>(one, count);
  const std::vector<TrainingState> states{{"loss_cls.gradients", &sums}, {"loss_cls.count", &count}};
  SafetensorsFile file;
  save_state(context, states, file);
  EXPECT_EQ(file.tensors.at("train.state.loss_cls.gradients").shape, (std::vector<int64_t>{2, 3}));
  context.zero(sums);
  context.zero(count);
  load_state(context, states, file, "f");
  EXPECT_EQ(context.download<double>(sums), values);
  EXPECT_EQ(context.download<double>(count), one);

  // A checkpoint of another loss: too little, too much, another number of classes.
  EXPECT_THROW(load_state(context, {}, file, "f"), std::runtime_error);
  SafetensorsFile other = file;
  other.tensors.erase("train.state.loss_cls.count");
  EXPECT_THROW(load_state(context, states, other, "f"), std::runtime_error);
  other.tensors["train.state.loss_cls.count"] = make_file_scalar<float>(7);
  EXPECT_THROW(load_state(context, states, other, "f"), std::runtime_error);
  other = file;
  other.tensors["train.state.loss_cls.gradients"] = make_file_tensor(std::vector<double>(6), {3, 2});
  EXPECT_THROW(load_state(context, states, other, "f"), std::runtime_error);

  // What only tells about a training starts anew where it is missing or of an older shape.
  for (const bool older : {false, true}) {
    other = file;
    if (older) other.tensors["train.state.diagnostics.pulls"] = make_file_tensor(std::vector<double>{1, 2, 3}, {3});
    Tensor own = context.empty({2, 3}, DType::f64);
    context.upload<double>(values, own);
    load_state(context, {{states[0].name, &sums}, states[1], {"diagnostics.pulls", &own}}, other, "f");
    EXPECT_EQ(context.download<double>(own), std::vector<double>(6, 0));
    EXPECT_EQ(context.download<double>(sums), values);
  }
}

// A training checkpoint is a detector file with more in it.
TEST_F(Weights, ACheckpointLoadsAsWeights) {
  SafetensorsFile file;
  save_weights(store, file);
  save_velocities(store, file);
  file.tensors["train.step"] = make_file_scalar<int64_t>(3);
  EXPECT_EQ(scope_of(file), WeightScope::detector);
  EXPECT_EQ(load_weights(store, file, "f", WeightScope::detector).matched.size(), 5u);
}

TEST_F(Weights, ValuesThatAreNotFiniteAreNamed) {
  for (const float bad : {testing::kNaN, testing::kInfinity}) {
    SafetensorsFile file = detector_file();
    file.tensors["backbone.bn1.running_mean"] = make_file_tensor(Floats{0, bad}, {2});
    const std::string message = failure(file, WeightScope::detector);
    expect_mentions(message, {"given.safetensors", "backbone.bn1.running_mean: values that are not finite"});
    expect_lacks(message, "other classes");
    expect_untouched();
  }
}

// Of mmpretrain, with its head, and of MMDetection's way to write a backbone alone.
TEST_F(Weights, TheHeadOfAClassifierIsIgnored) {
  SafetensorsFile file;
  for (const auto& [name, tensor] : torchvision_file().tensors)
    if (!name.starts_with("fc.")) file.tensors["backbone." + name] = tensor;
  file.tensors["head.fc.weight"] = make_file_tensor(counting(20, 0), {10, 2});
  file.tensors["head.fc.bias"] = make_file_tensor(counting(10, 0), {10});
  EXPECT_EQ(scope_of(file), WeightScope::backbone);
  const WeightReport report = load_weights(store, file, "f", WeightScope::backbone);
  EXPECT_EQ(report.matched.size(), 3u);
  EXPECT_EQ(report.ignored.size(), 3u);  // with the counter
}

}  // namespace
}  // namespace gradlibra
