// SPDX-License-Identifier: MIT
#include "runtime/base/processors.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

namespace gradlibra {

namespace {

namespace fs = std::filesystem;

void keep_smaller(std::optional<double>& quota, double value) {
  if (value > 0 && (!quota || value < *quota)) quota = value;
}

// "max 100000" or "150000 100000": microseconds of processor time in each period.
void read_version_2(const fs::path& folder, std::optional<double>& quota) {
  std::ifstream file(folder / "cpu.max");
  double time = 0, period = 0;
  if (file >> time >> period && period > 0) keep_smaller(quota, time / period);
}

void read_version_1(const fs::path& folder, std::optional<double>& quota) {
  std::ifstream time_file(folder / "cpu.cfs_quota_us"), period_file(folder / "cpu.cfs_period_us");
  double time = 0, period = 0;  // time -1: no limit
  if (time_file >> time && period_file >> period && period > 0) keep_smaller(quota, time / period);
}

// Calls read(folder) from the group up to the root of its hierarchy. A group that is not visible from a container
// counts as the root.
template <class Read>
void walk(const fs::path& root, const std::string& group, Read&& read) {
  fs::path folder = (root / fs::path(group).relative_path()).lexically_normal();
  while (folder != root && folder.has_relative_path() && folder.string().size() > root.string().size()) {
    read(folder);
    folder = folder.parent_path();
  }
  read(root);
}

}  // namespace

std::optional<double> cpu_quota(const fs::path& root, const fs::path& membership) {
  std::optional<double> quota;
  std::ifstream file(membership);
  for (std::string line; std::getline(file, line);) {  // hierarchy:controllers:group
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    if (controllers.empty()) {
      walk(root, group, [&](const fs::path& folder) { read_version_2(folder, quota); });
      continue;
    }
    std::istringstream names(controllers);
    for (std::string name; std::getline(names, name, ',');) {
      if (name != "cpu") continue;
      for (const std::string& mount : {controllers, name})
        walk(root / mount, group, [&](const fs::path& folder) { read_version_1(folder, quota); });
    }
  }
  return quota;
}

int usable_processors() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  int processors = static_cast<int>(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0) processors = CPU_COUNT(&mask);
  static const std::optional<double> quota = cpu_quota();
  if (quota) processors = std::min(processors, static_cast<int>(std::ceil(*quota - 1e-9)));
  return std::max(1, processors);
}

void restart_with_short_spins(char** argv) {
  constexpr const char* kSpins = "500";  // some microseconds, about what it costs to wake a thread
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  char path[4096];  // by its own name, which is what `ps` then shows
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof(path) - 1);
  if (length <= 0 || ::setenv("GOMP_SPINCOUNT", kSpins, 1) != 0) return;
  path[length] = '\0';
  ::execv(path, argv);  // comes back only if it fails: then the program runs as it is
}

}  // namespace gradlibra
