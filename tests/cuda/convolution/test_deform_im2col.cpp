// SPDX-License-Identifier: MIT
// The CUDA deformable columns against the host version: close for any offsets, the same bits where no product is
// rounded.
#include "kernels/convolution/deform_im2col.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/map_values.h"
#include "tests/messages.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

// Where two sums on either side of a rounding boundary may end up apart: the distance of two neighbours, relative to
// them.
template <class T>
constexpr double kNeighbours = std::is_same_v<T, float> ? 0 : 1.0 / 128;

// One problem with its arrays on both sides. T is how maps are stored.
template <class T>
struct Problem {
  Problem(const Shape& x_shape_, int kernel_, uint32_t seed)
      : x_shape(x_shape_),
        kernel(kernel_),
        taps(int64_t{kernel} * kernel),
        offsets_shape{x_shape[0], x_shape[1], x_shape[2], 2 * taps},
        columns_shape{x_shape[0], x_shape[1], x_shape[2], taps, x_shape[3]},
        mask_shape{x_shape[0], x_shape[1], x_shape[2], taps},
        rng(seed),
        x(stored<T>(random_floats(x_shape.size(), rng))),
        offsets(random_floats(offsets_shape.size(), rng, -2.5f, 2.5f)),
        grad_columns(stored<T>(random_floats(columns_shape.size(), rng))) {}

  void modulate() { mask = random_floats(mask_shape.size(), rng, 0, 1); }
  [[nodiscard]] View<const float> mask_view(const float* data) const {
    return mask.empty() ? View<const float>() : View<const float>(data, mask_shape);
  }
  // Moves every tap of every cell to one position of its image.
  void all_to(float y, float x_) {
    const int64_t W = x_shape[2], cells = x_shape[1] * W;
    for (int64_t sample = 0; sample < columns_shape.size() / x_shape[3]; ++sample) {
      const int64_t cell = sample / taps % cells, t = sample % taps, pad = (kernel - 1) / 2;
      offsets[static_cast<size_t>(2 * sample)] = y - static_cast<float>(cell / W - pad + t / kernel);
      offsets[static_cast<size_t>(2 * sample + 1)] = x_ - static_cast<float>(cell % W - pad + t % kernel);
    }
  }
  // Weights that are multiples of 1/16, masks of 1/4, and gradients of 8 bits: products are exact, so that the sums
  // show their order.
  void make_products_exact() {
    for (float& o : offsets) o = std::round(4 * o) / 4;
    for (float& m : mask) m = std::round(4 * m) / 4;
    grad_columns = stored<T>(rounded(widened(grad_columns)));
  }

  // Of maps as float. What is overwritten is NaN before on the device.
  struct Gradients {
    std::vector<float> x, offsets, mask;
  };
  Gradients on_host(Accumulate mode, std::vector<T> grad_x, std::vector<float> grad_offsets) const {
    Cpu cpu(1);
    std::vector<float> grad_mask(mask.size());
    deform_im2col_backward<T>(cpu, {x.data(), x_shape}, {offsets.data(), offsets_shape},
                              {grad_columns.data(), columns_shape}, kernel, {{grad_x.data(), x_shape}, mode},
                              {{grad_offsets.data(), offsets_shape}, mode}, {},
                              {mask_view(mask.data()), {grad_mask.data(), mask_shape}});
    return {widened(grad_x), grad_offsets, grad_mask};
  }
  Gradients on_device(Cuda& cuda, Accumulate mode, const std::vector<T>& grad_x, const std::vector<float>& grad_offsets,
                      DeviceArray<int32_t>& samples, bool sorted) const {
    const bool add = mode == Accumulate::add;
    const DeviceArray<T> dev_x(x_shape, x), dev_grad(columns_shape, grad_columns);
    const DeviceArray<float> dev_offsets(offsets_shape, offsets);
    DeviceArray<T> dev_grad_x = add ? DeviceArray<T>(x_shape, grad_x) : DeviceArray<T>(x_shape);
    DeviceArray<float> dev_grad_offsets =
        add ? DeviceArray<float>(offsets_shape, grad_offsets) : DeviceArray<float>(offsets_shape);
    DeviceArray<float> products({deform_im2col_products<T>(x_shape, kernel)});
    const Shape of_mask = mask.empty() ? Shape{0} : mask_shape;
    const DeviceArray<float> dev_mask(of_mask, mask);
    DeviceArray<float> dev_grad_mask(of_mask);
    deform_im2col_backward<T>(cuda, dev_x.view(), dev_offsets.view(), dev_grad.view(), kernel,
                              {dev_grad_x.view(), mode}, {dev_grad_offsets.view(), mode},
                              {samples.view(), products.view(), sorted},
                              {mask_view(dev_mask.view().data()), dev_grad_mask.view()});
    return {widened(dev_grad_x.to_host()), dev_grad_offsets.to_host(), dev_grad_mask.to_host()};
  }

  std::vector<float> host_grad_x(Accumulate mode, const std::vector<T>& grad_x) const {
    return on_host(mode, grad_x, std::vector<float>(offsets.size())).x;
  }
  std::vector<float> cuda_grad_x(Cuda& cuda, Accumulate mode, const std::vector<T>& grad_x) const {
    DeviceArray<int32_t> samples({deform_im2col_workspace(x_shape, kernel)});
    return on_device(cuda, mode, grad_x, std::vector<float>(offsets.size()), samples, false).x;
  }

  Shape x_shape;
  int kernel;
  int64_t taps;
  Shape offsets_shape, columns_shape, mask_shape;
  std::mt19937 rng;
  std::vector<T> x;
  std::vector<float> offsets, mask;  // no mask: empty
  std::vector<T> grad_columns;
};

class DeformIm2ColCuda : public CudaTest {
 protected:
  // Forward and backward on both sides, without a mask and with one.
  template <class T>
  void compare(const Shape& x_shape, int kernel) {
    Problem<T> p(x_shape, kernel, 21);
    compare(p);
    p.modulate();
    for (size_t i = 13; i < p.mask.size(); i += 41) p.mask[i] = i % 2 == 0 ? 0 : kNaN;
    compare(p);
  }

  template <class T>
  void compare(Problem<T> p) {
    const Shape& x_shape = p.x_shape;
    const int kernel = p.kernel;
    SCOPED_TRACE(x_shape.to_string() + " kernel " + std::to_string(kernel) + " bytes " + std::to_string(sizeof(T)) +
                 (p.mask.empty() ? "" : " masked"));
    // Whole cells, NaN and far away between the ordinary ones.
    for (size_t i = 0; i < p.offsets.size(); i += 7) p.offsets[i] = std::floor(p.offsets[i]);
    for (size_t i = 3; i < p.offsets.size(); i += 31) p.offsets[i] = kNaN;
    for (size_t i = 5; i < p.offsets.size(); i += 37) p.offsets[i] = i % 2 == 0 ? 1e30f : -kInfinity;
    const DeviceArray<T> dev_x(x_shape, p.x), dev_grad(p.columns_shape, p.grad_columns);
    const DeviceArray<float> dev_offsets(p.offsets_shape, p.offsets);
    Cpu cpu(1);

    std::vector<T> columns(p.grad_columns.size());
    deform_im2col<T>(cpu, {p.x.data(), x_shape}, {p.offsets.data(), p.offsets_shape}, kernel,
                     {columns.data(), p.columns_shape}, p.mask_view(p.mask.data()));
    DeviceArray<T> dev_columns(p.columns_shape);
    const DeviceArray<float> dev_mask(p.mask.empty() ? Shape{0} : p.mask_shape, p.mask);
    deform_im2col(cuda, dev_x.view(), dev_offsets.view(), kernel, dev_columns.view(),
                  p.mask_view(dev_mask.view().data()));
    // Four products of values below 1.
    expect_near_or_nan(widened(dev_columns.to_host()), widened(columns), 5e-7, kNeighbours<T>);

    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add})
      compare_backward(p, mode, stored<T>(random_floats(x_shape.size(), p.rng)));
  }

  // A call that sorts the samples, and one that finds them sorted, which gives the same bits.
  template <class T>
  void compare_backward(const Problem<T>& p, Accumulate mode, const std::vector<T>& grad_x) {
    const std::vector<float> grad_offsets(p.offsets.size(), 0.5f);
    DeviceArray<int32_t> samples({deform_im2col_workspace(p.x_shape, p.kernel)});
    const auto want = p.on_host(mode, grad_x, grad_offsets);
    const auto got = p.on_device(cuda, mode, grad_x, grad_offsets, samples, false);
    // Fused multiply-adds: about 4 * taps contributions reach an element, several times that where offsets crowd.
    expect_near_or_nan(got.x, want.x, 4e-7 * static_cast<double>(p.taps + 4), kNeighbours<T>);
    // Four sums of C products below 4.
    expect_near_or_nan(got.offsets, want.offsets, 4e-7 * static_cast<double>(p.x_shape[3] + 4), 0);
    expect_near_or_nan(got.mask, want.mask, 4e-7 * static_cast<double>(p.x_shape[3] + 4), 0);
    const auto again = p.on_device(cuda, mode, grad_x, grad_offsets, samples, true);
    expect_near_or_nan(again.x, got.x, 0, 0);
    expect_near_or_nan(again.offsets, got.offsets, 0, 0);
    expect_near_or_nan(again.mask, got.mask, 0, 0);
  }

  // grad_x bit by bit, several times: the emulator runs the threads in another order at each launch.
  template <class T>
  void expect_same_bits(const Problem<T>& p) {
    SCOPED_TRACE(p.x_shape.to_string() + " bytes " + std::to_string(sizeof(T)));
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      const std::vector<T> before(p.x.size(), from_float<T>(0.3f));
      const std::vector<float> want = p.host_grad_x(mode, before);
      for (int run = 0; run < 3; ++run) ASSERT_EQ(p.cuda_grad_x(cuda, mode, before), want) << run;
    }
  }
};

TEST_F(DeformIm2ColCuda, MatchesHost) {
  compare<float>({1, 1, 1, 1}, 1);
  compare<float>({1, 1, 1, 3}, 3);
  compare<float>({2, 5, 4, 8}, 3);    // two packs
  compare<float>({1, 3, 4, 132}, 3);  // more packs than a warp has lanes
  compare<float>({1, 4, 3, 37}, 3);   // single floats, more than a warp has lanes
  compare<float>({2, 2, 3, 5}, 5);    // a block ends within a cell
  compare<float>({1, 3, 3, 256}, 3);
}

TEST_F(DeformIm2ColCuda, MatchesHostInBfloat16) {
  compare<bfloat16>({1, 1, 1, 1}, 1);
  compare<bfloat16>({1, 5, 3, 3}, 3);
  compare<bfloat16>({2, 5, 4, 8}, 3);
  compare<bfloat16>({2, 3, 4, 20}, 3);   // not in eights: single values
  compare<bfloat16>({1, 3, 3, 256}, 3);  // a pack for every lane
  compare<bfloat16>({1, 2, 3, 264}, 3);  // and one more
}

TEST_F(DeformIm2ColCuda, AnyBatch) {
  for (const int64_t batch : {3, 33, 64}) compare<float>({batch, 2, 2, 4}, 1);
}

// The scan of the lists' lengths goes over several blocks.
TEST_F(DeformIm2ColCuda, MoreBinsThanATile) { compare<float>({1, 45, 46, 1}, 1); }

// Addresses that no 16-byte access may use: columns are made value by value, gradients are refused.
TEST_F(DeformIm2ColCuda, UnalignedMaps) {
  const Shape one_more{1 + 2 * 3 * 9 * 8};
  const Problem<bfloat16> p({1, 2, 3, 8}, 3, 4);
  std::vector<bfloat16> x(p.x);
  x.insert(x.begin(), bfloat16());
  const DeviceArray<bfloat16> dev_x({49}, x), dev_grad(p.columns_shape, p.grad_columns);
  const DeviceArray<float> dev_offsets(p.offsets_shape, p.offsets);
  DeviceArray<bfloat16> dev_columns(one_more), dev_grad_x(p.x_shape);
  const View<const bfloat16> x_view(dev_x.view().data() + 1, p.x_shape);
  deform_im2col<bfloat16>(cuda, x_view, dev_offsets.view(), 3, {dev_columns.view().data() + 1, p.columns_shape});
  Cpu cpu(1);
  std::vector<bfloat16> columns(p.grad_columns.size());
  deform_im2col<bfloat16>(cpu, {p.x.data(), p.x_shape}, {p.offsets.data(), p.offsets_shape}, 3,
                          {columns.data(), p.columns_shape});
  const std::vector<float> all = widened(dev_columns.to_host());
  expect_near_or_nan(std::vector<float>(all.begin() + 1, all.end()), widened(columns), 5e-7, kNeighbours<bfloat16>);

  DeviceArray<float> dev_grad_offsets(p.offsets_shape), products({deform_im2col_products<bfloat16>(p.x_shape, 3)});
  DeviceArray<int32_t> samples({deform_im2col_workspace(p.x_shape, 3)});
  EXPECT_THROW(
      deform_im2col_backward<bfloat16>(cuda, x_view, dev_offsets.view(), dev_grad.view(), 3, {dev_grad_x.view()},
                                       {dev_grad_offsets.view()}, {samples.view(), products.view()}),
      std::invalid_argument);
}

TEST_F(DeformIm2ColCuda, AddsInTheHostsOrder) {
  for (const Shape& shape : {Shape{2, 5, 7, 3}, Shape{1, 6, 5, 8}, Shape{1, 4, 4, 36}}) {
    Problem<float> p(shape, 3, 8);
    p.make_products_exact();
    expect_same_bits(p);
    p.modulate();
    p.make_products_exact();
    expect_same_bits(p);
    Problem<bfloat16> q(shape, 3, 9);
    q.make_products_exact();
    expect_same_bits(q);
    q.modulate();
    q.make_products_exact();
    expect_same_bits(q);
  }
}

// Far-flung samples: a pixel's list spans several windows of the sort, with empty ones between.
TEST_F(DeformIm2ColCuda, AddsInTheHostsOrderFromAllOverTheMap) {
  Problem<float> p({1, 22, 20, 1}, 5, 10);
  for (float& o : p.offsets) o *= 9;
  p.make_products_exact();
  expect_same_bits(p);
}

// The longest lists that there are: every tap of every cell at one place, on the map, between four pixels, and at the
// edge.
TEST_F(DeformIm2ColCuda, EverythingOnOnePixel) {
  Problem<float> p({2, 6, 5, 2}, 3, 11);
  p.make_products_exact();
  p.all_to(0, 0);
  expect_same_bits(p);
  p.all_to(2.25f, 3.5f);
  expect_same_bits(p);
  p.all_to(-0.5f, 4.75f);
  expect_same_bits(p);
  Problem<bfloat16> q({1, 32, 32, 8}, 3, 12);  // a list longer than a window of the sort
  q.make_products_exact();
  q.all_to(31, 7);
  expect_same_bits(q);
}

TEST_F(DeformIm2ColCuda, OneCell) {
  for (const int64_t C : {1, 3, 8, 20, 256}) {
    Problem<float> p({1, 1, 1, C}, 3, 13);
    p.make_products_exact();
    expect_same_bits(p);
    p.all_to(0, 0);
    expect_same_bits(p);
  }
}

// Lists of several batches.
TEST_F(DeformIm2ColCuda, BothGradientsOfLongLists) {
  Problem<float> p({2, 6, 5, 4}, 3, 17);
  for (const auto& [y, x] : {std::pair(0.0f, 0.0f), std::pair(2.25f, 3.5f), std::pair(-0.5f, 4.75f)}) {
    p.all_to(y, x);
    compare_backward(p, Accumulate::overwrite, p.x);
  }
}

// The sum of 9 * 30 values of -3 is exact.
TEST_F(DeformIm2ColCuda, SumOfALongList) {
  Problem<float> p({1, 6, 5, 2}, 3, 14);
  p.all_to(0, 0);
  p.grad_columns.assign(540, -3.0f);
  std::vector<float> want(60, 0.0f);
  want[0] = want[1] = -810.0f;
  EXPECT_EQ(p.cuda_grad_x(cuda, Accumulate::overwrite, {}), want);
}

TEST_F(DeformIm2ColCuda, NothingOnTheMapGivesZeroOrWhatWasThere) {
  Problem<float> p({2, 3, 2, 5}, 3, 15);
  p.offsets.assign(p.offsets.size(), -1e9f);
  const std::vector<float> before(p.x.size(), 7.0f);
  EXPECT_EQ(p.cuda_grad_x(cuda, Accumulate::overwrite, {}), std::vector<float>(p.x.size(), 0.0f));
  EXPECT_EQ(p.cuda_grad_x(cuda, Accumulate::add, before), before);
}

// A gradient that is not finite reaches the pixels around its sample and nothing else; at a whole position, one pixel.
TEST_F(DeformIm2ColCuda, NonFiniteGradientsStayWhereTheyLand) {
  for (const float bad : {kNaN, -kNaN, kInfinity, -kInfinity})
    for (const float offset : {0.5f, 0.0f}) {
      Problem<float> p({1, 4, 4, 3}, 3, 16);
      p.offsets.assign(p.offsets.size(), offset);
      p.grad_columns.assign(p.grad_columns.size(), 1.0f);
      p.grad_columns[(5 * 9 + 4) * 3 + 1] = bad;  // the middle tap of cell (1, 1), channel 1
      const std::vector<float> got = p.cuda_grad_x(cuda, Accumulate::overwrite, {});
      expect_near_or_nan(got, p.host_grad_x(Accumulate::overwrite, std::vector<float>(48)), 1e-5, 0);
      Problem<float> packs({1, 4, 4, 4}, 3, 16);
      packs.offsets = p.offsets;
      packs.grad_columns.assign(packs.grad_columns.size(), 1.0f);
      packs.grad_columns[(5 * 9 + 4) * 4 + 1] = bad;
      compare_backward(packs, Accumulate::overwrite, std::vector<float>(64));
      int not_finite = 0;
      for (const float v : got) not_finite += std::isfinite(v) ? 0 : 1;
      EXPECT_EQ(not_finite, offset == 0 ? 1 : 4);
      EXPECT_FALSE(std::isfinite(got[5 * 3 + 1]));
    }
}

TEST_F(DeformIm2ColCuda, EmptyInputReturnsAfterTheShapeChecks) {
  for (const Shape& x_shape : {Shape{0, 4, 4, 8}, Shape{2, 0, 4, 8}, Shape{2, 4, 0, 8}}) {
    const Shape offsets_shape{x_shape[0], x_shape[1], x_shape[2], 18},
        columns_shape{x_shape[0], x_shape[1], x_shape[2], 9, 8}, wrong_shape{x_shape[0], x_shape[1], x_shape[2], 9, 7};
    const DeviceArray<float> x(x_shape), offsets(offsets_shape), grad_columns(columns_shape);
    DeviceArray<float> columns(columns_shape), grad_x(x_shape), grad_offsets(offsets_shape), wrong(wrong_shape);
    DeviceArray<float> products({deform_im2col_products<float>(x_shape, 3)});
    DeviceArray<int32_t> samples({deform_im2col_workspace(x_shape, 3)});
    const Shape mask_shape{x_shape[0], x_shape[1], x_shape[2], 9};
    const DeviceArray<float> mask(mask_shape);
    DeviceArray<float> grad_mask(mask_shape);
    deform_im2col(cuda, x.view(), offsets.view(), 3, columns.view(), mask.view());
    deform_im2col_backward<float>(cuda, x.view(), offsets.view(), grad_columns.view(), 3, {grad_x.view()},
                                  {grad_offsets.view()}, {samples.view(), products.view()},
                                  {mask.view(), grad_mask.view()});
    EXPECT_THROW(deform_im2col(cuda, x.view(), offsets.view(), 3, wrong.view()), std::invalid_argument);
    EXPECT_THROW(deform_im2col_backward<float>(cuda, x.view(), offsets.view(), wrong.view(), 3, {grad_x.view()},
                                               {grad_offsets.view()}, {samples.view(), products.view()}),
                 std::invalid_argument);
  }
}

TEST_F(DeformIm2ColCuda, NoChannelsHaveNoSlope) {
  const DeviceArray<float> none({1, 2, 2, 0}), offsets({1, 2, 2, 18}), no_columns({1, 2, 2, 9, 0});
  const DeviceArray<float> mask({1, 2, 2, 9});
  DeviceArray<float> grad_x({1, 2, 2, 0}), grad_offsets({1, 2, 2, 18}), grad_mask({1, 2, 2, 9});
  DeviceArray<int32_t> samples({deform_im2col_workspace({1, 2, 2, 0}, 3)});
  deform_im2col_backward<float>(cuda, none.view(), offsets.view(), no_columns.view(), 3, {grad_x.view()},
                                {grad_offsets.view()}, {samples.view(), {}}, {mask.view(), grad_mask.view()});
  EXPECT_EQ(grad_offsets.to_host(), std::vector<float>(72, 0.0f));
  EXPECT_EQ(grad_mask.to_host(), std::vector<float>(36, 0.0f));
}

// Nothing is allocated: sizes are refused before memory is looked at.
TEST_F(DeformIm2ColCuda, WorkspaceTooSmallOrSizesBeyondInt32Throw) {
  const auto run = [&](const Shape& x, int kernel, View<int32_t> samples = {}, View<float> products = {}) {
    const int64_t taps = int64_t{kernel} * kernel;
    const Shape offsets{x[0], x[1], x[2], 2 * taps};
    return message_of<std::invalid_argument>([&] {
      deform_im2col_backward<float>(cuda, {nullptr, x}, {nullptr, offsets}, {nullptr, {x[0], x[1], x[2], taps, x[3]}},
                                    kernel, {{nullptr, x}}, {{nullptr, offsets}}, {samples, products});
    });
  };
  const std::string expected = "expected samples times packs, 4 times the samples and the squares below 2^31";
  for (const auto& [x, kernel, sizes] : std::vector<std::tuple<Shape, int, std::string>>{
           {{1, 8000, 8000, 1}, 3, "576000000 samples of 1 packs of channels and 64016001 squares"},
           {{1, 2000, 2000, 256}, 3, "36000000 samples of 64 packs of channels and 4004001 squares"},
           {{1, 2000, 2000, 61}, 3, "36000000 samples of 61 packs of channels and 4004001 squares"},
           {{1 << 29, 1, 1, 1}, 1, "536870912 samples of 1 packs of channels and 2147483648 squares"}})
    EXPECT_EQ(run(x, kernel).substr(0, 24 + sizes.size()), "deform_im2col_backward: " + sizes);
  EXPECT_NE(run({1, 8000, 8000, 1}, 3).find(expected), std::string::npos);
  EXPECT_EQ(run({1, 7000, 7000, 1}, 3),
            "deform_im2col_backward: samples of the workspace has 1 values, expected 4018014002");
  DeviceArray<int32_t> samples({deform_im2col_workspace({1, 2, 2, 4}, 3)});
  DeviceArray<float> few({100});
  EXPECT_EQ(run({1, 2, 2, 4}, 3, samples.view(), few.view()),
            "deform_im2col_backward: products of the workspace has 100 values, expected 144");
}

}  // namespace
}  // namespace gradlibra::testing
