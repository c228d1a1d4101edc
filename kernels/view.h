// SPDX-License-Identifier: MIT
// A pointer with a shape: what every kernel takes instead of an owning tensor.
#pragma once

#include <array>
#include <cassert>
#include <cstdint>
#include <initializer_list>
#include <source_location>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace gradlibra {

// Dimensions of a dense row-major array, outermost first; at most five of them.
class Shape {
 public:
  static constexpr int kMaxRank = 5;

  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<int64_t> dims) {
    if (dims.size() > kMaxRank) throw std::invalid_argument("Shape: more than five dimensions");
    for (const int64_t d : dims) dims_[rank_++] = d;
  }
  explicit Shape(std::span<const int64_t> dims) {
    if (dims.size() > kMaxRank) throw std::invalid_argument("Shape: more than five dimensions");
    for (const int64_t d : dims) dims_[rank_++] = d;
  }

  [[nodiscard]] constexpr int rank() const { return rank_; }
  // A negative index counts from the back: dim(-1) is the innermost dimension.
  [[nodiscard]] constexpr int64_t dim(int i) const { return dims_[i < 0 ? rank_ + i : i]; }
  [[nodiscard]] constexpr int64_t operator[](int i) const { return dim(i); }
  // Number of elements; 1 for rank 0.
  [[nodiscard]] constexpr int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  [[nodiscard]] std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(rank_)}; }
  friend constexpr bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a.dims_[i] != b.dims_[i]) return false;
    return true;
  }
  // "(8, 64, 64, 256)"
  [[nodiscard]] std::string to_string() const {
    std::string s = "(";
    for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string(dims_[i]);
    return s + ")";
  }

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

// A loan of a dense row-major array: pointer and shape, no ownership.
template <class T>
class View {
 public:
  constexpr View() = default;
  constexpr View(T* data, Shape shape) : data_(data), shape_(shape) {}
  // View<T> converts to View<const T>.
  template <class U>
  requires(std::is_same_v<const U, T>) constexpr View(const View<U>& other)
      : data_(other.data()), shape_(other.shape()) {}  // NOLINT

  [[nodiscard]] constexpr T* data() const { return data_; }
  [[nodiscard]] constexpr const Shape& shape() const { return shape_; }
  [[nodiscard]] constexpr int rank() const { return shape_.rank(); }
  [[nodiscard]] constexpr int64_t dim(int i) const { return shape_.dim(i); }
  [[nodiscard]] constexpr int64_t size() const { return shape_.size(); }
  // Flat index, host memory only.
  [[nodiscard]] constexpr T& operator[](int64_t i) const { return data_[i]; }
  [[nodiscard]] std::span<T> span() const { return {data_, static_cast<size_t>(size())}; }

 private:
  T* data_ = nullptr;
  Shape shape_;
};

// Whether a backward kernel replaces what its output holds or adds to it.
enum class Accumulate { overwrite, add };

// Throws `std::invalid_argument` "op: name has shape (..), expected (..)" when the shapes differ.
inline void require_shape(const char* op, const char* name, const Shape& shape, const Shape& expected) {
  if (shape == expected) return;
  throw std::invalid_argument(std::string(op) + ": " + name + " has shape " + shape.to_string() + ", expected " +
                              expected.to_string());
}
template <class T>
void require_shape(const char* op, const char* name, const View<T>& view, const Shape& expected) {
  require_shape(op, name, view.shape(), expected);
}

// Throws `std::invalid_argument` "op: message" unless `condition` holds.
inline void require(bool condition, const char* op, const std::string& message) {
  if (!condition) throw std::invalid_argument(std::string(op) + ": " + message);
}

}  // namespace gradlibra
