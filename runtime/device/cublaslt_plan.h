// SPDX-License-Identifier: MIT
// A 1x1 convolution of stride 1, or a product of rows with a weight, as a matrix product of cuBLASLt.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>

#include "runtime/device/cudnn_plan.h"

namespace gradlibra {

// Whether it is one: rows (N * P * Q, C) times a weight (K, C), without padding.
[[nodiscard]] bool is_matrix_product(const kernels::ConvDims& dims);

// Which matrix products cuBLASLt computes where nothing is timed: all but data gradients that are added to what is
// there. Measured in bfloat16 on an H100 (cuDNN 9.19, the fastest plan of each library), the 84 products of
// RepPoints-R50 at batch 32: those that are not added take 92 % of cuDNN's time in sum, 60 of 78 are faster, 2 more
// than 3 % slower; the added ones take 113 %, up to 120 % on the largest maps. At batch 8 it is 88 %, 63 and 2 of 78;
// added 98 %, too little for a rule that looks at sizes. float and tf32 go the same way unmeasured.
[[nodiscard]] bool prefers_cublaslt(const CudnnProblem& problem);

// With M = N * P * Q, in the row-major layout of maps and weights:
//   forward          y (M, K)           = activation(x (M, C) * weight (K, C)^T + residual + bias)
//   backward_data    grad_x (M, C)      (+)= grad_y (M, K) * weight (K, C)
//   backward_weight  grad_weight (K, C) (+)= grad_y (M, K)^T * x (M, C)       float also of bfloat16 maps
// Sums are float; engines that would keep parts of one in the result's type are left out, and so are those that add in
// an order of their own. float maps: FloatMath::fp32 multiplies as float, tf32 on tensor cores. Unlike cuDNN's plans a
// weight gradient may add.
//
// ReLU's gradient stays with kernels::relu_backward_sum_rows, though cuBLASLt has an epilogue for it and the bias's
// (DRELU_BGRAD): that one wants a bit mask that only a product of its own can have stored (RELU_AUX), and an activation
// with one consumer. Of a network's activations few are stored by one matrix product and read by one other: in a
// bottleneck block a 3x3 convolution, or the skip, is always at one end.
class CublasltPlan {
 public:
  // The plan that the heuristics of cuBLASLt put first, or several for tune() to choose from. Null if there is none;
  // `why` says so.
  static std::unique_ptr<CublasltPlan> find(const CudnnProblem& problem, const CudnnOptions& options, std::string& why);
  ~CublasltPlan();

  // Before tune() the most that any candidate needs.
  [[nodiscard]] int64_t workspace_bytes() const;
  // As CudnnPlan's, on this stream. Each candidate runs several times: give it a result that nobody else reads.
  void tune(cudaStream_t stream, const CudnnOperands& operands, void* workspace);
  // Enqueues. Neither allocates on the device nor waits for it. Any thread.
  void run(cudaStream_t stream, const CudnnOperands& operands, void* workspace) const;

  // What each operand has to be aligned to.
  static constexpr size_t kAlignment = 16;
  [[nodiscard]] static bool is_aligned(const CudnnOperands& operands);

  // The description of a problem, from which find() asks for engines: throws std::runtime_error if cuBLASLt refuses it.
  // Needs no GPU.
  static void describe(const CudnnProblem& problem, const CudnnOptions& options);

 private:
  struct Product;
  explicit CublasltPlan(std::unique_ptr<Product> product);
  void run_candidate(size_t candidate, cudaStream_t stream, const CudnnOperands& operands, void* workspace) const;
  std::unique_ptr<Product> product_;
};

}  // namespace gradlibra
