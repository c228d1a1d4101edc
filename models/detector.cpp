// SPDX-License-Identifier: MIT
#include "models/detector.h"

#include <map>
#include <stdexcept>

#include "kernels/image_normalize.h"
#include "models/heads/make_head.h"
#include "models/heads/select_detections.h"
#include "models/necks/make_neck.h"
#include "runtime/device/profiling.h"
#include "runtime/training/weights.h"

namespace gradlibra {

namespace {

constexpr const char* kStem = "backbone.stem";
constexpr char kSampling = '#';  // behind the name of a layer: ConvLayer::deformable

// "backbone.layer2.0.conv1" belongs to "backbone.layer2", "neck.fpn_convs.1.conv" to "neck.fpn_convs"; the stem's two
// layers share a name of their own.
std::string part_of(const std::string& layer) {
  const size_t first = layer.find('.');
  const size_t second = layer.find('.', first + 1);
  std::string part = layer.substr(0, second);
  if (part == "backbone.conv1" || part == "backbone.bn1") return kStem;
  const size_t sampling = layer.find(kSampling);
  if (sampling != std::string::npos && second != std::string::npos) part += layer.substr(sampling);
  return part;
}

}  // namespace

Detector::Detector(Context& context, const ModelConfig& config, ClassInfo classes)
    : Detector(context, config, classes, [&](ParameterStore& store, const Pyramid& pyramid) {
        return make_head(config, store, pyramid, classes);
      }) {}

Detector::Detector(Context& context, const ModelConfig& config, ClassInfo classes, const HeadMaker& make_head)
    : context_(context),
      config_(config),
      classes_(std::move(classes)),
      parameters_(std::make_unique<ParameterStore>(context)) {
  if (classes_.count() < 1) throw std::invalid_argument("a detector needs at least one class");
  if (config.pixel_mean.size() != 3 || config.pixel_std.size() != 3)
    throw std::invalid_argument("model.pixel_mean and model.pixel_std hold three values each");
  const bool classifier_only = config.loss.trains_classifier_only();
  BackboneConfig backbone = config.backbone;
  if (classifier_only) backbone.norm_eval = true;  // running statistics are of what does not train any more
  backbone_ = std::make_unique<ResNet>(*parameters_, backbone);
  neck_ = make_neck(config, *parameters_, backbone_->channels());
  parameters_->enter(Section::head);
  head_parameters_.first = parameters_->all().size();
  head_ = make_head(*parameters_, neck_->pyramid());
  head_parameters_.last = parameters_->all().size();
  if (classifier_only) parameters_->train_only([](const Parameter& p) { return p.classifier; });
  parameters_->allocate();
}

Var Detector::normalize(Tape& tape, const ImageBatch& images) const {
  const int64_t N = images.pixels.dim(0), H = images.pixels.dim(1), W = images.pixels.dim(2);
  kernels::ImageNormalize options{.bgr = config_.pixel_order == "bgr"};
  for (size_t c = 0; c < 3; ++c) {
    options.mean[c] = static_cast<float>(config_.pixel_mean[c]);
    options.std[c] = static_cast<float>(config_.pixel_std[c]);
  }
  const Var result = tape.constant(context_.empty({N, H, W, 3}, context_.map_dtype()));
  tape.run_map(result, [&]<class T>(auto& device) {
    kernels::image_normalize<T>(device, images.pixels.view<uint8_t>(), images.orientations.view<int32_t>(),
                                images.sizes.view<int32_t>(), options, result.out<T>());
  });
  tape.note("input", result);
  return result;
}

std::vector<Var> Detector::pyramid(Tape& tape, Var input) const {
  const std::vector<Var> stages = profiled("backbone", [&] { return (*backbone_)(tape, input); });
  return profiled("neck", [&] { return (*neck_)(tape, stages); });
}

std::vector<LossTerm> Detector::loss(Tape& tape, Var input, const GroundTruth& truth,
                                     Communicator& communicator) const {
  // The pyramid's levels pass through one head, each in a branch of its own. Detection needs no memory for that.
  const auto levels = static_cast<int>(neck_->pyramid().strides.size());
  if (levels > 1 && context_.has_branches() && !parameters_->has_branch_grads())
    parameters_->share_between_branches(head_parameters_, levels);
  return head_->loss(tape, pyramid(tape, input), truth, communicator);
}

Predictions Detector::predict(Tape& tape, Var input) const { return head_->predict(tape, pyramid(tape, input)); }

std::vector<std::vector<ScoredBox>> Detector::detect(Tape& tape, Var input, std::span<const int32_t> sizes) const {
  const Predictions found = predict(tape, input);
  return select_detections(context_, found, sizes, config_.test);
}

std::vector<Detector::PartCost> Detector::costs(int64_t height, int64_t width) const {
  Tape tape(context_, Tape::Mode::shapes);
  (void)predict(tape, tape.make({1, height, width, 3}, false));
  std::vector<PartCost> parts;
  std::map<std::string, size_t> index;
  const auto part = [&](const std::string& layer) -> PartCost& {
    const std::string name = part_of(layer);
    const auto [entry, added] = index.emplace(name, parts.size());
    if (added)
      parts.push_back(
          {.part = name, .reads_image = name == kStem, .sampling = name.find(kSampling) != std::string::npos});
    return parts[entry->second];
  };
  for (const Parameter& p : std::as_const(*parameters_).all()) {
    if (p.buffer) continue;
    PartCost& cost = part(p.name.substr(0, p.name.rfind('.')));
    cost.parameters += p.node.value.size();
    cost.trainable |= p.trainable;
  }
  for (const auto& [layer, multiply_adds] : tape.costs()) part(layer).multiply_adds += multiply_adds;
  return parts;
}

}  // namespace gradlibra
