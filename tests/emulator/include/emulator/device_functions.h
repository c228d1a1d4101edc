// SPDX-License-Identifier: MIT
// CUDA's device functions, at global scope as in CUDA: barriers, warp operations, atomics, bits, rounding.
#pragma once

#include <math.h>

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "emulator/block.h"

// Barriers -------------------------------------------------------------------------------------------------------

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  gradlibra::emulator::block_barrier(false, where);
}
inline int __syncthreads_count(int p, std::source_location where = std::source_location::current()) {
  return static_cast<int>(gradlibra::emulator::block_barrier(p != 0, where));
}
inline int __syncthreads_or(int p, std::source_location where = std::source_location::current()) {
  return gradlibra::emulator::block_barrier(p != 0, where) > 0;
}
inline int __syncthreads_and(int p, std::source_location where = std::source_location::current()) {
  return gradlibra::emulator::block_barrier(p != 0, where) == blockDim.x * blockDim.y * blockDim.z;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, std::source_location where = std::source_location::current()) {
  gradlibra::emulator::warp_collective(gradlibra::emulator::WarpOp::sync, mask, 0, 0, 32, where);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
[[noreturn]] inline void __trap(std::source_location where = std::source_location::current()) {
  gradlibra::emulator::trap(where);
}

// Warp operations ------------------------------------------------------------------------------------------------

namespace gradlibra::emulator {

// The types that CUDA's shuffles take.
template <class T>
concept Shuffled = std::same_as<T, int> || std::same_as<T, unsigned> || std::same_as<T, long> ||
    std::same_as<T, unsigned long> || std::same_as<T, long long> || std::same_as<T, unsigned long long> ||
    std::same_as<T, float> || std::same_as<T, double>;

template <class T>
T shuffle(WarpOp op, unsigned mask, T value, int operand, int width, std::source_location where) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_collective(op, mask, bits, operand, width, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace gradlibra::emulator

template <gradlibra::emulator::Shuffled T>
T __shfl_sync(unsigned mask, T value, int source_lane, int width = 32,
              std::source_location where = std::source_location::current()) {
  return gradlibra::emulator::shuffle(gradlibra::emulator::WarpOp::shuffle_index, mask, value, source_lane, width,
                                      where);
}
template <gradlibra::emulator::Shuffled T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 std::source_location where = std::source_location::current()) {
  return gradlibra::emulator::shuffle(gradlibra::emulator::WarpOp::shuffle_up, mask, value, static_cast<int>(delta),
                                      width, where);
}
template <gradlibra::emulator::Shuffled T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   std::source_location where = std::source_location::current()) {
  return gradlibra::emulator::shuffle(gradlibra::emulator::WarpOp::shuffle_down, mask, value, static_cast<int>(delta),
                                      width, where);
}
template <gradlibra::emulator::Shuffled T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  std::source_location where = std::source_location::current()) {
  return gradlibra::emulator::shuffle(gradlibra::emulator::WarpOp::shuffle_xor, mask, value, lane_mask, width, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              std::source_location where = std::source_location::current()) {
  return static_cast<unsigned>(
      gradlibra::emulator::warp_collective(gradlibra::emulator::WarpOp::ballot, mask, predicate != 0, 0, 32, where));
}
inline int __any_sync(unsigned mask, int predicate, std::source_location where = std::source_location::current()) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, std::source_location where = std::source_location::current()) {
  return __ballot_sync(mask, predicate, where) == mask;
}
inline unsigned __match_any_sync(unsigned mask, unsigned value,
                                 std::source_location where = std::source_location::current()) {
  return static_cast<unsigned>(
      gradlibra::emulator::warp_collective(gradlibra::emulator::WarpOp::match, mask, value, 0, 32, where));
}
inline unsigned __activemask() { return gradlibra::emulator::active_lanes(); }

// Atomics --------------------------------------------------------------------------------------------------------
// Threads change only at barriers, so plain arithmetic is atomic here. For integers alone, in CUDA's types: a
// floating-point atomic adds in the order of arrival, and results would differ from run to run.

namespace gradlibra::emulator {
template <class T>
concept Atomic32or64 = std::same_as<T, int> || std::same_as<T, unsigned> || std::same_as<T, unsigned long long>;
template <class T>
concept AtomicOrdered = Atomic32or64<T> || std::same_as<T, long long>;

// `value` is converted to the type that the address points to, as CUDA's overloads do.
template <class T>
struct Same {
  using type = T;
};
template <class T>
using SameT = typename Same<T>::type;

template <class T>
T exchange(T* address, T value) {
  const T old = *address;
  *address = value;
  return old;
}
}  // namespace gradlibra::emulator

template <gradlibra::emulator::Atomic32or64 T>
T atomicAdd(T* address, gradlibra::emulator::SameT<T> value) {
  using U = std::make_unsigned_t<T>;  // wraps, as on the device
  return gradlibra::emulator::exchange(address, static_cast<T>(static_cast<U>(*address) + static_cast<U>(value)));
}
template <class T>
requires(std::same_as<T, int> || std::same_as<T, unsigned>) T
    atomicSub(T* address, gradlibra::emulator::SameT<T> value) {
  return gradlibra::emulator::exchange(address,
                                       static_cast<T>(static_cast<unsigned>(*address) - static_cast<unsigned>(value)));
}
template <gradlibra::emulator::AtomicOrdered T>
T atomicMax(T* address, gradlibra::emulator::SameT<T> value) {
  return gradlibra::emulator::exchange(address, *address < value ? value : *address);
}
template <gradlibra::emulator::AtomicOrdered T>
T atomicMin(T* address, gradlibra::emulator::SameT<T> value) {
  return gradlibra::emulator::exchange(address, value < *address ? value : *address);
}
template <gradlibra::emulator::Atomic32or64 T>
T atomicCAS(T* address, gradlibra::emulator::SameT<T> compare, gradlibra::emulator::SameT<T> value) {
  return gradlibra::emulator::exchange(address, *address == compare ? value : *address);
}
template <gradlibra::emulator::Atomic32or64 T>
T atomicExch(T* address, gradlibra::emulator::SameT<T> value) {
  return gradlibra::emulator::exchange(address, static_cast<T>(value));
}
template <gradlibra::emulator::Atomic32or64 T>
T atomicOr(T* address, gradlibra::emulator::SameT<T> value) {
  return gradlibra::emulator::exchange(address, static_cast<T>(*address | value));
}
template <gradlibra::emulator::Atomic32or64 T>
T atomicAnd(T* address, gradlibra::emulator::SameT<T> value) {
  return gradlibra::emulator::exchange(address, static_cast<T>(*address & value));
}
template <gradlibra::emulator::Atomic32or64 T>
T atomicXor(T* address, gradlibra::emulator::SameT<T> value) {
  return gradlibra::emulator::exchange(address, static_cast<T>(*address ^ value));
}

// Memory and bits ------------------------------------------------------------------------------------------------

template <class T>
T __ldg(const T* address) {
  return *address;
}
inline int __popc(unsigned v) { return std::popcount(v); }
inline int __popcll(unsigned long long v) { return std::popcount(v); }
inline int __ffs(int v) { return v == 0 ? 0 : std::countr_zero(static_cast<unsigned>(v)) + 1; }
inline int __ffsll(long long v) { return v == 0 ? 0 : std::countr_zero(static_cast<unsigned long long>(v)) + 1; }
inline int __clz(int v) { return std::countl_zero(static_cast<unsigned>(v)); }
inline int __clzll(long long v) { return std::countl_zero(static_cast<unsigned long long>(v)); }
inline unsigned __brev(unsigned v) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= ((v >> bit) & 1u) << (31 - bit);
  return reversed;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} * b) >> 32); }
inline int __float_as_int(float v) { return std::bit_cast<int>(v); }
inline unsigned __float_as_uint(float v) { return std::bit_cast<unsigned>(v); }
inline float __int_as_float(int v) { return std::bit_cast<float>(v); }
inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }
inline long long __double_as_longlong(double v) { return std::bit_cast<long long>(v); }
inline double __longlong_as_double(long long v) { return std::bit_cast<double>(v); }

// Arithmetic with a stated rounding ------------------------------------------------------------------------------

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline double __dsqrt_rn(double a) { return sqrt(a); }

namespace gradlibra::emulator {
// Out of range saturates and NaN gives 0, or the lowest value for 64 bits (PTX ISA, cvt).
template <class To, class From>
To saturating_cast(From rounded) {
  constexpr From kBound = std::is_signed_v<To> ? From(uint64_t{1} << (8 * sizeof(To) - 1))
                                               : From(uint64_t{1} << (8 * sizeof(To) - 1)) * From(2);
  constexpr To kLowest = std::is_signed_v<To> ? To(uint64_t{1} << (8 * sizeof(To) - 1)) : To(0);
  if (rounded != rounded) return sizeof(To) == 8 ? To(uint64_t{1} << 63) : To(0);
  if (rounded >= kBound) return static_cast<To>(~kLowest);
  if (rounded < (std::is_signed_v<To> ? -kBound : From(0))) return kLowest;
  return static_cast<To>(rounded);
}
}  // namespace gradlibra::emulator

inline int __float2int_rn(float v) { return gradlibra::emulator::saturating_cast<int>(rintf(v)); }
inline int __float2int_rd(float v) { return gradlibra::emulator::saturating_cast<int>(floorf(v)); }
inline int __float2int_ru(float v) { return gradlibra::emulator::saturating_cast<int>(ceilf(v)); }
inline int __float2int_rz(float v) { return gradlibra::emulator::saturating_cast<int>(truncf(v)); }
inline unsigned __float2uint_rn(float v) { return gradlibra::emulator::saturating_cast<unsigned>(rintf(v)); }
inline long long __float2ll_rn(float v) { return gradlibra::emulator::saturating_cast<long long>(rintf(v)); }
inline int __double2int_rn(double v) { return gradlibra::emulator::saturating_cast<int>(rint(v)); }
inline long long __double2ll_rn(double v) { return gradlibra::emulator::saturating_cast<long long>(rint(v)); }
inline unsigned long long __double2ull_rn(double v) {
  return gradlibra::emulator::saturating_cast<unsigned long long>(rint(v));
}
inline float __int2float_rn(int v) { return static_cast<float>(v); }
inline float __uint2float_rn(unsigned v) { return static_cast<float>(v); }
inline float __ll2float_rn(long long v) { return static_cast<float>(v); }
inline double __ll2double_rn(long long v) { return static_cast<double>(v); }
inline double __int2double_rn(int v) { return static_cast<double>(v); }
inline float __double2float_rn(double v) { return static_cast<float>(v); }

// Mathematics that <math.h> has not ------------------------------------------------------------------------------

inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
inline double rsqrt(double v) { return 1.0 / sqrt(v); }
inline float __saturatef(float v) { return v > 0 ? (v < 1 ? v : 1.0f) : 0.0f; }

// As in CUDA: for two arithmetic values, in their common type; NaN loses to a number.
template <class A, class B>
requires(std::is_arithmetic_v<A>&& std::is_arithmetic_v<B>) constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>)
    return std::fmin(T(a), T(b));
  else
    return T(a) < T(b) ? T(a) : T(b);
}
template <class A, class B>
requires(std::is_arithmetic_v<A>&& std::is_arithmetic_v<B>) constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>)
    return std::fmax(T(a), T(b));
  else
    return T(a) < T(b) ? T(b) : T(a);
}
