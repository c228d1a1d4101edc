// SPDX-License-Identifier: MIT
#include "engine/tables/job_pool.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <thread>

#include "runtime/base/files.h"

namespace gradlibra {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPoll = std::chrono::milliseconds(20);
constexpr int kCannotStart = 127;  // as shells have it

std::vector<int> own_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> processors;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) processors.push_back(i);
  }
  if (processors.empty()) processors.push_back(0);
  return processors;
}

// The last line that is not empty, of at most so many bytes: for a message.
std::string last_line(const std::filesystem::path& file) {
  constexpr size_t kLongest = 300;
  std::error_code missing;
  if (!std::filesystem::exists(file, missing)) return "no output";
  std::string text = read_file(file, int64_t{1} << 30);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  text = text.substr(text.find_last_of("\r\n") == std::string::npos ? 0 : text.find_last_of("\r\n") + 1);
  if (text.empty()) return "no output";
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "..";
}

// In the child, where only async-signal-safe calls are left: arguments and environment were made before.
[[noreturn]] void become(const std::vector<char*>& arguments, const char* folder, int output, const cpu_set_t& set,
                         pid_t pool) {
  for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGHUP, SIGPIPE}) std::signal(number, SIG_DFL);
  setpgid(0, 0);                     // Ctrl-C reaches the pool alone, which passes it on once
  prctl(PR_SET_PDEATHSIG, SIGTERM);  // and a pool that is killed leaves nothing behind
  if (getppid() != pool) _exit(kCannotStart);
  sched_setaffinity(0, sizeof set, &set);
  if (chdir(folder) == 0 && dup2(output, STDOUT_FILENO) >= 0 && dup2(output, STDERR_FILENO) >= 0)
    execv(arguments[0], arguments.data());
  const char* why = std::strerror(errno);
  const char* const parts[] = {arguments[0], ": cannot be started: ", why, "\n"};
  for (const char* part : parts)
    if (write(output, part, std::strlen(part)) < 0) break;
  _exit(kCannotStart);
}

class Running {
 public:
  Running(size_t index, const Job& job, const Slot& slot) : index_(index), job_(&job), slot_(&slot) { start(); }

  // Whether the job has ended; then `result` is filled.
  bool ended(JobResult& result) {
    int status = 0;
    const pid_t child = waitpid(child_, &status, WNOHANG);
    if (child == 0 || (child < 0 && errno == EINTR)) return false;
    const bool success = child == child_ && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (success && !told_to_stop_ && ++command_ < job_->commands.size()) {
      start();
      return false;
    }
    result.seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    if (success && command_ == job_->commands.size()) {
      result.end = JobResult::End::done;
    } else if (told_to_stop_) {
      result.end = JobResult::End::stopped;
    } else {
      result.end = JobResult::End::failed;
      result.why = WIFSIGNALED(status) ? "killed by signal " + std::to_string(WTERMSIG(status))
                                       : "exit code " + std::to_string(WEXITSTATUS(status));
      result.why += ": " + last_line(job_->output);
    }
    return true;
  }

  void stop() {
    if (!told_to_stop_) kill(child_, SIGTERM);
    told_to_stop_ = true;
  }

  [[nodiscard]] size_t index() const { return index_; }
  [[nodiscard]] const Slot* slot() const { return slot_; }

 private:
  void start() {
    std::vector<std::string> words = job_->commands[command_];
    for (std::string& word : words)
      if (word == "{threads}") word = std::to_string(slot_->processors.size());
    std::vector<char*> arguments;
    arguments.reserve(words.size() + 1);
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int processor : slot_->processors) CPU_SET(processor, &set);
    const int output = open(job_->output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (output < 0) throw std::runtime_error(job_->output.string() + ": " + std::strerror(errno));
    if (slot_->gpu >= 0) setenv("CUDA_VISIBLE_DEVICES", std::to_string(slot_->gpu).c_str(), 1);
    const pid_t pool = getpid();
    child_ = fork();
    if (child_ == 0) become(arguments, job_->folder.c_str(), output, set, pool);
    const int error = errno;
    close(output);
    if (child_ < 0) throw std::runtime_error(job_->name + ": no process: " + std::strerror(error));
  }

  size_t index_;
  const Job* job_;
  const Slot* slot_;
  size_t command_ = 0;
  pid_t child_ = -1;
  bool told_to_stop_ = false;
  Clock::time_point begin_ = Clock::now();
};

}  // namespace

std::vector<Slot> divide_machine(int jobs, int gpus) {
  if (jobs < 1) throw std::invalid_argument("--jobs is " + std::to_string(jobs) + ", must be at least 1");
  const std::vector<int> processors = own_processors();
  const auto n = static_cast<size_t>(jobs), size = processors.size();
  std::vector<Slot> slots(n);
  for (size_t i = 0; i < n; ++i) {
    const size_t begin = i * size / n, end = (i + 1) * size / n;
    if (n <= size)
      slots[i].processors.assign(processors.begin() + static_cast<std::ptrdiff_t>(begin),
                                 processors.begin() + static_cast<std::ptrdiff_t>(end));
    else
      slots[i].processors = {processors[i % size]};
    if (gpus > 0) slots[i].gpu = static_cast<int>(i) % gpus;
  }
  return slots;
}

void run_jobs(const std::vector<Job>& jobs, const std::vector<Slot>& slots, const std::atomic<int>& signal,
              const std::function<void(size_t, const JobResult&)>& done) {
  std::vector<const Slot*> free;
  free.reserve(slots.size());
  for (const Slot& slot : slots) free.push_back(&slot);
  std::deque<Running> running;
  size_t next = 0;
  while (next < jobs.size() || !running.empty()) {
    while (signal == 0 && next < jobs.size() && !free.empty()) {
      const Slot* slot = free.front();
      free.erase(free.begin());
      running.emplace_back(next, jobs[next], *slot);
      ++next;
    }
    if (signal != 0) {
      for (Running& one : running) one.stop();
      if (running.empty()) break;
    }
    std::this_thread::sleep_for(kPoll);
    for (auto one = running.begin(); one != running.end();) {
      JobResult result;
      if (!one->ended(result)) {
        ++one;
        continue;
      }
      free.push_back(one->slot());
      const size_t index = one->index();
      one = running.erase(one);
      done(index, result);
    }
  }
  for (; next < jobs.size(); ++next) done(next, {JobResult::End::stopped, 0, ""});
}

}  // namespace gradlibra
