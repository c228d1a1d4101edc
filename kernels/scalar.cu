// SPDX-License-Identifier: MIT
// One block: the values are few, and needed by the next kernel on the stream, not by the host.
#include "kernels/launch.h"
#include "kernels/scalar.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

__global__ void scaled_maximum_kernel(const double* x, int64_t size, double factor, double minimum, double plus,
                                      double* y) {
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) {
    const double scaled = factor * x[i];
    y[i] = (scaled > minimum ? scaled : minimum) + plus;
  }
}

__global__ void add_if_finite_kernel(const double* x, int64_t size, const float* ok, double* y) {
  if (!isfinite(ok[0])) return;
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) y[i] += x[i];
}

__global__ void gather_kernel(const double* x, const int32_t* index, int64_t size, double* y) {
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) y[i] = x[index[i]];
}

unsigned threads_for(int64_t size) { return size < kBlock ? static_cast<unsigned>(size) : kBlock; }

}  // namespace

void scaled_maximum(Cuda& cuda, View<const double> x, double factor, double minimum, View<double> y, double plus) {
  check_scaled_maximum(x, y);
  if (x.size() == 0) return;
  launch(scaled_maximum_kernel, dim3(1), dim3(threads_for(x.size())), 0, cuda.stream(), x.data(), x.size(), factor,
         minimum, plus, y.data());
}

void add_if_finite(Cuda& cuda, View<const double> x, View<const float> ok, View<double> y) {
  check_add_if_finite(x, ok, y);
  if (x.size() == 0) return;
  launch(add_if_finite_kernel, dim3(1), dim3(threads_for(x.size())), 0, cuda.stream(), x.data(), x.size(), ok.data(),
         y.data());
}

void gather(Cuda& cuda, View<const double> x, View<const int32_t> index, View<double> y) {
  check_gather(index, y);
  if (y.size() == 0) return;
  launch(gather_kernel, dim3(1), dim3(threads_for(y.size())), 0, cuda.stream(), x.data(), index.data(), y.size(),
         y.data());
}

}  // namespace gradlibra::kernels
