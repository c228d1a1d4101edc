// SPDX-License-Identifier: MIT
// Ends a job that has lost a rank. A rank that waits in a collective for one that is gone would wait for ever; so every
// rank has a thread that tells rank 0 over a TCP connection of its own that it lives, and hears from there who does
// not.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/distributed/communicator.h"
#include "runtime/distributed/launch.h"
#include "runtime/distributed/tcp.h"

namespace gradlibra {

struct LostRank {
  int rank = -1;
  std::string host;
  int64_t step = 0;  // the last that it told of
  std::string why;
  int exit_code = 0;  // with which it ends, if it said so; 0: it could not
};
// "lost rank 2 on node07 at step 41: its connection closed: ..".
[[nodiscard]] std::string to_string(const LostRank& lost);

// Lost is whoever closes its connection without a word (a killed process, at once) or is not heard of for
// timeout_seconds (a stopped process, a machine without power, a cut cable); and whoever says that it fails. Time
// in which this process itself stood still counts for nobody, so that a job that was suspended as a whole goes on.
class Watchdog {
 public:
  // How long rank 0 waits in the constructor for the others' connections.
  static constexpr int kMeetingSeconds = 60;
  struct Options {
    double timeout_seconds = 60;
    double stall_seconds = 0;    // 0: never; see moved()
    std::string master_address;  // where rank 0 can be met; empty: it says so itself
    // Called once, on the watchdog's thread, on every rank but the lost one. It is to end the process: nothing that
    // waits for the lost rank will return.
    std::function<void(const LostRank&)> on_loss;
    // Called before it, and on rank 0 before the others are told: a launcher may end rank 0 as soon as they have ended.
    std::function<void(const LostRank&)> on_news;
  };
  // Every rank of the group makes its own at the same time. std::runtime_error if rank 0 cannot be reached.
  Watchdog(HostGroup& group, Options options);
  ~Watchdog();  // as finish(), if there was no fail()
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Where this rank stands, for messages.
  void set_step(int64_t step) {
    step_.store(step);
    moved();
  }
  [[nodiscard]] int64_t step() const { return step_.load(); }
  // Between these two this rank's work is in step with the others', and stands still when theirs does: of ranks that
  // do not move one that stands outside is at fault.
  void begin_together() { together_.store(true); }
  void end_together() { together_.store(false); }
  // The work goes on. This rank is in trouble if it has been said once and then not for `stall_seconds`.
  void moved() { moves_.fetch_add(1); }

  // failure() is asked at every beat, on the watchdog's thread, until the end. This rank is in trouble when it has told
  // of it for three beats. Trouble is mostly another's fault: a rank that has it is lost only once all others have been
  // heard of since; a silent one comes first.
  void also_watch(std::function<std::string()> failure);
  // The same, told by the rank itself: something that another one may have caused. on_loss() follows.
  void report(const std::string& why);

  // This rank gives up and will end with `exit_code`: the others hear it, and why. Returns when they have been told.
  void fail(const std::string& why, int exit_code);
  // The orderly end, behind the last collective.
  void finish();

  [[nodiscard]] const std::vector<std::string>& hosts() const { return hosts_; }  // by rank

 private:
  using Clock = std::chrono::steady_clock;
  struct Peer {
    int rank = -1;  // -1: has not said who it is
    LineChannel channel;
    double heard = 0;  // on lived_
    int64_t step = 0;
    bool left = false;  // in order
    bool open = true;   // its connection
    std::string trouble = {};
    double troubled = 0;    // since when, on lived_
    bool together = false;  // it was in step with the others then
  };
  void meet(HostGroup& group, const Options& options);
  void accept_all(const std::string& password);
  void reach_first(const std::string& place, const Options& options);
  void end_with(const std::string& line);  // the last one to whoever is connected
  void watch();
  void stop();
  void beat();
  void look_at_own();
  bool blame();  // of rank 0: a rank in trouble that no silent one explains; true: one was lost, and the watch is over
  // What has come of a peer, and then what follows from the end of its connection or its silence; true: a rank was
  // lost, and the watch is over.
  bool listen_to(Peer& peer);
  bool look_at(const Peer& peer);
  bool hear(Peer& peer, const std::string& line);
  void lose(LostRank lost);

  const int rank_, world_size_;
  const double interval_, silence_;  // seconds between beats, and without one until a rank is lost
  const std::function<void(const LostRank&)> on_loss_, on_news_;
  std::vector<std::string> hosts_;
  std::unique_ptr<Listener> listener_;  // of rank 0
  std::vector<Peer> peers_;             // of rank 0: all others; of the others: rank 0
  std::atomic<int64_t> step_{0};
  std::mutex failure_mutex_;
  std::function<std::string()> failure_;
  std::string reported_;
  int failed_beats_ = 0;
  const double stall_;
  std::atomic<int64_t> moves_{0};
  int64_t seen_moves_ = 0;
  double moved_ = 0;     // when the last of them was seen, on lived_
  std::string trouble_;  // this rank's own
  double troubled_ = 0;
  std::atomic<bool> together_{false};
  bool troubled_together_ = false;
  double lived_ = 0;  // seconds that the watching thread has run
  bool over_ = false;
  Descriptor wake_;  // readable: the watching thread is to end
  std::thread thread_;
};

}  // namespace gradlibra
