// SPDX-License-Identifier: MIT
// What cuBLASLt is asked for. Its engines need a GPU: tests/runtime/device/test_cudnn_convolution.cpp.
#include "runtime/device/cublaslt_plan.h"

#include <gtest/gtest.h>

#include "runtime/device/cublaslt_library.h"

namespace gradlibra {
namespace {

using Kind = CudnnProblem::Kind;

kernels::ConvDims rows(int64_t M, int64_t C, int64_t K) {
  return {
      .N = 1, .H = M, .W = 1, .C = C, .K = K, .R = 1, .S = 1, .P = M, .Q = 1, .stride = 1, .padding = 0, .dilation = 1};
}

TEST(CublasltPlan, MatrixProductsAre1x1AtStride1) {
  EXPECT_TRUE(is_matrix_product(rows(100, 8, 16)));
  kernels::ConvDims d = rows(100, 8, 16);
  d.stride = 2;
  EXPECT_FALSE(is_matrix_product(d));
  d = rows(100, 8, 16);
  d.padding = 1;
  EXPECT_FALSE(is_matrix_product(d));
  d = rows(100, 8, 16);
  d.S = 3;
  EXPECT_FALSE(is_matrix_product(d));
}

TEST(CublasltPlan, OperandsOn16Bytes) {
  alignas(16) std::byte memory[32];
  EXPECT_TRUE(CublasltPlan::is_aligned({.first = memory, .second = memory + 16, .result = memory}));
  EXPECT_FALSE(CublasltPlan::is_aligned({.first = memory, .second = memory, .result = memory, .bias = memory + 4}));
}

TEST(CublasltPlan, IsPreferredButForAddedDataGradients) {
  for (const Kind kind : {Kind::forward, Kind::backward_data, Kind::backward_weight})
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add})
      EXPECT_EQ(prefers_cublaslt({.kind = kind, .dims = rows(100, 8, 16), .mode = mode}),
                kind != Kind::backward_data || mode == Accumulate::overwrite);
}

// Then cuDNN computes what cuBLASLt would have.
TEST(CublasltPlan, WithoutTheLibraryThereIsNoPlanButAReason) {
  std::string why;
  if (cublaslt(why) != nullptr) GTEST_SKIP() << "the library is there";
  EXPECT_NE(why.find("libcublasLt"), std::string::npos) << why;
  why.clear();
  EXPECT_EQ(CublasltPlan::find({.dims = rows(100, 8, 16)}, {}, why), nullptr);
  EXPECT_NE(why.find("libcublasLt"), std::string::npos) << why;
}

// The library takes every description that a network can need, on any machine that has it.
TEST(CublasltPlan, EveryProblemCanBeDescribed) {
  std::string why;
  if (cublaslt(why) == nullptr) GTEST_SKIP() << why;
  for (const Kind kind : {Kind::forward, Kind::backward_data, Kind::backward_weight})
    for (const DType maps : {DType::f32, DType::bf16})
      for (const FloatMath math : {FloatMath::fp32, FloatMath::tf32})
        for (const bool relu : {false, true})
          for (const bool bias : {false, true}) {
            const bool forward = kind == Kind::forward;
            const CudnnProblem problem{
                .kind = kind,
                .dims = rows(1000, 27, 10),
                .maps = maps,
                .result = kind == Kind::backward_weight ? DType::f32 : maps,
                .bias = forward && bias,
                .activation = forward && relu ? kernels::Activation::relu : kernels::Activation::none,
                .mode = forward ? Accumulate::overwrite : Accumulate::add};
            EXPECT_NO_THROW(CublasltPlan::describe(problem, {.float_math = math})) << problem.to_string();
          }
}

}  // namespace
}  // namespace gradlibra
