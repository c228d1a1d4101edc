// SPDX-License-Identifier: MIT
#include "apps/train_step.h"

#include <cmath>

#include "runtime/profiling.h"

namespace gradlibra {

TrainStep::TrainStep(Detector& detector, Optimizer& optimizer, Communicator& communicator, Options options)
    : detector_(detector),
      optimizer_(optimizer),
      communicator_(communicator),
      context_(detector.context()),
      options_(options),
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
  const Var input = detector_.normalize(tape, batch_.images);
  const std::vector<LossTerm> terms =
      in_range("forward", [&] { return detector_.loss(tape, input, batch_.truth, communicator_); });
  if (report_.empty()) {
    for (const LossTerm& term : terms) names_.push_back(term.name);
    report_ = context_.zeros({static_cast<int64_t>(terms.size()) + 1}, DType::f64);
  }
  double* slots = report_.view<double>().data();
  const auto slot = [&](size_t i) { return Tensor::borrow(slots + i, {1}); };
  for (size_t i = 0; i < terms.size(); ++i) {
    Tensor to = slot(i);
    context_.copy(terms[i].value, to);
  }
  in_range("backward", [&] {
    tape.backward();
    detector_.parameters().finish_backward();
  });
  in_range("update", [&] { optimizer_.update(communicator_, {slots, {static_cast<int64_t>(terms.size())}}); });
  Tensor norm = slot(terms.size());
  context_.copy(optimizer_.sum_squares(), norm);
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
    result.losses.emplace_back(names_[i], values[i]);
    result.total += values[i];
  }
  result.grad_norm = std::sqrt(values.back());
  return result;
}

}  // namespace gradlibra
