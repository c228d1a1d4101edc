// SPDX-License-Identifier: MIT
// GoogleTest's main for the emulator: every test starts from the same seed, and a failure prints it.
#include <gtest/gtest.h>

#include <cstdio>

#include "emulator/block.h"

namespace {

class SeedListener : public ::testing::EmptyTestEventListener {
 public:
  explicit SeedListener(uint64_t seed) : seed_(seed) {}
  void OnTestStart(const ::testing::TestInfo&) override { gradlibra::emulator::set_seed(seed_); }
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.failed())
      std::printf("emulator seed %llu (repeat with GRADLIBRA_EMULATOR_SEED)\n",
                  static_cast<unsigned long long>(gradlibra::emulator::seed()));
  }

 private:
  uint64_t seed_;
};

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  ::testing::UnitTest::GetInstance()->listeners().Append(new SeedListener(gradlibra::emulator::seed()));
  return RUN_ALL_TESTS();
}
