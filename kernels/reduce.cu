// SPDX-License-Identifier: MIT
// Reductions on the device, in two launches: each block sums one chunk of fixed bounds in a fixed order, then one block
// sums the partial results. No atomics, so the bits do not depend on which block comes first.
#include "kernels/block_sum.cuh"
#include "kernels/launch.h"
#include "kernels/reduce.h"
#include "kernels/row_chunks.h"

namespace gradlibra::kernels {
namespace {

// What is summed: value(i), and quad(i) for elements i .. i + 3 where 16-byte loads are possible.
struct Square {
  const float* x;
  __device__ static double square(float v) { return static_cast<double>(v) * static_cast<double>(v); }
  __device__ double value(int64_t i) const { return square(x[i]); }
  __device__ double quad(int64_t i) const {
    const Pack<4> v = load<4>(x + i);
    return (square(v[0]) + square(v[1])) + (square(v[2]) + square(v[3]));
  }
};

struct Partial {
  const double* x;
  __device__ double value(int64_t i) const { return x[i]; }
  __device__ double quad(int64_t i) const { return (x[i] + x[i + 1]) + (x[i + 2] + x[i + 3]); }
};

// A block owns elements [blockIdx.x * chunk, + chunk): out[blockIdx.x] (+)= their sum.
template <class Source>
__global__ void reduce_kernel(const Source source, int64_t size, int64_t chunk, bool vectors, double* out, bool add) {
  const int64_t begin = blockIdx.x * chunk;
  const int64_t end = begin + chunk < size ? begin + chunk : size;
  const int64_t quads = vectors ? (end - begin) / 4 : 0;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < quads; i += blockDim.x) sum += source.quad(begin + 4 * i);
  for (int64_t i = begin + 4 * quads + threadIdx.x; i < end; i += blockDim.x) sum += source.value(i);
  sum = block_sum(sum);
  if (threadIdx.x == 0) out[blockIdx.x] = add ? out[blockIdx.x] + sum : sum;
}

// A block owns a row.
__global__ void row_squares_kernel(const float* __restrict__ x, int64_t K, double* __restrict__ out) {
  const float* row = x + blockIdx.x * K;
  double sum = 0;
  for (int64_t k = threadIdx.x; k < K; k += blockDim.x) sum += Square::square(row[k]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

template <class Source>
void reduce(Cuda& cuda, const Source& source, int64_t size, bool vectors, View<double> out, Accumulate mode,
            View<double> workspace) {
  const bool add = mode == Accumulate::add;
  const int64_t chunks = reduce_workspace(size);
  if (chunks <= 1) {  // also the empty sum, which writes its zero
    launch(reduce_kernel<Source>, 1, kBlock, 0, cuda.stream(), source, size, kReduceChunk, vectors, out.data(), add);
    return;
  }
  launch(reduce_kernel<Source>, static_cast<unsigned>(chunks), kBlock, 0, cuda.stream(), source, size, kReduceChunk,
         vectors, workspace.data(), false);
  launch(reduce_kernel<Partial>, 1, kBlock, 0, cuda.stream(), Partial{workspace.data()}, chunks, chunks, false,
         out.data(), add);
}

// What is summed over rows, V channels of a row at a time.
template <class T>
struct Rows {
  const T* x;
  template <int V>
  __device__ Pack<V> at(int64_t i) const {
    return load<V>(x + i);
  }
};

// The gradient that passes a ReLU, which is written on the way. grad_x may be grad_y: a thread reads an element before
// it writes it.
template <class T>
struct ReluBackwardRows {
  const T *y, *grad_y;
  T* grad_x;
  template <int V>
  __device__ Pack<V> at(int64_t i) const {
    const Pack<V> value = load<V>(y + i);
    Pack<V> grad = load<V>(grad_y + i);
    for (int k = 0; k < V; ++k) grad[k] = value[k] > 0 ? grad[k] : 0;
    store<V>(grad_x + i, grad);
    return grad;
  }
};

// A block owns one chunk of rows and lanes * V channels; partial[chunk][c] = the sum of its rows.
template <int V, class Source>
__global__ void sum_rows_kernel(const Source source, int64_t rows, int64_t C, int lanes, float* __restrict__ partial) {
  const int64_t per_chunk = rows_per_chunk(C), begin = blockIdx.x * per_chunk;
  const int64_t end = begin + per_chunk < rows ? begin + per_chunk : rows;
  const int64_t c = (static_cast<int64_t>(blockIdx.y) * lanes + threadIdx.x % lanes) * V;
  const int slot = static_cast<int>(threadIdx.x) / lanes, slots = kBlock / lanes;
  float sum[V] = {};
  if (c < C) {
#pragma unroll 4
    for (int64_t r = begin + slot; r < end; r += slots) {
      const Pack<V> v = source.template at<V>(r * C + c);
      for (int k = 0; k < V; ++k) sum[k] += v[k];
    }
  }
  slot_sum(sum, lanes);
  if (slot == 0 && c < C)
    for (int k = 0; k < V; ++k) partial[blockIdx.x * C + c + k] = sum[k];
}

__global__ void column_totals_kernel(const float* partial, int64_t rows, int64_t C, float* out, bool add) {
  column_totals(partial, rows, C, out, add);
}

// out[c] (+)= sum over rows of source. Vectors: its addresses are aligned.
template <MapType T, class Source>
void row_sums(Cuda& cuda, const Source& source, int64_t rows, int64_t C, bool vectors, View<float> out, Accumulate mode,
              View<float> workspace) {
  if (C == 0) return;
  const int64_t chunks = row_chunks(rows, C);
  const int V = vectors && C % kPack<T> == 0 ? kPack<T> : 1;
  const int lanes = lanes_for(C, V);
  if (chunks > 0)
    launch(V > 1 ? sum_rows_kernel<kPack<T>, Source> : sum_rows_kernel<1, Source>,
           dim3(static_cast<unsigned>(chunks), blocks_for(C, lanes * V)), kBlock, 0, cuda.stream(), source, rows, C,
           lanes, workspace.data());
  launch(column_totals_kernel, blocks_for(C, kTotalLanes), kBlock, 0, cuda.stream(), workspace.data(), chunks, C,
         out.data(), mode == Accumulate::add);
}

template <MapType T>
void plain_row_sums(Cuda& cuda, View<const T> x, View<float> out, Accumulate mode, View<float> workspace) {
  check_sum_rows(x.shape(), out, workspace);
  const int64_t C = x.dim(-1), rows = C == 0 ? 0 : x.size() / C;
  row_sums<T>(cuda, Rows<T>{x.data()}, rows, C, aligned(x.data()), out, mode, workspace);
}

}  // namespace

void sum_squares(Cuda& cuda, View<const float> x, View<double> out, Accumulate mode, View<double> workspace) {
  check_reduce("sum_squares", x.size(), out, workspace);
  reduce(cuda, Square{x.data()}, x.size(), aligned(x.data()), out, mode, workspace);
}

void sum_row_squares(Cuda& cuda, View<const float> x, View<double> out) {
  check_sum_row_squares(x, out);
  if (x.dim(0) == 0) return;
  launch(row_squares_kernel, static_cast<unsigned>(x.dim(0)), kBlock, 0, cuda.stream(), x.data(), x.dim(1), out.data());
}

void sum_rows(Cuda& cuda, View<const float> x, View<float> out, Accumulate mode, View<float> workspace) {
  plain_row_sums(cuda, x, out, mode, workspace);
}

void sum_rows(Cuda& cuda, View<const bfloat16> x, View<float> out, Accumulate mode, View<float> workspace) {
  plain_row_sums(cuda, x, out, mode, workspace);
}

template <MapType T>
void relu_backward_sum_rows(Cuda& cuda, In<T> y, In<T> grad_y, View<T> grad_x, View<float> out, Accumulate mode,
                            View<float> workspace) {
  check_relu_backward_sum_rows(y.shape(), grad_y.shape(), grad_x.shape(), out, workspace);
  const int64_t C = y.dim(-1), rows = C == 0 ? 0 : y.size() / C;
  row_sums<T>(cuda, ReluBackwardRows<T>{y.data(), grad_y.data(), grad_x.data()}, rows, C,
              aligned(y.data(), grad_y.data(), grad_x.data()), out, mode, workspace);
}

template void relu_backward_sum_rows(Cuda&, View<const float>, View<const float>, View<float>, View<float>, Accumulate,
                                     View<float>);
template void relu_backward_sum_rows(Cuda&, View<const bfloat16>, View<const bfloat16>, View<bfloat16>, View<float>,
                                     Accumulate, View<float>);

}  // namespace gradlibra::kernels
