// SPDX-License-Identifier: MIT
// Runs the programs as a shell would: arguments in, exit code and both outputs back.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "tests/engine/tiny_experiment.h"

namespace gradlibra {

struct Ran {
  int code = -1;  // -1: died of a signal or did not end in time
  std::string out, err;
};

class Process {
 public:
  // argv[0] is the name of a program, or a path. Output goes to files in `folder`.
  Process(const TemporaryFolder& folder, std::vector<std::string> argv)
      : out_(folder / "stdout"), err_(folder / "stderr") {
    if (argv[0].find('/') == std::string::npos) argv[0] = std::string(GRADLIBRA_PROGRAMS) + "/" + argv[0];
    std::vector<char*> pointers;
    for (std::string& argument : argv) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    child_ = fork();
    if (child_ != 0) return;
    if (std::freopen(out_.c_str(), "w", stdout) == nullptr || std::freopen(err_.c_str(), "w", stderr) == nullptr)
      _exit(126);
    std::signal(SIGHUP, SIG_DFL);  // which is ignored by whoever runs the tests under nohup
    execv(pointers[0], pointers.data());
    _exit(127);
  }
  ~Process() {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int number) const { kill(child_, number); }

  Ran wait(std::chrono::milliseconds limit = std::chrono::seconds(120)) {
    const auto end = std::chrono::steady_clock::now() + limit;
    int status = 0;
    while (waitpid(child_, &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > end) return {-1, get(out_), get(err_)};
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    child_ = -1;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, get(out_), get(err_)};
  }

 private:
  std::filesystem::path out_, err_;
  pid_t child_ = -1;
};

class ProgramTest : public ::testing::Test {
 protected:
  Ran run(std::vector<std::string> argv) { return Process(folder_, std::move(argv)).wait(); }

  // The path of a configuration file for the tiny detector on the data in `root`.
  std::string write_config(const std::filesystem::path& root, const std::string& name = "tiny.yaml") {
    put(folder_ / name, to_yaml(tiny_config(root)));
    return (folder_ / name).string();
  }
  [[nodiscard]] std::string path(const std::string& name) const { return (folder_ / name).string(); }

  TemporaryFolder folder_;
};

}  // namespace gradlibra
