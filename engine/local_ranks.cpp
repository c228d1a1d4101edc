// SPDX-License-Identifier: MIT
#include "engine/local_ranks.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "engine/program.h"
#include "runtime/distributed/mpi_communicator.h"
#include "runtime/distributed/nccl_communicator.h"
#include "runtime/distributed/tcp.h"

namespace gradlibra {

namespace {

using Environment = std::vector<std::pair<std::string, std::string>>;

constexpr int kEnding[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};

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
pid_t start(const std::vector<std::string>& command, const Environment& environment, const sigset_t& signals_before) {
  std::vector<char*> pointers;
  pointers.reserve(command.size() + 1);
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
  for (const auto& [name, value] : environment)
    if (value.empty())
      ::unsetenv(name.c_str());
    else
      ::setenv(name.c_str(), value.c_str(), /*overwrite=*/1);
  ::execvp(pointers[0], pointers.data());
  ::_exit(127);
}

// Of one rank; other launchers' traces contradict it.
Environment environment_of(int rank, int count, int port) {
  const std::string number = std::to_string(rank);
  return {{"RANK", number},
          {"LOCAL_RANK", number},
          {"WORLD_SIZE", std::to_string(count)},
          {"MASTER_ADDR", "127.0.0.1"},
          {"MASTER_PORT", std::to_string(port)},
          {"OMPI_COMM_WORLD_RANK", ""},
          {"OMPI_COMM_WORLD_SIZE", ""},
          {"OMPI_COMM_WORLD_LOCAL_RANK", ""},
          {"PMIX_RANK", ""},
          {"PMI_RANK", ""},
          {"TORCHELASTIC_RUN_ID", ""},
          {"TORCHELASTIC_USE_AGENT_STORE", ""}};
}

// An exit code as a shell has it, of what waitpid says.
int code_of(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }
// That of several ranks: that another was lost is said by those that have no reason of their own.
int joined(int code, int of_another) {
  return code == kSuccess || (code == kLostRank && of_another != kSuccess) ? of_another : code;
}

// If a process has children, and all of them have ended without its having looked: their exit code. It may have looked
// at others of `count` before: then one was lost, if these have no reason of their own.
std::optional<int> code_of_unseen_children(pid_t process, int count) {
  std::ifstream children(fmt::format("/proc/{0}/task/{0}/children", process));
  std::optional<int> code;
  int seen = 0;
  for (pid_t child = 0; children >> child; ++seen) {
    std::ifstream file(fmt::format("/proc/{}/stat", child));
    const std::string stat(std::istreambuf_iterator<char>(file), {});
    const size_t name_end = stat.rfind(')');  // a name may hold anything
    if (name_end == std::string::npos || stat.substr(name_end, 4) != ") Z ") return std::nullopt;
    code = joined(code.value_or(kSuccess), code_of(std::atoi(stat.c_str() + stat.rfind(' '))));  // the last field
  }
  return code && seen < count ? joined(*code, kLostRank) : code;
}

class Children {
 public:
  Children(std::vector<pid_t> processes, int ranks) : processes_(std::move(processes)), ranks_(ranks) {}
  // Those that have ended by now are counted; true: some go on.
  bool run() {
    std::erase_if(processes_, [&](pid_t process) {
      int status = 0;
      const pid_t ended = ::waitpid(process, &status, WNOHANG);
      if (ended == 0) return false;
      int code = ended > 0 ? code_of(status) : static_cast<int>(kFailure);  // nobody knows how
      const bool by_force = next_signal_ != SIGTERM;                        // of end_others
      if (by_force && (code == 128 + SIGTERM || code == 128 + SIGKILL)) code = kLostRank;
      code_ = joined(code_, code);
      return true;
    });
    if (code_ != kSuccess) end_others();
    return !processes_.empty();
  }
  void kill(int signal) const {
    for (const pid_t process : processes_) ::kill(process, signal);
  }
  [[nodiscard]] int code() const { return code_; }
  // mpirun may never come back from its own end, when its ranks were killed (Open MPI 4.1 with PMIx 4.2 waits for a
  // lock that nobody gives back): then it is ended, and the ranks' own code counts.
  void end_stuck_starter() {
    if (processes_.size() != 1) return;
    const std::optional<int> code = code_of_unseen_children(processes_[0], ranks_);
    if (!code) {
      stuck_ = 0;
    } else if (++stuck_ > 5) {  // looked at about once a second
      fmt::print(stderr, "train: all ranks have ended, mpirun has not and is ended now\n");
      code_ = joined(code_, *code);
      ::kill(processes_[0], SIGKILL);
      ::waitpid(processes_[0], nullptr, 0);
      processes_.clear();
    }
  }

 private:
  using Clock = std::chrono::steady_clock;
  // A rank that fails is told to the others by their watchdog, and they end by themselves; but not those that have not
  // met it yet.
  void end_others() {
    if (failures_++ == 0) next_ = Clock::now() + std::chrono::seconds(5);
    if (Clock::now() < next_) return;
    next_ = Clock::now() + std::chrono::seconds(10);
    kill(std::exchange(next_signal_, SIGKILL));
  }

  std::vector<pid_t> processes_;
  int ranks_;
  int code_ = kSuccess, failures_ = 0, next_signal_ = SIGTERM, stuck_ = 0;
  Clock::time_point next_;
};

// Of mpirun, which tells its ranks itself what they are: what another launcher has said to this process, as its only
// rank, contradicts it.
Environment environment_of_mpirun() {
  Environment none;
  for (const char* name : {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
                           "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE"})
    none.emplace_back(name, "");
  return none;
}

std::vector<pid_t> start_on_gpus(int count, const std::vector<std::string>& arguments, const sigset_t& before) {
  std::vector<std::string> command = {std::filesystem::read_symlink("/proc/self/exe")};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const int port = free_port();  // a moment ago; rank 0 says so if it is not any more
  std::vector<pid_t> processes;
  processes.reserve(static_cast<size_t>(count));
  for (int rank = 0; rank < count; ++rank)
    processes.push_back(start(command, environment_of(rank, count, port), before));
  return processes;
}

void require_startable(int count, bool on_gpus, bool share_gpus) {
  if (on_gpus) {
    if (!has_nccl())
      throw std::runtime_error(
          "--ranks on GPUs needs NCCL, which this build has not: install libnccl-dev and build again, or add --device "
          "cpu");
    if (const int gpus = visible_gpus(); count > gpus && !share_gpus)
      throw std::runtime_error(fmt::format(
          "--ranks {}, but there {} {} GPU{} (is CUDA_VISIBLE_DEVICES set?): each rank needs its own, or add "
          "--share-gpus for a trial, or --device cpu",
          count, gpus == 1 ? "is" : "are", gpus, gpus == 1 ? "" : "s"));
    return;
  }
  if (!has_mpi())
    throw std::runtime_error(
        "--ranks on CPUs needs MPI, which this build has not: install libopenmpi-dev and build again");
  if (!on_path("mpirun"))
    throw std::runtime_error("--ranks on CPUs needs mpirun, which is not on PATH: install openmpi-bin");
}

}  // namespace

int run_local_ranks(int count, bool may_use_gpus, bool share_gpus, const std::vector<std::string>& arguments) {
  const bool on_gpus = may_use_gpus && visible_gpus() > 0;
  require_startable(count, on_gpus, share_gpus);
  sigset_t waited, before;
  ::sigemptyset(&waited);
  for (const int number : kEnding) ::sigaddset(&waited, number);
  ::sigaddset(&waited, SIGCHLD);
  std::signal(SIGCHLD, SIG_DFL);  // ignored, as whoever started this may have it, no end could be waited for
  ::sigprocmask(SIG_BLOCK, &waited, &before);
  Children children(on_gpus
                        ? start_on_gpus(count, arguments, before)
                        : std::vector<pid_t>{start(mpirun_command(count, arguments), environment_of_mpirun(), before)},
                    count);

  using Clock = std::chrono::steady_clock;
  int first = 0;
  Clock::time_point when;
  while (children.run()) {
    const timespec limit{.tv_sec = 1, .tv_nsec = 0};  // should the news of a child's end have been missed
    const int got = ::sigtimedwait(&waited, nullptr, &limit);
    if (got <= 0 && !on_gpus) children.end_stuck_starter();
    if (got <= 0 || got == SIGCHLD) continue;
    if (first == 0) {
      first = got;
      when = Clock::now();
      children.kill(SIGUSR1);  // mpirun passes this one on, where SIGTERM would end the ranks within a second
    } else if (Clock::now() - when >= std::chrono::milliseconds(250)) {
      children.kill(on_gpus ? SIGINT : SIGTERM);  // which ranks and mpirun take for the second request
    }
  }
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  return children.code() == kSuccess && first == SIGINT ? static_cast<int>(kInterrupted) : children.code();
}

}  // namespace gradlibra
