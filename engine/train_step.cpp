// SPDX-License-Identifier: MIT
#include "engine/train_step.h"

#include <cmath>

#include "runtime/device/profiling.h"

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
      profiled("forward", [&] { return detector_.loss(tape, input, batch_.truth, communicator_); });
  profiled("backward", [&] {
    tape.backward();
    detector_.parameters().finish_backward();
  });
  const Tensor increments = detector_.increments();
  const auto count = static_cast<int64_t>(terms.size()), gained = increments.empty() ? 0 : increments.size();
  const bool alone = communicator_.world_size() == 1;
  if (report_.empty()) {
    for (const LossTerm& term : terms) names_.push_back(term.name);
    sums_ = alone ? 1 : 1 + count;
    report_ = context_.zeros({sums_ + count + gained}, DType::f64);
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
  profiled("update", [&] { optimizer_.update(communicator_, losses.view<double>()); });
  detector_.commit(gained > 0 ? std::as_const(state).view<double>() : View<const double>(), optimizer_.grad_scale());
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
  const auto ranks = static_cast<double>(communicator_.world_size());
  for (size_t i = 0; i < names_.size(); ++i) {
    const double mean = values[static_cast<size_t>(sums_) + i] / ranks;
    result.losses.emplace_back(names_[i], mean);
    result.total += mean;
    result.own_total += values[1 + i];
  }
  result.grad_norm = std::sqrt(values[0]);
  return result;
}

}  // namespace gradlibra
