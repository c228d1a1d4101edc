// SPDX-License-Identifier: MIT
// Elementwise kernels on the device. A thread owns 16 neighbouring bytes of the narrowest type (one element where
// addresses are not 16-byte aligned, and in the tail): these kernels move bytes and do little else.
#include "kernels/elementwise.h"
#include "kernels/launch.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {
namespace {

__device__ float positive(float v) { return v < 0 ? 0 : v; }  // this way round NaN stays NaN

// y[i] (+)= f(i's value of each input). f is one of the operations below, all on registers.
template <class F, class T, class... Input>
__global__ void map_kernel(F f, T* y, bool add, int64_t size, bool vectors, const Input*... inputs) {
  for_each_pack<kPack<T, Input...>>(size, vectors, [=](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    store<V>(y + i, f(load<V>(inputs + i)...), add);
  });
}

struct Identity {
  template <int V>
  __device__ Pack<V> operator()(const Pack<V>& x) const {
    return x;
  }
};

struct Scale {
  float factor;
  template <int V>
  __device__ Pack<V> operator()(Pack<V> x) const {
    for (int k = 0; k < V; ++k) x[k] *= factor;
    return x;
  }
};

struct Add {
  template <int V>
  __device__ Pack<V> operator()(Pack<V> a, const Pack<V>& b) const {
    for (int k = 0; k < V; ++k) a[k] += b[k];
    return a;
  }
};

struct Relu {
  template <int V>
  __device__ Pack<V> operator()(Pack<V> x) const {
    for (int k = 0; k < V; ++k) x[k] = positive(x[k]);
    return x;
  }
};

struct AddRelu {
  template <int V>
  __device__ Pack<V> operator()(Pack<V> a, const Pack<V>& b) const {
    for (int k = 0; k < V; ++k) a[k] = positive(a[k] + b[k]);
    return a;
  }
};

struct ReluBackward {
  template <int V>
  __device__ Pack<V> operator()(const Pack<V>& y, Pack<V> grad_y) const {
    for (int k = 0; k < V; ++k) grad_y[k] = y[k] > 0 ? grad_y[k] : 0;
    return grad_y;
  }
};

template <class F, class T, class... Input>
void map(Cuda& cuda, F f, View<T> y, Accumulate mode, const Input*... inputs) {
  if (y.size() == 0) return;
  launch(map_kernel<F, T, Input...>, pack_blocks(y.size(), kPack<T, Input...>), kBlock, 0, cuda.stream(), f, y.data(),
         mode == Accumulate::add, y.size(), aligned(y.data(), inputs...), inputs...);
}

template <class T>
__global__ void fill_kernel(T* y, float value, int64_t size, bool vectors) {
  for_each_pack<kPack<T>>(size, vectors, [=](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    Pack<V> p;
    for (int k = 0; k < V; ++k) p[k] = value;
    store<V>(y + i, p);
  });
}

// x and y may be the same array.
__global__ void subtract_row_kernel(const float* x, const float* __restrict__ row, float* y, int64_t size, int64_t C,
                                    bool vectors) {
  for_each_pack(size, vectors, [=](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    Pack<V> v = load<V>(x + i);
    int64_t c = i % C;
    for (int k = 0; k < V; ++k) {
      v[k] -= row[c];
      c = c + 1 == C ? 0 : c + 1;
    }
    store<V>(y + i, v);
  });
}

}  // namespace

template <MapType T>
void fill(Cuda& cuda, View<T> y, float value) {
  if (y.size() == 0) return;
  launch(fill_kernel<T>, pack_blocks(y.size(), kPack<T>), kBlock, 0, cuda.stream(), y.data(), value, y.size(),
         aligned(y.data()));
}

template <MapType T>
void copy(Cuda& cuda, In<T> x, View<T> y, Accumulate mode) {
  require_same_size("copy", x, y);
  map(cuda, Identity{}, y, mode, x.data());
}

template <MapType T>
void scale(Cuda& cuda, In<T> x, float factor, View<T> y, Accumulate mode) {
  require_same_size("scale", x, y);
  map(cuda, Scale{factor}, y, mode, x.data());
}

template <MapType T>
void add(Cuda& cuda, In<T> a, In<T> b, View<T> y) {
  require_same_size("add", a, y);
  require_same_size("add", b, y);
  map(cuda, Add{}, y, Accumulate::overwrite, a.data(), b.data());
}

void subtract_row(Cuda& cuda, View<const float> x, View<const float> row, View<float> y) {
  check_subtract_row(x, row, y);
  if (y.size() == 0) return;
  launch(subtract_row_kernel, pack_blocks(y.size()), kBlock, 0, cuda.stream(), x.data(), row.data(), y.data(), y.size(),
         row.size(), aligned(x.data(), y.data()));
}

template <MapType T>
void relu(Cuda& cuda, In<T> x, View<T> y) {
  require_same_size("relu", x, y);
  map(cuda, Relu{}, y, Accumulate::overwrite, x.data());
}

template <MapType T>
void add_relu(Cuda& cuda, In<T> a, In<T> b, View<T> y) {
  require_same_size("add_relu", a, y);
  require_same_size("add_relu", b, y);
  map(cuda, AddRelu{}, y, Accumulate::overwrite, a.data(), b.data());
}

template <MapType T>
void relu_backward(Cuda& cuda, In<T> y, In<T> grad_y, View<T> grad_x, Accumulate mode) {
  require_same_size("relu_backward", y, grad_x);
  require_same_size("relu_backward", grad_y, grad_x);
  map(cuda, ReluBackward{}, grad_x, mode, y.data(), grad_y.data());
}

void cast(Cuda& cuda, View<const float> x, View<bfloat16> y, Accumulate mode) {
  require_same_size("cast", x, y);
  map(cuda, Identity{}, y, mode, x.data());
}

void cast(Cuda& cuda, View<const bfloat16> x, View<float> y, Accumulate mode) {
  require_same_size("cast", x, y);
  map(cuda, Identity{}, y, mode, x.data());
}

template void fill(Cuda&, View<float>, float);
template void copy(Cuda&, View<const float>, View<float>, Accumulate);
template void scale(Cuda&, View<const float>, float, View<float>, Accumulate);
template void add(Cuda&, View<const float>, View<const float>, View<float>);
template void relu(Cuda&, View<const float>, View<float>);
template void add_relu(Cuda&, View<const float>, View<const float>, View<float>);
template void relu_backward(Cuda&, View<const float>, View<const float>, View<float>, Accumulate);

template void fill(Cuda&, View<bfloat16>, float);
template void copy(Cuda&, View<const bfloat16>, View<bfloat16>, Accumulate);
template void scale(Cuda&, View<const bfloat16>, float, View<bfloat16>, Accumulate);
template void add(Cuda&, View<const bfloat16>, View<const bfloat16>, View<bfloat16>);
template void relu(Cuda&, View<const bfloat16>, View<bfloat16>);
template void add_relu(Cuda&, View<const bfloat16>, View<const bfloat16>, View<bfloat16>);
template void relu_backward(Cuda&, View<const bfloat16>, View<const bfloat16>, View<bfloat16>, Accumulate);

}  // namespace gradlibra::kernels
