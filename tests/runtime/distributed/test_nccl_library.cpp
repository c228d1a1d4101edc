// SPDX-License-Identifier: MIT
// The NCCL that is installed: that it can be opened, and speaks of itself, which takes no GPU. Skipped where it is not
// found.
#include "runtime/distributed/nccl_library.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace gradlibra {
namespace {

TEST(NcclLibrary, IsOpenedAndNewEnough) {
  const NcclLibrary* library = nullptr;
  try {
    library = &nccl();
  } catch (const std::runtime_error& error) {
    GTEST_SKIP() << error.what();
  }
  int version = 0;
  EXPECT_EQ(library->ncclGetVersion(&version), ncclSuccess);
  EXPECT_GE(version, kOldestNccl);
  EXPECT_STREQ(library->ncclGetErrorString(ncclSuccess), "no error");
  EXPECT_NE(library->ncclAllReduce, nullptr);
}

TEST(NcclLibrary, VersionsAreWritten) {
  EXPECT_EQ(nccl_version(22809), "2.28.9");
  EXPECT_EQ(nccl_version(21903), "2.19.3");
}

}  // namespace
}  // namespace gradlibra
