// SPDX-License-Identifier: MIT
// How many processors this process may use, and how it behaves on them beside others.
#pragma once

#include <filesystem>
#include <optional>

namespace gradlibra {

// Processors that the process's control groups let it use, 1.5 for a quota of one and a half: the smallest quota from
// its group up to the root, of version 2 (cpu.max) or 1 (cpu.cfs_quota_us). std::nullopt where nothing is limited or
// known.
[[nodiscard]] std::optional<double> cpu_quota(const std::filesystem::path& root = "/sys/fs/cgroup",
                                              const std::filesystem::path& membership = "/proc/self/cgroup");

// Processors of its affinity mask, no more than its quota rounded up, at least 1. A container that is given two of 64
// processors by a quota still sees 64, and 64 threads on two are slower than two.
[[nodiscard]] int usable_processors();

// Threads that wait for each other at the end of a parallel loop spin before they sleep, GCC's OpenMP for some
// milliseconds: on processors that other programs want, too, each then waits for a thread that does nothing. The
// runtime reads how long (GOMP_SPINCOUNT) when it is loaded, before main, so main starts the program once more with a
// short spin. Does nothing if the variable, or OMP_WAIT_POLICY, is set. argv ends with a null pointer, as main's.
void restart_with_short_spins(char** argv);

}  // namespace gradlibra
