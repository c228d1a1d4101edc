// SPDX-License-Identifier: MIT
// CUDA reductions against the host versions, and that they give the same bits again.
#include "kernels/reduce.h"

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
    expect_close(dev_out.to_host(), out, 5e-5, 0);  // up to 2500 values below 1, summed in float within a chunk
  }
  std::mt19937 rng{1};
  Cpu cpu{1};
};

TEST_F(ReduceCuda, SumsEqualHost) {
  for (const int64_t size : {0, 1, 3, 255, 1000, 16384, 16385, 50001})
    for (const int64_t skip : {0, 1})
      for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
        SCOPED_TRACE("size " + std::to_string(size) + ", skip " + std::to_string(skip));
        const std::vector<float> x = random_floats(size + skip, rng);
        const DeviceArray<float> dev_x({size + skip}, x);
        const View<const float> host(x.data() + skip, {size}), device(dev_x.view().data() + skip, {size});
        const Shape workspace_shape{reduce_workspace(size)};
        std::vector<double> out{2}, out2{3}, workspace(static_cast<size_t>(workspace_shape[0]));
        DeviceArray<double> dev_out({1}, out), dev_out2({1}, out2), dev_workspace(workspace_shape);
        sum(cpu, host, {out.data(), {1}}, mode, {workspace.data(), workspace_shape});
        sum(cuda, device, dev_out.view(), mode, dev_workspace.view());
        expect_close(dev_out.to_host(), out, 1e-10, 1e-12);  // double, in another order
        sum_squares(cpu, host, {out2.data(), {1}}, mode, {workspace.data(), workspace_shape});
        sum_squares(cuda, device, dev_out2.view(), mode, dev_workspace.view());
        expect_close(dev_out2.to_host(), out2, 1e-10, 1e-12);
        if (mode == Accumulate::add) continue;
        const std::vector<double> first = dev_out2.to_host();
        sum_squares(cuda, device, dev_out2.view(), mode, dev_workspace.view());
        EXPECT_EQ(dev_out2.to_host(), first);
      }
}

TEST_F(ReduceCuda, CountPositiveEqualsHost) {
  for (const int64_t R : {0, 1, 1000, 20000}) {
    std::vector<int32_t> labels(static_cast<size_t>(R));
    for (int32_t& v : labels) v = static_cast<int32_t>(rng() % 6) - 1;
    std::vector<float> weights(labels.size());
    for (float& v : weights) v = static_cast<float>(rng() % 3) - 0.5f;
    const Shape workspace_shape{reduce_workspace(R)};
    std::vector<double> count(1), workspace(static_cast<size_t>(workspace_shape[0]));
    const DeviceArray<int32_t> dev_labels({R}, labels);
    const DeviceArray<float> dev_weights({R}, weights);
    DeviceArray<double> dev_count({1}), dev_workspace(workspace_shape);
    count_positive(cpu, {labels.data(), {R}}, {weights.data(), {R}}, 4, {count.data(), {1}},
                   {workspace.data(), workspace_shape});
    count_positive(cuda, dev_labels.view(), dev_weights.view(), 4, dev_count.view(), dev_workspace.view());
    EXPECT_EQ(dev_count.to_host(), count);
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

}  // namespace
}  // namespace gradlibra::testing
