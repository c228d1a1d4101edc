// SPDX-License-Identifier: MIT
// Ranks of a job as processes of a test.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace gradlibra::testing {

// body(rank) in a process of its own for each rank. What each returned; "error: MESSAGE" if it threw; "failed" if an
// expectation did, which is on stderr; "signal N" if it was killed, as one is that takes more than five minutes.
inline std::vector<std::string> run_processes(int count, const std::function<std::string(int)>& body) {
  struct Child {
    pid_t process = -1;
    int result = -1;
  };
  std::vector<Child> children;
  std::fflush(nullptr);
  for (int rank = 0; rank < count; ++rank) {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) return {};
    const pid_t process = ::fork();
    if (process == 0) {
      ::close(ends[0]);
      ::alarm(300);
      std::string result;
      try {
        result = body(rank);
      } catch (const std::exception& error) {
        result = std::string("error: ") + error.what();
      }
      std::fflush(nullptr);
      if (::testing::Test::HasFailure()) result = "failed";
      for (size_t at = 0; at < result.size();) {
        const ssize_t written = ::write(ends[1], result.data() + at, result.size() - at);
        if (written <= 0) break;
        at += static_cast<size_t>(written);
      }
      ::_exit(0);
    }
    ::close(ends[1]);
    children.push_back({process, ends[0]});
  }
  std::vector<std::string> results;
  for (const Child& child : children) {
    std::string result;
    std::array<char, 65536> bytes{};
    for (ssize_t got; (got = ::read(child.result, bytes.data(), bytes.size())) > 0;)
      result.append(bytes.data(), static_cast<size_t>(got));
    ::close(child.result);
    int status = 0;
    ::waitpid(child.process, &status, 0);
    if (WIFSIGNALED(status)) result = "signal " + std::to_string(WTERMSIG(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) result = "exit code " + std::to_string(WEXITSTATUS(status));
    results.push_back(result);
  }
  return results;
}

}  // namespace gradlibra::testing
