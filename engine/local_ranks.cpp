// SPDX-License-Identifier: MIT
#include "engine/local_ranks.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <stdexcept>

#include "engine/program.h"
#include "runtime/distributed/mpi_communicator.h"

namespace gradlibra {

namespace {

constexpr int kEnding[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};

bool on_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');)
    if (::access((std::filesystem::path(folder) / program).c_str(), X_OK) == 0) return true;
  return false;
}

// -q: without a page about the rank that ended first. No binding to processors: the ranks' threads are theirs to place.
// Single copies need a permission that containers do not give.
std::vector<std::string> mpirun_command(int count, const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {
      "mpirun", "-q", "--oversubscribe", "--bind-to", "none", "--mca", "btl_vader_single_copy_mechanism", "none"};
  if (::geteuid() == 0) command.emplace_back("--allow-run-as-root");
  command.insert(command.end(), {"-np", std::to_string(count), std::filesystem::read_symlink("/proc/self/exe")});
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

// In a process group of its own, so that Ctrl-C on the terminal comes here alone; it ends with this process.
pid_t start(const std::vector<std::string>& command, const sigset_t& signals_before) {
  std::vector<char*> pointers;
  for (const std::string& word : command) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child < 0) throw std::runtime_error(fmt::format("cannot start {}: {}", command[0], std::strerror(errno)));
  if (child > 0) return child;
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(kFailure);
  ::sigprocmask(SIG_SETMASK, &signals_before, nullptr);
  const int nothing = ::open("/dev/null", O_RDONLY);
  if (nothing >= 0) ::dup2(nothing, STDIN_FILENO);
  ::execvp(pointers[0], pointers.data());
  ::_exit(127);
}

}  // namespace

int run_local_ranks(int count, const std::vector<std::string>& arguments) {
  if (!has_mpi())
    throw std::runtime_error("--ranks needs MPI, which this build has not: install libopenmpi-dev and build again");
  if (!on_path("mpirun")) throw std::runtime_error("--ranks needs mpirun, which is not on PATH: install openmpi-bin");
  sigset_t waited, before;
  ::sigemptyset(&waited);
  for (const int number : kEnding) ::sigaddset(&waited, number);
  ::sigaddset(&waited, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &waited, &before);
  const pid_t child = start(mpirun_command(count, arguments), before);

  using Clock = std::chrono::steady_clock;
  int first = 0, status = 0;
  Clock::time_point when;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    const timespec limit{.tv_sec = 1, .tv_nsec = 0};  // should the news of the child's end have been missed
    const int got = ::sigtimedwait(&waited, nullptr, &limit);
    if (got <= 0 || got == SIGCHLD) continue;
    if (first == 0) {
      first = got;
      when = Clock::now();
      ::kill(child, SIGUSR1);  // mpirun passes this one on, where SIGTERM would end the ranks within a second
    } else if (Clock::now() - when >= std::chrono::milliseconds(250)) {
      ::kill(child, SIGTERM);
    }
  }
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  if (WIFSIGNALED(status)) return 128 + WTERMSIG(status);
  const int code = WEXITSTATUS(status);
  return code == kSuccess && first == SIGINT ? kInterrupted : code;
}

}  // namespace gradlibra
