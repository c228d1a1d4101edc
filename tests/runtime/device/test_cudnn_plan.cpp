// SPDX-License-Identifier: MIT
// Every convolution of a training step has a cuDNN plan that is ready to run. These tests need no GPU: cuDNN finds
// engines and builds plans for a device it is only told about. Whether the results are right is for
// test_cudnn_convolution.cpp to find, on a GPU.
#include "runtime/device/cudnn_plan.h"

#include <gtest/gtest.h>

#include <iostream>
#include <set>

#include "runtime/device/cudnn_handle.h"

namespace gradlibra {
namespace {

using kernels::Activation;
using kernels::ConvDims;
using Kind = CudnnProblem::Kind;

// An H100 as cuDNN 9 would describe one. Another version may want other fields.
const char* const kH100 = R"({"deviceName": "NVIDIA H100 80GB HBM3", "cudaDeviceId": 0, "deviceVer": 900,
  "driverVer": 13000, "isTccDriver": 0, "l2CacheSize": 52428800, "maxCtasPerSM": 32, "maxRegistersPerSM": 65536,
  "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448, "maxThreadsPerBlock": 1024,
  "maxThreadsPerSM": 2048, "memClockRateKHz": 2619000, "multiProcessorCount": 132, "pciDeviceId": 0,
  "regsPerBlock": 65536, "reservedSharedMemoryPerBlock": 1024, "smClockRateKHz": 1980000, "supportCoopLaunch": 1,
  "totalGlobalMem": 85000000000, "warpSize": 32, "maxBlockSize": [1024, 1024, 64],
  "maxGridSize": [2147483647, 65535, 65535]})";

ConvDims conv(int64_t N, int64_t side, int64_t C, int64_t K, int64_t kernel, int stride = 1) {
  const kernels::ConvShape shape{.stride = stride, .padding = static_cast<int>(kernel / 2)};
  const int64_t out = kernels::conv_size(side, kernel, shape);
  return {N, side, side, C, K, kernel, kernel, out, out, stride, shape.padding, 1};
}

// The product of R rows with a weight, as the deformable convolution leaves it (runtime/device/convolution.h).
ConvDims product(int64_t R, int64_t C, int64_t K) { return {1, R, 1, C, K, 1, 1, R, 1, 1, 0, 1}; }

// The stem as tensor cores get it: with stride 1 on blocks of pixels (runtime/device/cudnn_convolution.cpp).
ConvDims stem_in_blocks(int64_t N) { return {N, 259, 259, 16, 64, 4, 4, 256, 256, 1, 0, 1}; }

// Each different convolution of RepPoints on a ResNet-50, N images of 512 x 512, 80 classes.
std::vector<ConvDims> reppoints_r50(int64_t N) {
  std::vector<ConvDims> all{conv(N, 512, 3, 64, 7, 2)};
  all.push_back(stem_in_blocks(N));
  const auto stage = [&](int64_t side, int64_t in, int64_t width, int stride) {
    const int64_t out = 4 * width, small = side / stride;
    all.push_back(conv(N, side, in, width, 1));
    all.push_back(conv(N, side, width, width, 3, stride));
    all.push_back(conv(N, small, width, out, 1));
    all.push_back(conv(N, side, in, out, 1, stride));
    all.push_back(conv(N, small, out, width, 1));
    all.push_back(conv(N, small, width, width, 3));
  };
  stage(128, 64, 64, 1);
  stage(128, 256, 128, 2);
  stage(64, 512, 256, 2);
  stage(32, 1024, 512, 2);
  for (int level = 0; level < 3; ++level) all.push_back(conv(N, 64 >> level, 512 << level, 256, 1));
  all.push_back(conv(N, 16, 256, 256, 3, 2));
  all.push_back(conv(N, 8, 256, 256, 3, 2));
  for (int64_t side = 64; side >= 4; side /= 2) {
    all.push_back(conv(N, side, 256, 256, 3));
    all.push_back(conv(N, side, 256, 18, 1));
    all.push_back(conv(N, side, 256, 80, 1));
    all.push_back(product(N * side * side, 9 * 256, 256));
  }
  return all;
}
constexpr int64_t kBatches[] = {8, 32};

struct Precision {
  const char* name;
  DType maps;
  FloatMath math;
  // For the names of tests. NOLINTNEXTLINE(readability-identifier-naming): GoogleTest's
  friend void PrintTo(const Precision& p, std::ostream* out) { *out << p.name; }
};

class CudnnPlans : public ::testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    const std::string problem = cudnn_version_problem(CUDNN_VERSION, cudnnGetVersion());
    if (!problem.empty()) GTEST_SKIP() << problem;
    std::string why;
    try {
      (void)CudnnPlan::find(target, {.dims = conv(1, 8, 8, 8, 1)}, options, CudnnEngines::ready_made, why);
    } catch (const std::exception& e) {
      GTEST_SKIP() << "this cuDNN reads another description of a device: " << e.what();
    }
  }
  // A ready-made engine, or "" and cuDNN's reason.
  std::string engine(const CudnnProblem& problem, std::string& why) const {
    const auto plan = CudnnPlan::find(target, problem, options, CudnnEngines::ready_made, why);
    if (plan == nullptr) return "";
    return plan->engine();
  }

  DType maps = GetParam().maps;
  CudnnOptions options{.float_math = GetParam().math};
  CudnnTarget target{.description = kH100};
};
INSTANTIATE_TEST_SUITE_P(Precisions, CudnnPlans,
                         ::testing::Values(Precision{"fp32", DType::f32, FloatMath::fp32},
                                           Precision{"tf32", DType::f32, FloatMath::tf32},
                                           Precision{"bf16", DType::bf16, FloatMath::fp32}),
                         [](const auto& precision) { return precision.param.name; });

// In one call with all that may follow a convolution in a step, and with nothing.
TEST_P(CudnnPlans, ForwardOfRepPoints) {
  for (const int64_t N : kBatches)
    for (const ConvDims& dims : reppoints_r50(N)) {
      CudnnProblem problem{.dims = dims, .maps = maps, .result = maps};
      std::string why;
      EXPECT_NE(engine(problem, why), "") << problem.to_string() << ": " << why;
      for (const bool residual : {false, true})
        for (const Activation activation : {Activation::none, Activation::relu}) {
          problem.bias = true;
          problem.residual = residual;
          problem.activation = activation;
          EXPECT_NE(engine(problem, why), "") << problem.to_string() << ": " << why;
        }
    }
}

TEST_P(CudnnPlans, BackwardOfRepPoints) {
  for (const int64_t N : kBatches)
    for (const ConvDims& dims : reppoints_r50(N)) {
      std::string why;
      const CudnnProblem data{.kind = Kind::backward_data, .dims = dims, .maps = maps, .result = maps};
      EXPECT_NE(engine(data, why), "") << data.to_string() << ": " << why;
      CudnnProblem weight{.kind = Kind::backward_weight, .dims = dims, .maps = maps};
      if (!engine(weight, why).empty()) continue;
      weight.result = maps;
      EXPECT_NE(engine(weight, why), "") << weight.to_string() << ": " << why;
    }
}

// Gradients that are added to what is there: the engine does it.
TEST_P(CudnnPlans, AddedDataGradientsOfRepPoints) {
  for (const int64_t N : kBatches)
    for (const ConvDims& dims : reppoints_r50(N)) {
      const CudnnProblem data{
          .kind = Kind::backward_data, .dims = dims, .maps = maps, .result = maps, .mode = Accumulate::add};
      std::string why;
      EXPECT_NE(engine(data, why), "") << data.to_string() << ": " << why;
    }
}

TEST_P(CudnnPlans, OnlyDataGradientsAreAdded) {
  std::string why;
  for (const Kind kind : {Kind::forward, Kind::backward_weight})
    EXPECT_THROW((void)engine({.kind = kind, .dims = conv(1, 8, 8, 8, 1), .mode = Accumulate::add}, why),
                 std::invalid_argument);
}

// Without tensor cores the library falls back on engine 0, a fiftieth as fast as others on an H100 (307 ms against 6 ms
// for the gradient of a 3x3 convolution of P3, batch 32), where what the others need for their workspace is refused.
TEST_P(CudnnPlans, NoneIsTheSlowest) {
  if (maps != DType::f32) GTEST_SKIP() << "of float maps";
  for (const int64_t N : kBatches)
    for (const ConvDims& dims : reppoints_r50(N))
      for (const Kind kind : {Kind::forward, Kind::backward_data, Kind::backward_weight}) {
        const CudnnProblem problem{.kind = kind, .dims = dims, .maps = maps};
        if (dims.N * dims.P * dims.Q * dims.K * dims.R * dims.S * dims.C < 100'000'000) continue;  // no matter
        std::string why;
        const std::string name = engine(problem, why);
        EXPECT_NE(name, "") << why;
        EXPECT_NE(name.substr(0, 5), "eng0_") << problem.to_string();
        EXPECT_NE(name, "eng0") << problem.to_string();
      }
}

// Three channels are brought to eight in a workspace that grows with the batch; no limit may take the engine away.
TEST_P(CudnnPlans, StemOfLargeBatches) {
  for (const int64_t N : {64, 128, 256}) {
    for (const ConvDims& dims : {conv(N, 512, 3, 64, 7, 2), stem_in_blocks(N)}) {
      const CudnnProblem stem{.dims = dims, .maps = maps, .result = maps, .bias = true, .activation = Activation::relu};
      std::string why;
      EXPECT_NE(engine(stem, why), "") << stem.to_string() << ": " << why;
    }
  }
}

TEST(CudnnVersion, LibraryMayBeNewerWithinAMajorVersionNotOlder) {
  EXPECT_EQ(cudnn_version_text(91900), "9.19.0");
  EXPECT_EQ(cudnn_version_text(8907), "8.9.7");
  EXPECT_EQ(cudnn_version_problem(91900, 91900), "");
  EXPECT_EQ(cudnn_version_problem(91901, 91900), "");  // patches do not change the interface
  EXPECT_EQ(cudnn_version_problem(91900, 92000), "");
  const std::string older = cudnn_version_problem(91900, 91002);
  EXPECT_NE(older.find("9.10.2 was loaded"), std::string::npos) << older;
  EXPECT_NE(older.find("compiled with 9.19.0"), std::string::npos) << older;
  EXPECT_NE(cudnn_version_problem(91900, 8907), "");
  EXPECT_NE(cudnn_version_problem(91900, 100000), "");
}

TEST(CudnnProblem, EveryFieldDistinguishesPlans) {
  std::set<CudnnProblem> seen;
  const CudnnProblem base{.dims = conv(8, 64, 256, 64, 3)};
  const auto add = [&](auto change) {
    CudnnProblem p = base;
    change(p);
    return seen.insert(p).second;
  };
  EXPECT_TRUE(add([](CudnnProblem&) {}));
  EXPECT_FALSE(add([](CudnnProblem&) {}));
  EXPECT_TRUE(add([](CudnnProblem& p) { p.kind = Kind::backward_data; }));
  EXPECT_TRUE(add([](CudnnProblem& p) { p.maps = DType::bf16; }));
  EXPECT_TRUE(add([](CudnnProblem& p) { p.maps = p.result = DType::bf16; }));
  EXPECT_TRUE(add([](CudnnProblem& p) { p.bias = true; }));
  EXPECT_TRUE(add([](CudnnProblem& p) { p.residual = true; }));
  EXPECT_TRUE(add([](CudnnProblem& p) { p.activation = Activation::relu; }));
  EXPECT_TRUE(add([](CudnnProblem& p) { p.mode = Accumulate::add; }));
  for (int64_t ConvDims::*size : {&ConvDims::N, &ConvDims::H, &ConvDims::W, &ConvDims::C, &ConvDims::K, &ConvDims::R,
                                  &ConvDims::S, &ConvDims::P, &ConvDims::Q})
    EXPECT_TRUE(add([=](CudnnProblem& p) { p.dims.*size = 1000; }));
  for (int ConvDims::*size : {&ConvDims::stride, &ConvDims::padding, &ConvDims::dilation})
    EXPECT_TRUE(add([=](CudnnProblem& p) { p.dims.*size = 1000; }));
}

}  // namespace
}  // namespace gradlibra
