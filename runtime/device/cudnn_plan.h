// SPDX-License-Identifier: MIT
// One convolution as a cuDNN plan: the graph of what is computed, and the engine that computes it.
#pragma once

#include <cudnn.h>

#include <array>
#include <compare>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device/convolution.h"

namespace gradlibra {

// What a plan computes, and all that it depends on besides the device and CudnnOptions. Maps are NHWC, weights KRSC,
// the bias (K) of the maps' type; sums and everything between the operations of one graph are float.
struct CudnnProblem {
  // Every kind is result = f(first, second); bias and residual belong to forward.
  enum class Kind {
    forward,          // y = activation(x * weight + residual + bias)
    backward_data,    // grad_x of grad_y and weight
    backward_weight,  // grad_weight of x and grad_y
  };
  Kind kind = Kind::forward;
  kernels::ConvDims dims;
  DType maps = DType::f32;    // of first, second and residual: f32 or bf16
  DType result = DType::f32;  // bf16 only where maps are
  bool bias = false, residual = false;
  kernels::Activation activation = kernels::Activation::none;
  Accumulate mode = Accumulate::overwrite;  // add: result += f(first, second); of cuDNN's plans only backward_data's

  // "forward of x (8, 64, 64, 256), weight (64, 1, 1, 256), stride 1, padding 0, dilation 1, bf16 + bias + relu"
  [[nodiscard]] std::string to_string() const;
  friend std::strong_ordering operator<=>(const CudnnProblem& a, const CudnnProblem& b) { return a.key() <=> b.key(); }

 private:
  [[nodiscard]] std::array<int64_t, 19> key() const;
};

// Device pointers, in the order of CudnnProblem::Kind. `result` may be none of the others.
struct CudnnOperands {
  const void* first = nullptr;
  const void* second = nullptr;
  void* result = nullptr;
  const void* bias = nullptr;
  const void* residual = nullptr;
};

// Where a plan is to run: on the device of a handle, or on one that cuDNN is only told about. For the latter plans can
// be made without any GPU, but not run. The description is the text into which cuDNN serialises the properties of a
// device (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION), which NVIDIA does not document further.
struct CudnnTarget {
  cudnnHandle_t handle = nullptr;
  std::string description;
};

// Which engines may compute a problem: those that are in the library ready to run, or also those that it generates and
// compiles, which takes a second for each plan.
enum class CudnnEngines { ready_made, any };

class CudnnPlan {
 public:
  // The plan that cuDNN's heuristics put first among those that `options` and `engines` allow, or several for tune() to
  // choose from. Null if no engine computes the problem on this target; `why` is then what cuDNN says.
  static std::unique_ptr<CudnnPlan> find(const CudnnTarget& target, const CudnnProblem& problem,
                                         const CudnnOptions& options, CudnnEngines engines, std::string& why);
  ~CudnnPlan();

  // Before tune() the most that any candidate needs.
  [[nodiscard]] int64_t workspace_bytes() const;
  [[nodiscard]] std::string engine() const;  // cuDNN's name for the engine and its settings

  // Several candidates are left, of which the first is the heuristics' choice.
  [[nodiscard]] bool can_tune() const { return candidates_.size() > 1; }
  // Times every candidate on these operands and keeps the fastest. Waits for the device; never while a CUDA graph is
  // recorded. Each runs several times: a plan that adds would add as often, so give it a result that nobody else reads.
  void tune(cudnnHandle_t handle, const CudnnOperands& operands, void* workspace);
  // Enqueues the plan on the handle's stream. Neither allocates on the device nor waits for it.
  void run(cudnnHandle_t handle, const CudnnOperands& operands, void* workspace) const;

 private:
  struct Graph;  // keeps NVIDIA's headers, which take half a minute to compile, in one file
  explicit CudnnPlan(std::unique_ptr<Graph> graph);
  void run_candidate(size_t candidate, cudnnHandle_t handle, const CudnnOperands& operands, void* workspace) const;

  std::unique_ptr<Graph> graph_;
  std::vector<int64_t> candidates_;  // indices among the graph's plans; the first is used
};

}  // namespace gradlibra
