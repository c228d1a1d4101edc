// SPDX-License-Identifier: MIT
// One optimiser step on a batch, enqueued on the device so that the host never waits for the step it has just enqueued.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/batches.h"
#include "models/detector.h"
#include "runtime/training/gradient_buckets.h"
#include "runtime/training/optimizer.h"
#include "runtime/training/weight_average.h"

namespace gradlibra {

// On a GPU the first steps run kernel by kernel, which fills the memory pool and lets cuDNN choose its plans; then the
// step is recorded once as a CUDA graph and replayed, with the same bits. On a host every step has run when enqueue()
// returns.
class TrainStep {
 public:
  struct Options {
    bool graph = true;                 // false: kernel by kernel for ever
    WeightAverage* average = nullptr;  // takes part in every step; outlives it too
    BucketConfig buckets = {};
    bool sync_norm = true;  // batch norms that train take their statistics over all ranks
  };
  // All three outlive it. Batches have one shape.
  TrainStep(Detector& detector, Optimizer& optimizer, Communicator& communicator, Options options);
  ~TrainStep();  // waits for the device

  // A batch on its way to the device while the step before it runs. Its host memory may be reused on return.
  void stage(const Batch& batch);
  // Forward, losses, backward, update on the staged batch. A loss or gradient norm that is not finite, on whichever
  // rank, changes no parameter and no state of a loss on any rank.
  void enqueue(double lr);

  // The same on every rank but for own_total, so that all ranks go on or stop alike.
  struct Result {
    std::vector<std::pair<std::string, double>> losses;  // as the head names them, of the whole batch of all ranks
    double total = 0, grad_norm = 0;                     // norm of the gradients of it, before clipping
    double own_total = 0;                                // this rank's part of it
    // Of all ranks since the training began (Detector::classifier), and after the update; empty where nothing is
    // recorded.
    std::vector<double> class_gradients;     // kernels::add_class_gradients
    std::vector<double> classifier_squares;  // sum of squares of each channel's weights
  };
  // Of the oldest step that nobody has waited for.
  [[nodiscard]] Result wait();
  [[nodiscard]] const GradientBuckets& buckets() const { return buckets_; }
  // Whether steps are replayed from a graph by now.
  [[nodiscard]] bool uses_graph() const { return graph_ != nullptr; }
  // Steps that may be under way when the next is enqueued: 0 on a host.
  [[nodiscard]] size_t lag() const { return context_.on_host() ? 0 : Readback::kPending - 1; }

 private:
  static constexpr int kEagerSteps = 3;
  void run();
  void record_classes(const Classifier& classifier, View<double> to);

  Detector& detector_;
  Optimizer& optimizer_;
  Communicator& communicator_;
  Context& context_;
  Options options_;
  GradientBuckets buckets_;
  DeviceBatch batch_;
  std::unique_ptr<Prefetch> prefetch_;
  std::unique_ptr<Readback> readback_;
  std::unique_ptr<CapturedWork> graph_;
  int eager_steps_ = 0;
  std::vector<std::string> names_;  // of the losses
  // Doubles for the host: the square of the gradient norm, the losses of this rank, what is summed over ranks in one
  // reduction (the losses and the increments of their state), and what is recorded of the classes. A job of one rank
  // has the losses once.
  Tensor report_;
  int64_t sums_ = 0;     // where the sums begin
  int64_t records_ = 0;  // where the records begin
};

}  // namespace gradlibra
