// SPDX-License-Identifier: MIT
// Device side: 16-byte loads and stores where addresses allow, and loops over flat arrays that use them.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "kernels/bfloat16.h"
#include "kernels/launch.h"
#include "kernels/map_type.h"

namespace gradlibra::kernels {

inline constexpr int kBlock = 256;

// How many values a thread moves at a time: 16 bytes of the narrowest type, 4 float or 8 bfloat16.
template <MapType... T>
inline constexpr int kPack = (... || std::same_as<T, bfloat16>) ? 8 : 4;

// V values that travel together, as float whatever they are stored as. V = 8, 4 (float only) or 1.
template <int V>
struct Pack {
  float at[V];
  __device__ float& operator[](int k) { return at[k]; }
  __device__ const float& operator[](int k) const { return at[k]; }
};

template <int V>
__device__ Pack<V> load(const float* p) {
  Pack<V> v;
  if constexpr (V == 1) {
    v[0] = *p;
  } else {
    for (int k = 0; k < V; k += 4) {
      const float4 q = *reinterpret_cast<const float4*>(p + k);
      v[k] = q.x, v[k + 1] = q.y, v[k + 2] = q.z, v[k + 3] = q.w;
    }
  }
  return v;
}

// Of two neighbouring bfloat16 the first is the low half of their word.
template <int V>
__device__ Pack<V> load(const bfloat16* p) {
  static_assert(V == 8 || V == 1);
  Pack<V> v;
  if constexpr (V == 1) {
    v[0] = to_float(*p);
  } else {
    const uint4 q = *reinterpret_cast<const uint4*>(p);
    const unsigned words[4] = {q.x, q.y, q.z, q.w};
    for (int k = 0; k < 4; ++k) {
      v[2 * k] = __uint_as_float(words[k] << 16);
      v[2 * k + 1] = __uint_as_float(words[k] & 0xffff0000u);
    }
  }
  return v;
}

template <int V>
__device__ void store(float* p, const Pack<V>& v) {
  if constexpr (V == 1) {
    *p = v[0];
  } else {
    for (int k = 0; k < V; k += 4) *reinterpret_cast<float4*>(p + k) = make_float4(v[k], v[k + 1], v[k + 2], v[k + 3]);
  }
}

// Two values as stored, the first in the low half: to_bfloat16 in one instruction instead of a dozen, but for the bits
// of a NaN, which stays one. The host compiler of the emulator takes the long way.
__device__ inline unsigned pack_bfloat16(float first, float second) {
#ifdef __CUDA_ARCH__
  unsigned word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  return word;
#else
  return to_bfloat16(first).bits | static_cast<unsigned>(to_bfloat16(second).bits) << 16;
#endif
}

template <int V>
__device__ void store(bfloat16* p, const Pack<V>& v) {
  static_assert(V == 8 || V == 1);
  if constexpr (V == 1) {
    *p = to_bfloat16(v[0]);
  } else {
    unsigned words[4];
    for (int k = 0; k < 4; ++k) words[k] = pack_bfloat16(v[2 * k], v[2 * k + 1]);
    *reinterpret_cast<uint4*>(p) = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

// p[k] = v[k], or p[k] += v[k] in float.
template <int V, MapType T>
__device__ void store(T* p, Pack<V> v, bool add) {
  if (add) {
    const Pack<V> old = load<V>(p);
    for (int k = 0; k < V; ++k) v[k] += old[k];
  }
  store<V>(p, v);
}

// Calls body(width, i) for i = 0, V, 2 V, ... with width V, then for the rest with width 1; width is a
// std::integral_constant. Without `aligned`, all with width 1. `threads` threads share the work, of which this one is
// number `thread`.
template <int V, class Body>
__device__ void for_each_pack(int64_t size, bool aligned, int64_t thread, int64_t threads, Body body) {
  const int64_t packs = aligned ? size / V : 0;
  for (int64_t i = thread; i < packs; i += threads) body(std::integral_constant<int, V>{}, V * i);
  for (int64_t i = V * packs + thread; i < size; i += threads) body(std::integral_constant<int, 1>{}, i);
}

// The same shared by the threads of the whole grid.
template <int V = 4, class Body>
__device__ void for_each_pack(int64_t size, bool aligned, Body body) {
  for_each_pack<V>(size, aligned, static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x,
                   static_cast<int64_t>(gridDim.x) * blockDim.x, body);
}

// Whether every address is a multiple of `bytes`.
template <int bytes = 16, class... T>
bool aligned(const T*... p) {
  return (... && (reinterpret_cast<uintptr_t>(p) % bytes == 0));
}

// Host side: calls body(V) with how many channels of a map in T a thread moves at a time, as a std::integral_constant:
// a whole pack where their number and the addresses allow, else one.
template <MapType T, class Body>
void with_pack(int64_t channels, bool aligned, Body body) {
  if (aligned && channels % kPack<T> == 0)
    body(std::integral_constant<int, kPack<T>>{});
  else
    body(std::integral_constant<int, 1>{});
}

// Blocks of kBlock threads for for_each_pack: one pack per thread until the grid fills any card several times over.
inline unsigned pack_blocks(int64_t size, int V = 4) {
  constexpr int64_t kMaxBlocks = 8192;
  const int64_t blocks = ((size + V - 1) / V + kBlock - 1) / kBlock;
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
