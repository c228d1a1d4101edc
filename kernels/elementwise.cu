// SPDX-License-Identifier: MIT
// Elementwise kernels on the device. A thread owns four neighbouring elements (one where addresses are not 16-byte
// aligned, and in the tail): these kernels move bytes and do little else.
#include "kernels/elementwise.h"
#include "kernels/launch.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {
namespace {

__device__ float positive(float v) { return v < 0 ? 0 : v; }  // this way round NaN stays NaN

// y[i] (+)= f(i's value of each input). f is one of the operations below, all on registers.
template <class F, class... Input>
__global__ void map_kernel(F f, float* y, bool add, int64_t size, bool vectors, Input... inputs) {
  for_each_pack(size, vectors, [=](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    store<V>(y + i, f(load<V>(inputs + i)...), add);
  });
}

struct Scale {
  float factor;
  template <int V>
  __device__ Pack<V> operator()(Pack<V> x) const {
    for (int k = 0; k < V; ++k) x[k] *= factor;
    return x;
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

struct Identity {
  template <int V>
  __device__ Pack<V> operator()(const Pack<V>& x) const {
    return x;
  }
};

template <class F, class... Input>
void map(Cuda& cuda, F f, View<float> y, Accumulate mode, Input... inputs) {
  if (y.size() == 0) return;
  launch(map_kernel<F, Input...>, pack_blocks(y.size()), kBlock, 0, cuda.stream(), f, y.data(), mode == Accumulate::add,
         y.size(), aligned(y.data(), inputs...), inputs...);
}

__global__ void fill_kernel(float* y, float value, int64_t size, bool vectors) {
  for_each_pack(size, vectors, [=](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    Pack<V> p;
    for (int k = 0; k < V; ++k) p[k] = value;
    store<V>(y + i, p);
  });
}

// Four bfloat16 are 8 bytes: one uint2, the first element in the low half of x.
__global__ void to_bfloat16_kernel(const float* x, bfloat16* y, int64_t size, bool vectors) {
  for_each_pack(size, vectors, [=](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    const Pack<V> p = load<V>(x + i);
    if constexpr (V == 4) {
      unsigned half[4];
      for (int k = 0; k < 4; ++k) half[k] = to_bfloat16(p[k]).bits;
      *reinterpret_cast<uint2*>(y + i) = make_uint2(half[0] | half[1] << 16, half[2] | half[3] << 16);
    } else {
      y[i] = to_bfloat16(p[0]);
    }
  });
}

__global__ void to_float_kernel(const bfloat16* x, float* y, int64_t size, bool vectors) {
  for_each_pack(size, vectors, [=](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    if constexpr (V == 4) {
      const uint2 q = *reinterpret_cast<const uint2*>(x + i);
      store<4>(y + i,
               {{__int_as_float(static_cast<int>(q.x << 16)), __int_as_float(static_cast<int>(q.x & 0xffff0000u)),
                 __int_as_float(static_cast<int>(q.y << 16)), __int_as_float(static_cast<int>(q.y & 0xffff0000u))}});
    } else {
      y[i] = to_float(x[i]);
    }
  });
}

}  // namespace

void fill(Cuda& cuda, View<float> y, float value) {
  if (y.size() == 0) return;
  launch(fill_kernel, pack_blocks(y.size()), kBlock, 0, cuda.stream(), y.data(), value, y.size(), aligned(y.data()));
}

void copy(Cuda& cuda, View<const float> x, View<float> y, Accumulate mode) {
  require_same_size("copy", x, y);
  map(cuda, Identity{}, y, mode, x.data());
}

void scale(Cuda& cuda, View<const float> x, float factor, View<float> y, Accumulate mode) {
  require_same_size("scale", x, y);
  map(cuda, Scale{factor}, y, mode, x.data());
}

void relu(Cuda& cuda, View<const float> x, View<float> y) {
  require_same_size("relu", x, y);
  map(cuda, Relu{}, y, Accumulate::overwrite, x.data());
}

void add_relu(Cuda& cuda, View<const float> a, View<const float> b, View<float> y) {
  require_same_size("add_relu", a, y);
  require_same_size("add_relu", b, y);
  map(cuda, AddRelu{}, y, Accumulate::overwrite, a.data(), b.data());
}

void relu_backward(Cuda& cuda, View<const float> y, View<const float> grad_y, View<float> grad_x, Accumulate mode) {
  require_same_size("relu_backward", y, grad_x);
  require_same_size("relu_backward", grad_y, grad_x);
  map(cuda, ReluBackward{}, grad_x, mode, y.data(), grad_y.data());
}

void cast(Cuda& cuda, View<const float> x, View<bfloat16> y) {
  require_same_size("cast", x, y);
  if (y.size() == 0) return;
  launch(to_bfloat16_kernel, pack_blocks(y.size()), kBlock, 0, cuda.stream(), x.data(), y.data(), y.size(),
         aligned(x.data()) && aligned<8>(y.data()));
}

void cast(Cuda& cuda, View<const bfloat16> x, View<float> y) {
  require_same_size("cast", x, y);
  if (y.size() == 0) return;
  launch(to_float_kernel, pack_blocks(y.size()), kBlock, 0, cuda.stream(), x.data(), y.data(), y.size(),
         aligned<8>(x.data()) && aligned(y.data()));
}

}  // namespace gradlibra::kernels
