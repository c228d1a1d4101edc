// SPDX-License-Identifier: MIT
// A feature map, or a weight of its type, behind a virtual function, which cannot be a template over float and
// bfloat16.
#pragma once

#include <type_traits>

#include "runtime/device/tensor.h"

namespace gradlibra {

// A loan like View, whose element type (float or bfloat16) is known at run time. Pointer is void* or const void*.
template <class Pointer>
class BasicMap {
  static constexpr bool kConst = std::is_same_v<Pointer, const void*>;
  template <class T>
  using Element = std::conditional_t<kConst, const T, T>;

 public:
  BasicMap() = default;
  BasicMap(Pointer data, Shape shape, DType dtype) : data_(data), shape_(shape), dtype_(dtype) {}
  template <class T>
  BasicMap(const View<T>& view)  // NOLINT: a view is a map
      : data_(view.data()), shape_(view.shape()), dtype_(dtype_of<std::remove_const_t<T>>()) {}
  BasicMap(std::conditional_t<kConst, const Tensor&, Tensor&> tensor)  // NOLINT: so is a tensor
      : data_(tensor.data()), shape_(tensor.shape()), dtype_(tensor.dtype()) {}
  template <class Other>
  requires(kConst&& std::is_same_v<Other, void*>) BasicMap(const BasicMap<Other>& other)  // NOLINT: reading is allowed
      : data_(other.data()), shape_(other.shape()), dtype_(other.dtype()) {}

  [[nodiscard]] Pointer data() const { return data_; }
  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] int64_t dim(int i) const { return shape_.dim(i); }
  [[nodiscard]] int64_t size() const { return shape_.size(); }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] bool empty() const { return data_ == nullptr; }

  template <class T = float>
  [[nodiscard]] View<Element<T>> view() const {
    if (dtype_of<T>() != dtype_) throw std::logic_error("map: viewed as another type than it holds");
    return {static_cast<Element<T>*>(data_), shape_};
  }
  // The same elements under another shape of the same size.
  [[nodiscard]] BasicMap reshaped(Shape shape) const {
    require(shape.size() == size(), "map", shape.to_string() + " of a map " + shape_.to_string());
    return {data_, shape, dtype_};
  }

 private:
  Pointer data_ = nullptr;
  Shape shape_;
  DType dtype_ = DType::f32;
};

using Map = BasicMap<void*>;
using ConstMap = BasicMap<const void*>;

}  // namespace gradlibra
