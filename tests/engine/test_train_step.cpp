// SPDX-License-Identifier: MIT
// The whole training step on a device, built twice: for the emulator, where every op goes through its CUDA kernel,
// plain convolutions included, and for a GPU. Compared with the host's step, and kernel by kernel with the graph that
// was recorded of it.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "engine/train_step.h"
#include "runtime/base/random.h"

namespace gradlibra {
namespace {

constexpr int64_t kImages = 2, kSide = 32, kMaxBoxes = 5;
constexpr int kClasses = 3;
constexpr int kSteps = 5;  // three run kernel by kernel before the graph is recorded

ModelConfig tiny_model(const std::string& detector = "reppoints") {
  ModelConfig model;
  model.detector = detector;
  model.backbone = {
      .depth = 18, .base_channels = 4, .frozen_stages = 1, .norm_eval = true, .zero_init_residual = false};
  model.neck = {.out_channels = 8, .num_outs = 4, .norm = "group", .norm_groups = 4};
  model.head = {.feat_channels = 8, .point_channels = 8, .stacked_convs = 1, .norm = "group", .norm_groups = 2};
  model.fcos = {.feat_channels = 8, .stacked_convs = 1, .norm_groups = 2, .level_bounds = {8, 12, 16}};
  model.atss = {.feat_channels = 8, .stacked_convs = 1, .norm_groups = 2, .anchor_scale = 2};
  model.yolof = {.encoder = {.channels = 8, .block_channels = 4, .dilations = {2}},
                 .cls_convs = 1,
                 .reg_convs = 1,
                 .anchor_scales = {0.25, 0.5, 1},
                 .pos_ignore_iou = 0.01};
  model.loss.record_gradients = true;
  return model;
}

// YOLOF's batch norms see the cells of one level of stride 32: four an image.
int64_t side_of(const ModelConfig& model) { return model.detector == "yolof" ? 2 * kSide : kSide; }

Batch random_batch(uint32_t seed, int64_t side = kSide) {
  std::mt19937 rng(seed);
  const auto below = [&](uint32_t n) { return static_cast<float>(rng() % n); };
  Batch batch;
  batch.N = kImages, batch.H = side, batch.W = side, batch.max_boxes = kMaxBoxes;
  batch.images.resize(static_cast<size_t>(kImages * side * side * 3));
  for (uint8_t& v : batch.images) v = static_cast<uint8_t>(rng());
  batch.orientations = {0, 5};
  batch.sizes.assign(2 * kImages, static_cast<int32_t>(side));
  batch.gt_boxes.assign(kImages * kMaxBoxes * 4, 0);
  batch.gt_labels.assign(kImages * kMaxBoxes, -1);
  batch.gt_counts = {3, static_cast<int32_t>(seed % 2)};  // an image without boxes now and then
  for (int64_t n = 0; n < kImages; ++n)
    for (int64_t m = 0; m < batch.gt_counts[static_cast<size_t>(n)]; ++m) {
      const auto at = static_cast<size_t>(n * kMaxBoxes + m);
      const float x = below(16), y = below(16);
      const float box[4] = {x, y, x + 4 + below(12), y + 4 + below(12)};
      std::copy(box, box + 4, batch.gt_boxes.begin() + static_cast<int64_t>(at) * 4);
      batch.gt_labels[at] = static_cast<int32_t>(rng() % kClasses);
    }
  return batch;
}

struct Training {
  std::vector<TrainStep::Result> steps;
  std::vector<float> weights;  // after the last step
  std::vector<double> state;   // of the loss, likewise
};

// With GRADLIBRA_PRINT_BITS set, tests/same_bits.sh reads what a run came to.
void print_bits(const Training& run, const std::string& title) {
  if (std::getenv("GRADLIBRA_PRINT_BITS") == nullptr) return;
  const auto hash = [](const auto& values) {
    return static_cast<unsigned long long>(
        hash_name(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0])));
  };
  std::vector<double> numbers;
  for (const TrainStep::Result& step : run.steps) {
    for (const auto& [name, value] : step.losses) numbers.push_back(value);
    numbers.push_back(step.grad_norm);
  }
  std::printf("bits %s: losses and norms %016llx, weights %016llx\n", title.c_str(), hash(numbers), hash(run.weights));
}

Training train(Context& context, const std::string& precision, bool graph, bool parallel_levels = true,
               const ModelConfig& model = tiny_model()) {
  context.configure({.precision = precision, .parallel_levels = parallel_levels});
  Detector detector(context, model, ClassInfo{{"a", "b", "c"}, {20000, 7000, 30}});
  detector.parameters().initialize(3);
  // A sample at offset 0 lies where its slope has a step: the last bit of an offset would choose the side.
  for (Parameter& p : detector.parameters().all())
    if (p.name.ends_with("conv_offset.bias"))
      context.upload<float>(std::vector<float>(static_cast<size_t>(p.node.value.size()), 0.3F), p.node.value);
  Optimizer optimizer(detector.parameters(), {.clip_norm = 10});
  SingleProcess alone;
  TrainStep step(detector, optimizer, alone, {.graph = graph});
  Training run;
  std::vector<Tensor> later;
  for (int i = 0; i < kSteps; ++i) {
    step.stage(random_batch(static_cast<uint32_t>(i), side_of(model)));
    step.enqueue(0.01);
    if (step.uses_graph() && later.empty())  // memory of every size that is taken beside a recorded step
      for (int64_t size = 64; size <= 1 << 17; size += std::max<int64_t>(64, size / 16))
        later.push_back(context.zeros({size}));
    if (run.steps.size() + step.lag() <= static_cast<size_t>(i)) run.steps.push_back(step.wait());
  }
  while (run.steps.size() < kSteps) run.steps.push_back(step.wait());
  for (const Tensor& t : later)
    EXPECT_EQ(context.download<float>(t), std::vector<float>(static_cast<size_t>(t.size()), 0.0f))
        << "overwritten by a replay";
  for (const Parameter& p : detector.parameters().all()) {
    const std::vector<float> values = context.download<float>(p.node.value);
    run.weights.insert(run.weights.end(), values.begin(), values.end());
  }
  for (const TrainingState& state : detector.state()) {
    const std::vector<double> values = context.download<double>(*state.values);
    run.state.insert(run.state.end(), values.begin(), values.end());
  }
  if (model.loss.type != "grad_libra") return run;
  print_bits(run, std::string(context.on_host() ? "host " : "device ") + precision + (graph ? " graph" : "") +
                      (parallel_levels ? "" : " in turn") +
                      (model.detector == "reppoints" ? "" : " " + model.detector));
  return run;
}

// Null where there is none.
std::unique_ptr<Context> make_device() {
  try {
    return Context::for_device("cuda");
  } catch (const NoGpu&) {
    return nullptr;
  }
}

// Largest difference relative to the largest value.
double deviation(const std::vector<float>& got, const std::vector<float>& want) {
  double largest = 0, difference = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(want[i])));
    difference = std::max(difference, std::abs(static_cast<double>(got[i]) - want[i]));
    if (std::isnan(got[i])) return INFINITY;
  }
  return difference / largest;
}

void expect_near(const Training& got, const Training& want, double tolerance) {
  for (int i = 0; i < kSteps; ++i) {
    const auto &g = got.steps[static_cast<size_t>(i)], &w = want.steps[static_cast<size_t>(i)];
    ASSERT_EQ(g.losses.size(), w.losses.size());
    ASSERT_GE(g.losses.size(), 2u);
    for (size_t t = 0; t < g.losses.size(); ++t) {
      EXPECT_EQ(g.losses[t].first, w.losses[t].first);
      EXPECT_NEAR(g.losses[t].second, w.losses[t].second, tolerance * (1 + std::abs(w.losses[t].second)))
          << "step " << i << ", " << g.losses[t].first;
    }
    EXPECT_NEAR(g.grad_norm, w.grad_norm, 10 * tolerance * w.grad_norm) << "step " << i;
    ASSERT_EQ(g.class_gradients.size(), 6u * kClasses + 1);
    // One of each logit: as many as the loss has.
    ASSERT_EQ(g.classifier_squares.size(), w.classifier_squares.size());
    ASSERT_GE(g.classifier_squares.size(), size_t{kClasses});
    EXPECT_EQ(w.class_gradients[4 * kClasses], i + 1);
    for (size_t j = 0; j < g.class_gradients.size(); ++j)
      EXPECT_NEAR(g.class_gradients[j], w.class_gradients[j], 10 * tolerance * (1e-3 + w.class_gradients[j]))
          << "step " << i << ", " << j;
    for (size_t c = 0; c < g.classifier_squares.size(); ++c)
      EXPECT_NEAR(g.classifier_squares[c], w.classifier_squares[c], 10 * tolerance * w.classifier_squares[c]);
  }
  EXPECT_LT(deviation(got.weights, want.weights), tolerance);
}

void expect_same_bits(const Training& got, const Training& want) {
  for (size_t i = 0; i < kSteps; ++i) {
    EXPECT_EQ(got.steps[i].losses, want.steps[i].losses) << "step " << i;
    EXPECT_EQ(got.steps[i].grad_norm, want.steps[i].grad_norm) << "step " << i;
    EXPECT_EQ(got.steps[i].class_gradients, want.steps[i].class_gradients) << "step " << i;
    EXPECT_EQ(got.steps[i].classifier_squares, want.steps[i].classifier_squares) << "step " << i;
  }
  ASSERT_EQ(got.weights.size(), want.weights.size());
  size_t different = 0;
  for (size_t i = 0; i < want.weights.size(); ++i) different += got.weights[i] != want.weights[i];
  EXPECT_EQ(different, 0u);
}

class TrainStepOnDevice : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Precisions, TrainStepOnDevice, ::testing::Values("fp32", "bf16"),
                         [](const auto& precision) { return std::string(precision.param); });

TEST_P(TrainStepOnDevice, EqualsTheHostAndTheGraphEqualsTheKernels) {
  const bool rounded = std::string(GetParam()) == "bf16";
  const auto device = make_device();
  if (device == nullptr) GTEST_SKIP() << "no CUDA device";
  Context host(1, ConvolutionLibrary::plain);
  const Training on_host = train(host, GetParam(), true);
  ASSERT_GT(on_host.steps[0].grad_norm, 0);
  const Training eager = train(*device, GetParam(), false);
  // float32: sums in another order. bfloat16: they decide how a map is rounded, to 1 part in 256.
  expect_near(eager, on_host, rounded ? 2e-2 : 1e-4);
  const auto recorded = make_device();
  expect_same_bits(train(*recorded, GetParam(), true), eager);
}

// With every option that adds a kernel or a parameter.
ModelConfig tiny_fcos() {
  ModelConfig model = tiny_model("fcos");
  model.fcos.conv_bias = model.fcos.norm_on_bbox = model.fcos.centerness_on_reg = true;
  model.fcos.center_radius = 1.5;
  model.fcos.box_loss = "giou";
  return model;
}

TEST(TrainStepOnDevice, OtherDetectorsEqualTheHostAndTheGraphEqualsTheKernels) {
  for (const ModelConfig& model : {tiny_fcos(), tiny_model("atss"), tiny_model("yolof")}) {
    SCOPED_TRACE(model.detector);
    const auto device = make_device(), recorded = make_device();
    if (device == nullptr) GTEST_SKIP() << "no CUDA device";
    Context host(1, ConvolutionLibrary::plain);
    const Training on_host = train(host, "fp32", true, true, model);
    double of_boxes = 0;  // ATSS finds no positives in the first batch
    for (const TrainStep::Result& one : on_host.steps) of_boxes += one.losses[1].second;
    ASSERT_GT(of_boxes, 0);
    const Training eager = train(*device, "fp32", false, true, model);
    expect_near(eager, on_host, 1e-4);
    expect_same_bits(train(*recorded, "fp32", true, true, model), eager);
  }
}

// What else of a detector has kernels of its own, on little else: FCOS with modulated towers, RepPoints on grids whose
// first stage learns by overlap.
std::vector<ModelConfig> tiny_variants() {
  std::vector<ModelConfig> models;
  for (const char* detector : {"fcos", "reppoints"}) {
    ModelConfig& model = models.emplace_back(tiny_model(detector));
    model.backbone.base_channels = 2;
    model.backbone.frozen_stages = 4;
    model.neck.num_outs = 3;
    model.fcos.level_bounds = {8, 16};
    model.fcos.dcn_on_last_conv = true;
    model.head.transform = "minmax";
    model.head.use_grid_points = true;
    model.head.init_assigner = "max_iou";
  }
  return models;
}

TEST_P(TrainStepOnDevice, VariantsOfOtherDetectorsRecordedEqualTheHost) {
  const std::string precision = GetParam();
  for (const ModelConfig& model : tiny_variants()) {
    SCOPED_TRACE(model.detector);
    if (precision == "bf16" && model.detector == "reppoints") continue;  // its grids are float in any precision
    const auto device = make_device();
    if (device == nullptr) GTEST_SKIP() << "no CUDA device";
    Context host(1, ConvolutionLibrary::plain);
    const Training want = train(host, precision, true, true, model);
    for (const auto& [name, value] : want.steps.front().losses) EXPECT_GT(value, 0) << name;
    expect_near(train(*device, precision, true, true, model), want, precision == "bf16" ? 2e-2 : 1e-4);
  }
}

class TrainStepOnDeviceWith : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Losses, TrainStepOnDeviceWith,
                         ::testing::Values("cross_entropy", "focal", "class_balanced", "eqlv2", "bags", "seesaw"),
                         [](const auto& loss) { return std::string(loss.param); });

// Recorded: a replay that took a loss's state from the wrong memory, or left it as it was, would part from the host.
TEST_P(TrainStepOnDeviceWith, TheRecordedStepEqualsTheHost) {
  const auto device = make_device();
  if (device == nullptr) GTEST_SKIP() << "no CUDA device";
  Context host(1, ConvolutionLibrary::plain);
  ModelConfig model = tiny_model();
  model.loss.type = GetParam();
  if (model.loss.type != "grad_libra") {  // what else there is has been compared by then
    model.backbone.base_channels = 2;
    model.backbone.frozen_stages = 4;
    model.neck.num_outs = 3;
  }
  const Training want = train(host, "fp32", true, true, model), got = train(*device, "fp32", true, true, model);
  expect_near(got, want, 1e-4);
  ASSERT_EQ(got.state.size(), want.state.size());
  for (size_t i = 0; i < want.state.size(); ++i)
    EXPECT_NEAR(got.state[i], want.state[i], 1e-3 * (1e-3 + std::abs(want.state[i]))) << i;
}

// Side by side or one after the other, the levels give the same but for the order in which the head's gradients are
// added up.
TEST(TrainStepOnDevice, ParallelLevelsEqualThoseInTurn) {
  const auto parallel = make_device(), in_turn = make_device();
  if (parallel == nullptr) GTEST_SKIP() << "no CUDA device";
  const Training want = train(*in_turn, "fp32", true, false);
  ASSERT_FALSE(in_turn->has_branches());
#ifdef GRADLIBRA_EMULATED
  const emulator::GraphShape serial = emulator::last_graph();
  EXPECT_LT(serial.longest_chain, serial.nodes);  // but for gradients of the backbone's weights
#endif
  const Training got = train(*parallel, "fp32", true, true);
  ASSERT_TRUE(parallel->has_branches());
  expect_near(got, want, 1e-5);
#ifdef GRADLIBRA_EMULATED
  // What is left in turn is the backbone, assignment, losses and update of one image size, and the longest level.
  EXPECT_LT(3 * emulator::last_graph().longest_chain, 2 * serial.longest_chain);
#endif
}

// Less precision follows the float32 run: losses and weights within what one part in 2048 of every factor (tf32) or one
// in 256 of every map (bf16) makes of them.
TEST(TrainStepOnDevice, LessPrecisionFollowsFloat) {
  Context host(1, ConvolutionLibrary::plain);
  const Training want = train(host, "fp32", false);
  for (const auto& [precision, tolerance] : {std::pair("tf32", 4e-3), std::pair("bf16", 3e-2)}) {
    SCOPED_TRACE(precision);
    Context rounded(1, ConvolutionLibrary::plain);
    const Training got = train(rounded, precision, false);
    expect_near(got, want, tolerance);
    EXPECT_NE(got.weights, want.weights);
  }
}

TEST(TrainStepOnDevice, MemoryStaysAsItIsAfterTheFirstSteps) {
  const auto context = make_device();
  if (context == nullptr) GTEST_SKIP() << "no CUDA device";
  const ModelConfig model = tiny_model();
  Detector detector(*context, model, kClasses);
  detector.parameters().initialize(3);
  Optimizer optimizer(detector.parameters(), {});
  SingleProcess alone;
  TrainStep step(detector, optimizer, alone, {.graph = true});
  int64_t after_two = 0;
  for (int i = 0; i < kSteps; ++i) {
    step.stage(random_batch(1));
    step.enqueue(0.01);
    (void)step.wait();
    if (i == 1) after_two = context->memory().bytes_reserved();
  }
  EXPECT_EQ(context->memory().bytes_reserved(), after_two);
}

}  // namespace
}  // namespace gradlibra
