// SPDX-License-Identifier: MIT
// Tensors: ownership, views, types, and their way to the device and back.
#include "runtime/device/tensor.h"

#include <gtest/gtest.h>

#include <memory>

#include "runtime/device/context.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

TEST(Tensor, DefaultIsEmpty) {
  const Tensor t;
  EXPECT_TRUE(t.empty());
}

TEST(Tensor, OwnsItsMemory) {
  Context context(1);
  {
    const Tensor t = context.empty({2, 3, 4});
    EXPECT_EQ(t.size(), 24);
    EXPECT_EQ(t.bytes(), 96u);
    EXPECT_EQ(t.dim(1), 3);
    EXPECT_EQ(t.dim(-1), 4);
    EXPECT_GE(context.memory().bytes_in_use(), 96);
  }
  EXPECT_EQ(context.memory().bytes_in_use(), 0);
}

TEST(Tensor, MovesAndLeavesNothingBehind) {
  Context context(1);
  Tensor a = context.empty({10});
  const void* block = a.data();
  Tensor b(std::move(a));
  EXPECT_TRUE(a.empty());  // NOLINT: the moved-from state is promised
  EXPECT_EQ(b.data(), block);
  Tensor c = context.empty({20});
  c = std::move(b);
  EXPECT_EQ(c.data(), block);
  EXPECT_EQ(c.size(), 10);
  EXPECT_TRUE(b.empty());  // NOLINT: its former block is free, not in b
  EXPECT_LE(context.memory().bytes_in_use(), 256);
  c = Tensor();
  EXPECT_EQ(context.memory().bytes_in_use(), 0);
}

TEST(Tensor, BorrowedMemoryIsNotGivenBack) {
  Context context(1);
  std::vector<float> values{1, 2, 3, 4, 5, 6};
  {
    Tensor t = Tensor::borrow(values.data(), {2, 3});
    EXPECT_EQ(t.shape(), (Shape{2, 3}));
    EXPECT_EQ(t.view()[5], 6);
    t.view()[0] = 7;
  }
  EXPECT_EQ(values[0], 7);
}

TEST(Tensor, SizesOfTypes) {
  Context context(1);
  EXPECT_EQ(context.empty({3}, DType::f32).bytes(), 12u);
  EXPECT_EQ(context.empty({3}, DType::bf16).bytes(), 6u);
  EXPECT_EQ(context.empty({3}, DType::f64).bytes(), 24u);
  EXPECT_EQ(context.empty({3}, DType::i32).bytes(), 12u);
  EXPECT_EQ(context.empty({3}, DType::i64).bytes(), 24u);
  EXPECT_EQ(context.empty({3}, DType::u8).bytes(), 3u);
}

TEST(Tensor, AViewOfAnotherTypeIsAnError) {
  Context context(1);
  Tensor t = context.empty({4}, DType::i32);
  EXPECT_NO_THROW((void)t.view<int32_t>());
  EXPECT_THROW((void)t.view<float>(), std::logic_error);
  EXPECT_THROW((void)std::as_const(t).view<double>(), std::logic_error);
}

TEST(Tensor, AViewOfAnotherShapeKeepsTheElements) {
  Context context(1);
  Tensor t = context.upload<float>(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3});
  const View<float> v = t.view(Shape{3, 2});
  EXPECT_EQ(v.dim(0), 3);
  EXPECT_EQ(v[4], 5);
  EXPECT_THROW((void)t.view(Shape{4, 2}), std::invalid_argument);
}

TEST(Tensor, ToTheDeviceAndBack) {
  Context context(1);
  const std::vector<int32_t> labels{3, -1, 7};
  const std::vector<double> counts{0.1, 1e300};
  const std::vector<uint8_t> pixels{0, 255};
  EXPECT_EQ(context.download<int32_t>(context.upload<int32_t>(labels, {3})), labels);
  EXPECT_EQ(context.download<double>(context.upload<double>(counts, {2, 1})), counts);
  EXPECT_EQ(context.download<uint8_t>(context.upload<uint8_t>(pixels, {1, 2})), pixels);
  EXPECT_EQ(context.download<float>(context.zeros({3})), std::vector<float>(3, 0.0f));
}

TEST(Tensor, NoElements) {
  Context context(1);
  const Tensor t = context.upload<float>({}, {0, 4});
  EXPECT_FALSE(t.empty());  // it has memory and a shape, only no elements
  EXPECT_EQ(t.size(), 0);
  EXPECT_TRUE(context.download<float>(t).empty());
}

TEST(Tensor, SizeOrTypeThatDiffersIsAnError) {
  Context context(1);
  Tensor t = context.empty({3}), longer = context.empty({4}), labels = context.empty({3}, DType::i32);
  const std::vector<float> values(4);
  EXPECT_THROW(context.upload<float>(values, t), std::invalid_argument);
  EXPECT_THROW((void)context.upload<float>(values, {5}), std::invalid_argument);
  EXPECT_THROW(context.copy(t, longer), std::invalid_argument);
  EXPECT_THROW(context.copy(t, labels), std::invalid_argument);
  EXPECT_THROW((void)context.download<int32_t>(t), std::logic_error);
}

TEST(Tensor, CopyOnTheDevice) {
  Context context(1);
  const Tensor from = context.upload<float>(std::vector<float>{1, 2, 3}, {3});
  Tensor to = context.zeros({3});
  context.copy(from, to);
  EXPECT_EQ(context.download<float>(to), (std::vector<float>{1, 2, 3}));
  context.zero(to);
  EXPECT_EQ(context.download<float>(to), (std::vector<float>{0, 0, 0}));
}

TEST(Context, NamesItsDevice) {
  EXPECT_NE(Context(1).device_name().find("1 thread,"), std::string::npos);
  EXPECT_EQ(Context(3, ConvolutionLibrary::plain).device_name(), "CPU, 3 threads, plain loops");
  EXPECT_TRUE(Context::for_device("cpu", 2)->on_host());
}

TEST(Context, AutoSaysWhyItTookNoGpu) {
  const auto context = Context::for_device("auto", 1);
  EXPECT_EQ(context->on_host(), !context->why_no_gpu().empty()) << context->why_no_gpu();
  EXPECT_EQ(Context::for_device("cpu", 1)->why_no_gpu(), "");
}

#ifndef GRADLIBRA_HAVE_CUDA
TEST(Context, SaysWhatIsMissingForCuda) {
  EXPECT_HAS(message_of<std::runtime_error>([] { (void)Context::for_device("cuda"); }), "without CUDA");
}
#endif

}  // namespace
}  // namespace gradlibra
