// SPDX-License-Identifier: MIT
// Device side: 16-byte loads and stores where addresses allow, and loops over flat arrays that use them.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/bfloat16.h"
#include "kernels/launch.h"

namespace gradlibra::kernels {

inline constexpr int kBlock = 256;

// V values that travel together, V = 4 or 1.
template <int V>
struct Pack {
  float at[V];
  __device__ float& operator[](int k) { return at[k]; }
  __device__ const float& operator[](int k) const { return at[k]; }
};

template <int V>
__device__ Pack<V> load(const float* p) {
  if constexpr (V == 4) {
    const float4 q = *reinterpret_cast<const float4*>(p);
    return {{q.x, q.y, q.z, q.w}};
  } else {
    return {{*p}};
  }
}

template <int V>
__device__ void store(float* p, const Pack<V>& v) {
  if constexpr (V == 4) {
    *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
  } else {
    *p = v[0];
  }
}

// p[k] = v[k], or p[k] += v[k].
template <int V>
__device__ void store(float* p, Pack<V> v, bool add) {
  if (add) {
    const Pack<V> old = load<V>(p);
    for (int k = 0; k < V; ++k) v[k] += old[k];
  }
  store<V>(p, v);
}

// Calls body(width, i) for i = 0, 4, 8, ... with width 4, then for the rest with width 1; width is a std::integral_constant.
// Without `aligned`, all with width 1. The threads of the whole grid share the work.
template <class Body>
__device__ void for_each_pack(int64_t size, bool aligned, Body body) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t quads = aligned ? size / 4 : 0;
  for (int64_t i = thread; i < quads; i += threads) body(std::integral_constant<int, 4>{}, 4 * i);
  for (int64_t i = 4 * quads + thread; i < size; i += threads) body(std::integral_constant<int, 1>{}, i);
}

// Whether every address is a multiple of `bytes`.
template <int bytes = 16, class... T>
bool aligned(const T*... p) {
  return (... && (reinterpret_cast<uintptr_t>(p) % bytes == 0));
}

// Blocks of kBlock threads for for_each_pack: one pack per thread until the grid fills any card several times over.
inline unsigned pack_blocks(int64_t size) {
  constexpr int64_t kMaxBlocks = 8192;
  const int64_t blocks = ((size + 3) / 4 + kBlock - 1) / kBlock;
  return static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

// Threads along a row of `items`: whole warps, no more than the row needs.
inline int row_block(int64_t items) { return items < kBlock ? static_cast<int>((items + 31) / 32 * 32) : kBlock; }

// A grid whose x covers the items of a row and whose y, bounded by CUDA's limit, strides over the rows.
inline dim3 row_grid(int64_t items, int64_t rows) {
  constexpr int64_t kMaxY = 65535;
  return dim3(blocks_for(items, row_block(items)), static_cast<unsigned>(rows < kMaxY ? rows : kMaxY));
}

}  // namespace gradlibra::kernels
