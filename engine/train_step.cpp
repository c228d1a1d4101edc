// SPDX-License-Identifier: MIT
#include "engine/train_step.h"

#include <cmath>

#include "kernels/reduce.h"
#include "models/losses/classification_loss.h"
#include "runtime/device/profiling.h"

namespace gradlibra {

namespace {

// Doubles that are recorded of a detector's classes.
int64_t record_size(const Classifier& classifier) {
  if (classifier.weight == nullptr || classifier.loss == nullptr || classifier.loss->class_gradients() == nullptr)
    return 0;
  return classifier.loss->class_gradients()->size() + classifier.weight->node.value.dim(0);
}

}  // namespace

TrainStep::TrainStep(Detector& detector, Optimizer& optimizer, Communicator& communicator, Options options)
    : detector_(detector),
      optimizer_(optimizer),
      communicator_(communicator),
      context_(detector.context()),
      options_(options),
      buckets_(detector.parameters(), communicator, options.buckets),
      prefetch_(context_.make_prefetch()),
      readback_(context_.make_readback()) {}

TrainStep::~TrainStep() {
  try {
    context_.synchronize();
  } catch (const std::exception&) {
    // What went wrong is thrown where results are waited for.
  }
}

void TrainStep::stage(const Batch& batch) {
  const Shape pixels = batch_.images.pixels.shape(), boxes = batch_.truth.boxes.shape();
  const std::vector<Prefetch::Item> items = prepare(context_, batch, batch_);
  if (batch_.images.pixels.shape() != pixels ||
      batch_.truth.boxes.shape() != boxes) {  // other memory than was recorded
    graph_ = nullptr;
    eager_steps_ = 0;
  }
  prefetch_->stage(items);
}

// Forward to update, without a look from the host: the same calls whether they run or are recorded.
void TrainStep::run() {
  Tape tape(context_);
  const bool alone = communicator_.world_size() == 1;
  if (!alone) {
    tape.on_grad_ready([&](const Node& node) { buckets_.ready(node); });
    if (options_.sync_norm) tape.share_statistics([&](View<double> sums) { communicator_.sum(sums); });
  }
  const Var input = detector_.normalize(tape, batch_.images);
  const std::vector<LossTerm> terms =
      profiled("forward", [&] { return detector_.loss(tape, input, batch_.truth, communicator_); });
  profiled("backward", [&] {
    tape.backward();
    buckets_.finish();
  });
  const Tensor increments = detector_.increments();
  const auto count = static_cast<int64_t>(terms.size()), gained = increments.empty() ? 0 : increments.size();
  const Classifier classifier = detector_.classifier();
  if (report_.empty()) {
    for (const LossTerm& term : terms) names_.push_back(term.name);
    sums_ = alone ? 1 : 1 + count;
    records_ = sums_ + count + gained;
    report_ = context_.zeros({records_ + record_size(classifier)}, DType::f64);
  }
  double* const report = report_.view<double>().data();
  const auto place = [&](int64_t at, int64_t size) { return Tensor::borrow(report + at, {size}); };
  Tensor norm = place(0, 1), losses = place(sums_, count), state = place(sums_ + count, gained);
  for (int64_t i = 0; i < count; ++i) {
    Tensor to = place(sums_ + i, 1);
    context_.copy(terms[static_cast<size_t>(i)].value, to);
  }
  if (gained > 0) context_.copy(increments, state);
  if (!alone) {
    Tensor own = place(1, count);
    context_.copy(losses, own);
  }
  // The sum of the losses is also the flag by which all ranks decide alike: it is finite only if the losses of every
  // rank are.
  communicator_.sum(View<double>(report + sums_, {count + gained}));
  profiled("update", [&] { optimizer_.update(losses.view<double>()); });
  if (options_.average != nullptr) options_.average->update();
  detector_.commit(gained > 0 ? std::as_const(state).view<double>() : View<const double>(), optimizer_.grad_scale());
  record_classes(classifier, {report + records_, {record_size(classifier)}});
  context_.copy(optimizer_.sum_squares(), norm);
}

void TrainStep::record_classes(const Classifier& classifier, View<double> to) {
  if (to.size() == 0) return;
  const Tensor& gradients = *classifier.loss->class_gradients();
  const Tensor& weight = classifier.weight->node.value;
  const int64_t channels = weight.dim(0);
  Tensor place = Tensor::borrow(to.data(), gradients.shape());
  context_.copy(gradients, place);
  context_.run([&](auto& device) {
    kernels::sum_row_squares(device, weight.view<float>({channels, weight.size() / channels}),
                             {to.data() + gradients.size(), {channels}});
  });
}

void TrainStep::enqueue(double lr) {
  prefetch_->deliver();
  optimizer_.set_lr(lr);
  if (options_.graph && graph_ == nullptr && eager_steps_ == kEagerSteps) graph_ = context_.capture([&] { run(); });
  if (graph_ != nullptr) {
    graph_->launch();
  } else {
    run();
    if (!context_.on_host()) ++eager_steps_;
  }
  readback_->start(report_);
}

TrainStep::Result TrainStep::wait() {
  const std::vector<double> values = readback_->wait();
  Result result;
  for (size_t i = 0; i < names_.size(); ++i) {
    const double loss = values[static_cast<size_t>(sums_) + i];
    result.losses.emplace_back(names_[i], loss);
    result.total += loss;
    result.own_total += values[1 + i];
  }
  result.grad_norm = std::sqrt(values[0]);
  if (const Classifier classifier = detector_.classifier(); record_size(classifier) > 0) {
    const auto begin = values.begin() + records_, middle = begin + classifier.loss->class_gradients()->size();
    result.class_gradients.assign(begin, middle);
    result.classifier_squares.assign(middle, values.end());
  }
  return result;
}

}  // namespace gradlibra
