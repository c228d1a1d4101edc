// SPDX-License-Identifier: MIT
// CUDA reductions against the host versions, and that they give the same bits again.
#include "kernels/reduce.h"

#include <utility>
#include "tests/cuda/device_array.h"

#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class ReduceCuda : public CudaTest {
 protected:
  template <class T>
  void compare_sum_rows(const Shape& shape, Accumulate mode) {
    SCOPED_TRACE(shape.to_string());
    const int64_t C = shape.dim(-1);
    const Shape workspace_shape{C == 0 ? 0 : sum_rows_workspace(shape.size() / C, C)};
    const std::vector<T> x = stored<T>(random_floats(shape.size(), rng));
    std::vector<float> out = random_floats(C, rng), workspace(static_cast<size_t>(workspace_shape[0]));
    const DeviceArray<T> dev_x(shape, x);
    DeviceArray<float> dev_out({C}, mode == Accumulate::add ? out : std::vector<float>(out.size(), NAN));
    DeviceArray<float> dev_workspace(workspace_shape);
    sum_rows(cpu, {x.data(), shape}, {out.data(), {C}}, mode, {workspace.data(), workspace_shape});
    sum_rows(cuda, dev_x.view(), dev_out.view(), mode, dev_workspace.view());
    expect_near_or_nan(dev_out.to_host(), out, 5e-5, 0);  // up to 2500 values below 1, summed in float within a chunk
  }
  // skip: elements before the views, so that they are not aligned.
  template <class T>
  void compare_relu_backward_sum_rows(const Shape& shape, int64_t skip, Accumulate mode) {
    SCOPED_TRACE(shape.to_string() + ", skip " + std::to_string(skip));
    const int64_t C = shape.dim(-1), size = shape.size() + skip;
    const Shape workspace_shape{C == 0 ? 0 : sum_rows_workspace(shape.size() / C, C)};
    std::vector<float> values = random_floats(size, rng);
    for (size_t i = 5; i < values.size(); i += 7) values[i] = 0;  // exactly at the kink
    const std::vector<T> y = stored<T>(values), grad_y = stored<T>(random_floats(size, rng));
    std::vector<T> grad_x(y.size());
    std::vector<float> out = random_floats(C, rng), workspace(static_cast<size_t>(workspace_shape[0]));
    const DeviceArray<T> dev_y({size}, y);
    DeviceArray<T> dev_grad_y({size}, grad_y), dev_grad_x({size});
    DeviceArray<float> dev_out({C}, mode == Accumulate::add ? out : std::vector<float>(out.size(), NAN));
    DeviceArray<float> dev_workspace(workspace_shape);
    const auto at = [&](auto* data) { return View<std::remove_pointer_t<decltype(data)>>(data + skip, shape); };
    relu_backward_sum_rows<T>(cpu, at(y.data()), at(grad_y.data()), at(grad_x.data()), {out.data(), {C}}, mode,
                              {workspace.data(), workspace_shape});
    relu_backward_sum_rows<T>(cuda, at(dev_y.view().data()), at(std::as_const(dev_grad_y).view().data()),
                              at(dev_grad_x.view().data()), dev_out.view(), mode, dev_workspace.view());
    expect_near_or_nan(dev_out.to_host(), out, 5e-5, 0);
    const auto without = [&](const std::vector<T>& all) {
      return widened(std::vector<T>(all.begin() + skip, all.end()));
    };
    EXPECT_EQ(without(dev_grad_x.to_host()), without(grad_x));
    // In place, and the sums of sum_rows to the bit.
    DeviceArray<float> again({C}), sums({C});
    relu_backward_sum_rows<T>(cuda, at(dev_y.view().data()), at(std::as_const(dev_grad_y).view().data()),
                              at(dev_grad_y.view().data()), again.view(), Accumulate::overwrite, dev_workspace.view());
    EXPECT_EQ(without(dev_grad_y.to_host()), without(grad_x));
    sum_rows(cuda, at(std::as_const(dev_grad_x).view().data()), sums.view(), Accumulate::overwrite,
             dev_workspace.view());
    EXPECT_EQ(again.to_host(), sums.to_host());
  }
  std::mt19937 rng{1};
  Cpu cpu{1};
};

TEST_F(ReduceCuda, SumOfSquaresEqualsHost) {
  for (const int64_t size : {0, 1, 3, 255, 1000, 16384, 16385, 50001})
    for (const int64_t skip : {0, 1})
      for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
        SCOPED_TRACE("size " + std::to_string(size) + ", skip " + std::to_string(skip));
        const std::vector<float> x = random_floats(size + skip, rng);
        const DeviceArray<float> dev_x({size + skip}, x);
        const View<const float> host(x.data() + skip, {size}), device(dev_x.view().data() + skip, {size});
        const Shape workspace_shape{reduce_workspace(size)};
        std::vector<double> out{3}, workspace(static_cast<size_t>(workspace_shape[0]));
        DeviceArray<double> dev_out({1}, out), dev_workspace(workspace_shape);
        sum_squares(cpu, host, {out.data(), {1}}, mode, {workspace.data(), workspace_shape});
        sum_squares(cuda, device, dev_out.view(), mode, dev_workspace.view());
        expect_near_or_nan(dev_out.to_host(), out, 1e-10, 1e-12);  // double, in another order
        if (mode == Accumulate::add) continue;
        const std::vector<double> first = dev_out.to_host();
        sum_squares(cuda, device, dev_out.view(), mode, dev_workspace.view());
        EXPECT_EQ(dev_out.to_host(), first);
      }
}

TEST_F(ReduceCuda, SumRowSquaresEqualsHost) {
  for (const Shape& shape : {Shape{0, 5}, Shape{3, 0}, Shape{1, 1}, Shape{10, 256}, Shape{7, 333}, Shape{60, 1000}}) {
    const std::vector<float> x = random_floats(shape.size(), rng);
    std::vector<double> out(static_cast<size_t>(shape[0]));
    const DeviceArray<float> dev_x(shape, x);
    DeviceArray<double> dev_out({shape[0]});
    sum_row_squares(cpu, {x.data(), shape}, {out.data(), {shape[0]}});
    sum_row_squares(cuda, dev_x.view(), dev_out.view());
    expect_near_or_nan(dev_out.to_host(), out, 1e-10, 1e-12);  // double, in another order
  }
}

TEST_F(ReduceCuda, SumRowsEqualsHost) {
  for (const Shape& shape : {Shape{0, 5}, Shape{1, 1}, Shape{700, 3}, Shape{2, 9, 11, 64}, Shape{130, 300},
                             Shape{33, 517}, Shape{2500, 1}, Shape{5, 0}})
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      compare_sum_rows<float>(shape, mode);
      compare_sum_rows<bfloat16>(shape, mode);
    }
}

TEST_F(ReduceCuda, ReluBackwardSumRowsEqualsHost) {
  for (const Shape& shape :
       {Shape{0, 5}, Shape{1, 1}, Shape{700, 3}, Shape{2, 9, 11, 64}, Shape{130, 304}, Shape{33, 517}, Shape{5, 0}})
    for (const int64_t skip : {0, 1})
      for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
        compare_relu_backward_sum_rows<float>(shape, skip, mode);
        compare_relu_backward_sum_rows<bfloat16>(shape, skip, mode);
      }
}

}  // namespace
}  // namespace gradlibra::testing
