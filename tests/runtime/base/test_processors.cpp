// SPDX-License-Identifier: MIT
// Quotas of control groups, from trees as the kernel shows them.
#include "runtime/base/processors.h"

#include <gtest/gtest.h>

#include <sched.h>

#include "tests/files.h"

namespace gradlibra {
namespace {

class Quotas : public ::testing::Test {
 protected:
  std::optional<double> quota(const std::string& membership) {
    put(folder_ / "self", membership);
    return cpu_quota(folder_ / "cgroup", folder_ / "self");
  }
  void file(const std::string& name, const std::string& text) { put(folder_ / ("cgroup/" + name), text); }
  TemporaryFolder folder_;
};

TEST_F(Quotas, OfVersion2) {
  EXPECT_EQ(quota("0::/a/b\n"), std::nullopt);
  file("a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(quota("0::/a/b\n"), std::nullopt);
  file("a/b/cpu.max", "350000 100000\n");
  EXPECT_EQ(quota("0::/a/b\n"), 3.5);
  file("a/cpu.max", "50000 25000\n");  // a group above may be tighter
  EXPECT_EQ(quota("0::/a/b\n"), 2);
  EXPECT_EQ(quota("0::/\n"), std::nullopt);
  file("cpu.max", "150000 100000\n");  // the root of a container's own view
  EXPECT_EQ(quota("0::/\n"), 1.5);
  EXPECT_EQ(quota("0::/not/visible/here\n"), 1.5);
  EXPECT_EQ(quota("0::/../../elsewhere\n"), 1.5);
}

TEST_F(Quotas, OfVersion1) {
  file("cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
  file("cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  const std::string membership = "12:memory:/job\n4:cpu,cpuacct:/job\n3:cpuset:/job\n";
  EXPECT_EQ(quota(membership), std::nullopt);
  file("cpu,cpuacct/job/cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(quota(membership), 2.5);
  file("cpu/cpu.cfs_quota_us", "100000\n");  // the other name of the mount, and the container's own group as its root
  file("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(membership), 1);
}

TEST_F(Quotas, WhatIsNoNumberLimitsNothing) {
  file("cpu.max", "soon 100000\n");
  EXPECT_EQ(quota("0::/\nnonsense\n:\n"), std::nullopt);
  file("cpu.max", "100000 0\n");
  EXPECT_EQ(quota("0::/\n"), std::nullopt);
  EXPECT_EQ(cpu_quota(folder_ / "none", folder_ / "none"), std::nullopt);
}

TEST(Processors, FollowTheAffinityMask) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  EXPECT_GE(usable_processors(), 1);
  EXPECT_LE(usable_processors(), CPU_COUNT(&before));
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++i)
    if (CPU_ISSET(i, &before)) CPU_SET(i, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(usable_processors(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
}

}  // namespace
}  // namespace gradlibra
