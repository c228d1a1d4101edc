// SPDX-License-Identifier: MIT
// A thread for each channel: C is a few hundred or thousand, and what takes time is the reduction over ranks between.
#include "kernels/launch.h"
#include "kernels/norms/sync_batch_norm.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {
namespace {

__device__ int64_t channel() { return int64_t{blockIdx.x} * kBlock + threadIdx.x; }

__global__ void pack_moments_kernel(double rows, const float* mean, const float* var, int64_t C, double* sums) {
  const int64_t c = channel();
  if (c == 0) sums[0] = rows;
  if (c >= C) return;
  const auto average = static_cast<double>(mean[c]);
  sums[1 + c] = rows * average;
  sums[1 + C + c] = sum_of_squares(rows, average, static_cast<double>(var[c]));
}

struct Unpacked {
  double eps;
  float *mean, *rstd;
  float momentum;
  float *running_mean, *running_var;  // null: there are none
};

__global__ void unpack_moments_kernel(const double* sums, int64_t C, const Unpacked to) {
  const int64_t c = channel();
  if (c >= C) return;
  const ChannelMoments all(sums[0], sums[1 + c], sums[1 + C + c]);
  const auto mean = static_cast<float>(all.mean);
  to.mean[c] = mean;
  to.rstd[c] = static_cast<float>(1 / sqrt(all.variance() + to.eps));
  if (to.running_mean == nullptr) return;
  to.running_mean[c] = toward(to.running_mean[c], mean, to.momentum);
  to.running_var[c] = toward(to.running_var[c], static_cast<float>(all.unbiased()), to.momentum);
}

__global__ void pack_gradients_kernel(double rows, const float* sum_g, const float* sum_g_x_hat, int64_t C,
                                      double* sums) {
  const int64_t c = channel();
  if (c == 0) sums[0] = rows;
  if (c >= C) return;
  sums[1 + c] = static_cast<double>(sum_g[c]);
  sums[1 + C + c] = static_cast<double>(sum_g_x_hat[c]);
}

__global__ void unpack_gradients_kernel(const double* sums, const float* weight, int64_t C, float* g, float* g_x_hat) {
  const int64_t c = channel();
  if (c >= C) return;
  const double scale = static_cast<double>(weight[c]) / sums[0];
  g[c] = static_cast<float>(scale * sums[1 + c]);
  g_x_hat[c] = static_cast<float>(scale * sums[1 + C + c]);
}

dim3 blocks_of(int64_t channels) { return {static_cast<unsigned>(channels / kBlock + 1)}; }

}  // namespace

void pack_moments(Cuda& cuda, int64_t rows, View<const float> mean, View<const float> var, View<double> sums) {
  const int64_t C = check_sync_norm("pack_moments", sums, mean, var);
  launch(pack_moments_kernel, blocks_of(C), kBlock, 0, cuda.stream(), static_cast<double>(rows), mean.data(),
         var.data(), C, sums.data());
}

void unpack_moments(Cuda& cuda, View<const double> sums, const MomentsOfAll& to) {
  const int64_t C = check_unpack_moments(sums, to);
  const Unpacked values{static_cast<double>(to.eps), to.mean.data(),         to.rstd.data(),
                        to.running.momentum,         to.running.mean.data(), to.running.var.data()};
  launch(unpack_moments_kernel, blocks_of(C), kBlock, 0, cuda.stream(), sums.data(), C, values);
}

void pack_gradients(Cuda& cuda, int64_t rows, View<const float> sum_g, View<const float> sum_g_x_hat,
                    View<double> sums) {
  const int64_t C = check_sync_norm("pack_gradients", sums, sum_g, sum_g_x_hat);
  launch(pack_gradients_kernel, blocks_of(C), kBlock, 0, cuda.stream(), static_cast<double>(rows), sum_g.data(),
         sum_g_x_hat.data(), C, sums.data());
}

void unpack_gradients(Cuda& cuda, View<const double> sums, View<const float> weight, const GradientAverages& to) {
  constexpr auto op = "unpack_gradients";
  const int64_t C = check_sync_norm(op, sums, to.g, to.g_x_hat);
  require_shape(op, "weight", weight, {C});
  launch(unpack_gradients_kernel, blocks_of(C), kBlock, 0, cuda.stream(), sums.data(), weight.data(), C, to.g.data(),
         to.g_x_hat.data());
}

}  // namespace gradlibra::kernels
