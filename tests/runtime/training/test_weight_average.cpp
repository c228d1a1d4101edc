// SPDX-License-Identifier: MIT
// The moving average against its definition, its place in the model, and its way through a file.
#include "runtime/training/weight_average.h"

#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

#include "runtime/training/weights.h"

namespace gradlibra {
namespace {

using Floats = std::vector<float>;

class Average : public ::testing::Test {
 protected:
  Average() {
    store.add("neck.a.weight", {2, 3, 1, 2}, {}, Role::convolution_weight);
    store.add("neck.b.bias", {3}, {});
    store.add("neck.frozen", {2}, {}, Role::other, false);
    store.add_buffer("neck.running_mean", {2}, {});
    store.allocate();
    store.initialize(5);
    set("neck.b.bias", {1, 2, 3});
    set("neck.running_mean", {10, 20});
  }
  void set(const std::string& name, const Floats& values) {
    context.upload<float>(values, store.find(name)->node.value);
  }
  Floats get(const std::string& name) { return context.download<float>(store.find(name)->node.value); }

  Context context{1, ConvolutionLibrary::plain};
  ParameterStore store{context};
};

// decay 0.75 over values 1, 5, 9: 0.75 * (0.75 * 1 + 0.25 * 5) + 0.25 * 9 = 3.75.
TEST_F(Average, IsTheDefinition) {
  WeightAverage average(store, 0.75);
  for (const float value : {5.0f, 9.0f}) {
    set("neck.b.bias", {value, 2, 3});
    set("neck.running_mean", {value, 20});
    average.update();
  }
  average.swap();
  EXPECT_EQ(get("neck.b.bias"), (Floats{3.75f, 2, 3}));
  EXPECT_FLOAT_EQ(get("neck.running_mean")[0], 0.75f * (0.75f * 10 + 0.25f * 5) + 0.25f * 9);
  average.swap();
  EXPECT_EQ(get("neck.b.bias"), (Floats{9, 2, 3}));
  EXPECT_EQ(get("neck.running_mean"), (Floats{9, 20}));
}

TEST_F(Average, GoesThroughAFile) {
  WeightAverage average(store, 0.5);
  const Floats before = get("neck.a.weight");
  set("neck.a.weight", Floats(12, 4));
  average.update();
  SafetensorsFile file;
  save_weights(store, file);
  average.save(file);
  ASSERT_EQ(file.tensors.size(), 8u);
  EXPECT_EQ(file.tensors.at("average.neck.a.weight").shape, (std::vector<int64_t>{2, 2, 3, 1}));  // as the weight's
  WeightAverage other(store, 0.5);
  ASSERT_TRUE(other.load(file, "file"));
  other.swap();
  for (size_t i = 0; i < 12; ++i) EXPECT_FLOAT_EQ(get("neck.a.weight")[i], 0.5f * before[i] + 2) << i;
  // A detector takes it in place of the weights.
  SafetensorsFile used = file;
  EXPECT_TRUE(use_average(used));
  EXPECT_EQ(used.tensors.size(), 4u);
  EXPECT_TRUE(used.tensors.at("neck.a.weight") == file.tensors.at("average.neck.a.weight"));
  EXPECT_FALSE(use_average(used));
}

TEST_F(Average, AFileWithoutOneStartsAtTheWeights) {
  WeightAverage average(store, 0.5);
  set("neck.b.bias", {7, 8, 9});
  SafetensorsFile file;
  save_weights(store, file);
  EXPECT_FALSE(average.load(file, "file"));
  average.swap();
  EXPECT_EQ(get("neck.b.bias"), (Floats{7, 8, 9}));
  average.save(file);
  file.tensors.erase("average.neck.b.bias");
  try {
    (void)average.load(file, "half.safetensors");
    ADD_FAILURE() << "loaded";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "half.safetensors: the averaged weight of neck.b.bias is missing or of another shape");
  }
}

TEST_F(Average, ADecayOfOneOrMoreIsRefused) {
  for (const double decay : {-0.1, 1.0, 2.0, std::nan("")})
    EXPECT_THROW(WeightAverage(store, decay), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra
