// SPDX-License-Identifier: MIT
// The host's prefetch and readback; a GPU's run in tests/engine/test_train_step.cpp.
#include "runtime/device/transfer.h"

#include <gtest/gtest.h>

#include "runtime/device/context.h"

namespace gradlibra {
namespace {

TEST(Transfer, AStagedBatchArrivesWhenItIsDelivered) {
  Context context(1);
  Tensor floats = context.zeros({3}), none = context.zeros({0}), bytes = context.zeros({2}, DType::u8);
  const auto prefetch = context.make_prefetch();
  std::vector<float> values{1, 2, 3};
  std::vector<uint8_t> small{7, 8};
  prefetch->stage(std::vector<Prefetch::Item>{{values.data(), &floats}, {nullptr, &none}, {small.data(), &bytes}});
  values = {9, 9, 9};  // its memory is free again
  EXPECT_EQ(context.download<float>(floats), (std::vector<float>{0, 0, 0}));
  prefetch->deliver();
  EXPECT_EQ(context.download<float>(floats), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(context.download<uint8_t>(bytes), small);
  prefetch->deliver();  // nothing is staged
  EXPECT_EQ(context.download<float>(floats), (std::vector<float>{1, 2, 3}));
}

TEST(Transfer, ValuesComeBackInTheOrderOfTheirStart) {
  Context context(1);
  Tensor values = context.zeros({2}, DType::f64);
  const auto readback = context.make_readback();
  for (const double v : {1.0, 2.0}) {
    context.upload<double>(std::vector<double>{v, -v}, values);
    readback->start(values);
  }
  EXPECT_EQ(readback->wait(), (std::vector<double>{1, -1}));
  EXPECT_EQ(readback->wait(), (std::vector<double>{2, -2}));
  EXPECT_THROW((void)readback->wait(), std::logic_error);
}

TEST(Transfer, AHostRecordsNothing) {
  Context context(1);
  int calls = 0;
  EXPECT_EQ(context.capture([&] { ++calls; }), nullptr);
  EXPECT_EQ(calls, 0);
}

}  // namespace
}  // namespace gradlibra
