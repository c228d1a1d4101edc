// SPDX-License-Identifier: MIT
// Tensor: a dense array on one device that owns its memory (or borrows a part of a larger block).
#pragma once

#include <stdexcept>
#include <utility>

#include "kernels/bfloat16.h"
#include "kernels/view.h"
#include "runtime/device/memory_pool.h"

namespace gradlibra {

enum class DType { f32, bf16, f64, i32, i64, u8 };

[[nodiscard]] constexpr size_t size_of(DType type) {
  switch (type) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<bfloat16>() {
  return DType::bf16;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::f64;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::i32;
}
template <>
constexpr DType dtype_of<int64_t>() {
  return DType::i64;
}
template <>
constexpr DType dtype_of<uint8_t>() {
  return DType::u8;
}

// Row-major; activations are NHWC, convolution weights KRSC. Moves, does not copy. Contents start undefined.
class Tensor {
 public:
  Tensor() = default;
  Tensor(MemoryPool& pool, Shape shape, DType dtype)
      : pool_(&pool), shape_(shape), dtype_(dtype), data_(pool.take(bytes())) {}
  // A loan of memory that somebody else owns and keeps.
  template <class T>
  static Tensor borrow(T* data, Shape shape) {
    Tensor t;
    t.shape_ = shape;
    t.dtype_ = dtype_of<T>();
    t.data_ = data;
    return t;
  }
  static Tensor borrow(void* data, Shape shape, DType dtype) {
    Tensor t;
    t.shape_ = shape;
    t.dtype_ = dtype;
    t.data_ = data;
    return t;
  }
  Tensor(Tensor&& other) noexcept { swap(other); }
  Tensor& operator=(Tensor&& other) noexcept {
    Tensor moved(std::move(other));
    swap(moved);
    return *this;
  }
  ~Tensor() {
    if (pool_ != nullptr) pool_->give(data_, bytes());
  }

  [[nodiscard]] bool empty() const { return data_ == nullptr; }  // default-constructed or moved-from
  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] int64_t dim(int i) const { return shape_.dim(i); }
  [[nodiscard]] int64_t size() const { return shape_.size(); }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] size_t bytes() const { return static_cast<size_t>(shape_.size()) * size_of(dtype_); }
  [[nodiscard]] void* data() { return data_; }
  [[nodiscard]] const void* data() const { return data_; }

  template <class T = float>
  [[nodiscard]] View<T> view() {
    require_dtype(dtype_of<T>());
    return {static_cast<T*>(data_), shape_};
  }
  template <class T = float>
  [[nodiscard]] View<const T> view() const {
    require_dtype(dtype_of<T>());
    return {static_cast<const T*>(data_), shape_};
  }
  // The same elements under another shape of the same size.
  template <class T = float>
  [[nodiscard]] View<T> view(Shape shape) {
    require(shape.size() == size(), "Tensor::view", shape.to_string() + " of a tensor " + shape_.to_string());
    return {view<T>().data(), shape};
  }
  template <class T = float>
  [[nodiscard]] View<const T> view(Shape shape) const {
    require(shape.size() == size(), "Tensor::view", shape.to_string() + " of a tensor " + shape_.to_string());
    return {view<T>().data(), shape};
  }

 private:
  void swap(Tensor& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(shape_, other.shape_);
    std::swap(dtype_, other.dtype_);
    std::swap(data_, other.data_);
  }
  void require_dtype(DType wanted) const {
    if (wanted != dtype_) throw std::logic_error("Tensor: viewed as another type than it holds");
  }

  MemoryPool* pool_ = nullptr;
  Shape shape_;
  DType dtype_ = DType::f32;
  void* data_ = nullptr;
};

}  // namespace gradlibra
