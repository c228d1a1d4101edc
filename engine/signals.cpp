// SPDX-License-Identifier: MIT
#include "engine/signals.h"

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <ctime>

namespace gradlibra {

namespace {

constexpr int64_t kSameEventMs = 250;

std::atomic<int> caught_signal{0};
std::atomic<int64_t> caught_ms{0};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free,
              "written by a signal handler");

int64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

void on_signal(int number) {
  int none = 0;
  const int64_t now = now_ms();
  if (caught_signal.compare_exchange_strong(none, number)) {
    caught_ms.store(now);
    return;
  }
  const int first = caught_signal.load();
  const bool noticed = number == SIGTERM && (first == SIGUSR1 || first == SIGUSR2);
  if (number != SIGPIPE && number != SIGXCPU && !noticed && now - caught_ms.load() >= kSameEventMs)
    std::_Exit(128 + number);
}

}  // namespace

const std::atomic<int>& catch_signals() {
  for (const int number : {SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGPIPE})
    std::signal(number, on_signal);
  if (std::signal(SIGHUP, on_signal) == SIG_IGN) std::signal(SIGHUP, SIG_IGN);
  return caught_signal;
}

void leave_only_to_who_insists() {
  for (const int number : {SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) std::signal(number, SIG_IGN);
}

}  // namespace gradlibra
