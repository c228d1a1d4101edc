// SPDX-License-Identifier: MIT
// How much of every image is looked at before anything starts.
#include "engine/read_split.h"

#include <gtest/gtest.h>

#include "tests/engine/tiny_experiment.h"

namespace gradlibra {
namespace {

TEST(ReadSplit, ChecksImagesToTheirEndUnlessHeadersAreEnough) {
  TemporaryFolder folder;
  put_tiny_set(folder / "data", 3);
  const auto broken = folder / "data/JPEGImages/tiny_001.png";
  std::filesystem::resize_file(broken, std::filesystem::file_size(broken) - 40);
  ExperimentConfig config = tiny_config(folder / "data");
  const auto silent = [](const std::string&) {};
  const auto both = [&](const char* check) {
    config.data.check_images = check;
    return std::pair{message_of([&] { static_cast<void>(read_training_split(config, silent)); }),
                     message_of([&] { static_cast<void>(read_evaluation_split(config, Split::train, silent)); })};
  };
  EXPECT_EQ(config.data.check_images, "full") << "unless told otherwise";
  const auto [training, evaluation] = both("full");
  EXPECT_HAS(training, "tiny_001.png");
  EXPECT_HAS(training, "truncated");
  EXPECT_HAS(evaluation, "tiny_001.png");
  EXPECT_EQ(both("header"), (std::pair<std::string, std::string>{}));
}

}  // namespace
}  // namespace gradlibra
