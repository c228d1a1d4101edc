// SPDX-License-Identifier: MIT
// What `benchmark kernels` measures: every kernel at the shapes that RepPoints on ResNet-50 with FPN gives it.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/random.h"
#include "runtime/device/context.h"

namespace gradlibra {

// Least traffic and arithmetic of one call: every input read once, every output written once, and what the formula
// says. A kernel that reads something twice shows as a lower rate.
struct Effort {
  double bytes = 0;
  double flops = 0;        // a multiply-add is two; 0 where moving the data is all there is
  bool is_matrix = false;  // judged by the device's matrix rate, not by its copy rate
};

// One measured call. `run` owns nothing: it lives no longer than the CaseMemory that it was made with.
struct Work {
  Effort effort;
  std::function<void()> run;
};

// Memory of one case and the random values in it.
class CaseMemory {
 public:
  explicit CaseMemory(Context& context) : context_(context) {}

  [[nodiscard]] Context& context() { return context_; }

  // Uniform in [low, high).
  template <class T = float>
  [[nodiscard]] View<T> random(Shape shape, double low = -1, double high = 1) {
    std::vector<T> values(static_cast<size_t>(std::min(shape.size(), kDistinct)));
    for (T& v : values) v = make_value<T>(random_.uniform(low, high));
    return repeated(shape, values);
  }
  // 0 to below - 1.
  [[nodiscard]] View<int32_t> random_int(Shape shape, int64_t below) {
    std::vector<int32_t> values(static_cast<size_t>(std::min(shape.size(), kDistinct)));
    for (int32_t& v : values) v = static_cast<int32_t>(random_.uniform_int(below));
    return repeated(shape, values);
  }
  // Boxes (..., 4) with sides of `least` to `most` pixels inside a square image of `size` pixels.
  [[nodiscard]] View<float> boxes(Shape shape, int64_t size, double least, double most);
  template <class T>
  [[nodiscard]] View<T> upload(Shape shape, const std::vector<T>& values) {
    return own(context_.upload<T>(values, shape)).template view<T>();
  }
  // All zero, so that a kernel that adds to it stays finite.
  template <class T = float>
  [[nodiscard]] View<T> output(Shape shape) {
    return own(context_.zeros(shape, dtype_of<T>())).template view<T>();
  }

  // body(executor) as the measured call.
  template <class Body>
  [[nodiscard]] Work work(const Effort& effort, Body body) {
    return {effort, [&context = context_, body] { context.run(body); }};
  }

 private:
  // Different values in an array, which then repeat: making hundreds of millions would take longer than the
  // measurement.
  static constexpr int64_t kDistinct = 1 << 18;

  template <class T>
  static T make_value(double v) {
    if constexpr (std::is_same_v<T, bfloat16>)
      return to_bfloat16(static_cast<float>(v));
    else
      return static_cast<T>(v);
  }
  template <class T>
  View<T> repeated(const Shape& shape, const std::vector<T>& values) {
    Tensor& tensor = own(context_.empty(shape, dtype_of<T>()));
    const auto part = [&](int64_t begin, int64_t count) {
      return Tensor::borrow(tensor.view<T>().data() + begin, {count});
    };
    const auto count = static_cast<int64_t>(values.size());
    Tensor first = part(0, count);
    context_.upload<T>(values, first);
    for (int64_t begin = count; begin < shape.size(); begin += count) {
      const int64_t rest = std::min(count, shape.size() - begin);
      Tensor to = part(begin, rest);
      context_.copy(part(0, rest), to);
    }
    return tensor.view<T>();
  }
  Tensor& own(Tensor tensor) { return tensors_.emplace_back(std::move(tensor)); }

  Context& context_;
  RandomStream random_{1};
  std::deque<Tensor> tensors_;
};

template <class... T>
double bytes_of(const View<T>&... views) {
  return (0.0 + ... + static_cast<double>(views.size() * static_cast<int64_t>(sizeof(T))));
}

struct KernelCase {
  std::string kernel;  // the function's name; ".backward_data" and the like name a method of Convolution
  std::string shape;   // of the map that it works on, and what else tells two cases of a kernel apart
  std::string dtype;   // of that map
  std::function<Work(CaseMemory&)> prepare;
};

// What the shapes follow from: N square images of `size` pixels (a multiple of 32).
struct CaseSizes {
  int64_t N = 8, size = 512;
  int64_t channels = 256, classes = 10, max_boxes = 512;
  int64_t parameters = 36'600'000;                                      // trainable values, about
  [[nodiscard]] int64_t level(int l) const { return (size / 8) >> l; }  // side of pyramid level 0 to 4, at least 1
  [[nodiscard]] Shape level_map(int l) const {
    const int64_t side = std::max<int64_t>(level(l), 1);
    return {N, side, side, channels};
  }
  [[nodiscard]] int64_t cells() const;  // of all levels
};
inline constexpr int kLevels = 5;
// (cells, 3): x, y of every cell's corner and the stride of its level.
[[nodiscard]] std::vector<float> cell_priors(const CaseSizes& sizes);

// In six files by what the kernels work on. T: storage of feature maps.
template <class T>
void add_map_cases(const CaseSizes& sizes, std::vector<KernelCase>& cases);
template <class T>
void add_convolution_cases(const CaseSizes& sizes, std::vector<KernelCase>& cases);
// Points, boxes, losses and parameters: float32 whatever the maps are.
void add_detection_cases(const CaseSizes& sizes, std::vector<KernelCase>& cases);
// What heads with one prediction per cell have beside that: FCOS.
void add_dense_cases(const CaseSizes& sizes, std::vector<KernelCase>& cases);
// With anchors: ATSS and YOLOF.
void add_anchor_cases(const CaseSizes& sizes, std::vector<KernelCase>& cases);
void add_loss_cases(const CaseSizes& sizes, std::vector<KernelCase>& cases);

// All of them; with `mixed` for maps of either type.
[[nodiscard]] std::vector<KernelCase> kernel_cases(const CaseSizes& sizes, bool mixed);

template <class T>
constexpr const char* dtype_name() {
  return std::is_same_v<T, bfloat16> ? "bf16" : "f32";
}

}  // namespace gradlibra
