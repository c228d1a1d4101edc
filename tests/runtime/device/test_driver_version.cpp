// SPDX-License-Identifier: MIT
#include "runtime/device/driver_version.h"

#include <gtest/gtest.h>

namespace gradlibra {
namespace {

TEST(DriverVersion, IsThatOfTheKernelModule) {
  EXPECT_EQ(driver_version("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
                           "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"),
            "550.54.15");
  EXPECT_EQ(driver_version("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (d@b)"),
            "580.159.04");
  EXPECT_EQ(driver_version(""), "");
  EXPECT_EQ(driver_version("NVRM version: something else . 7 v1.2 3."), "");
  EXPECT_EQ(driver_version("NVRM version: none\nGCC version:  12.2.0\n"), "");
}

}  // namespace
}  // namespace gradlibra
