// SPDX-License-Identifier: MIT
#include "runtime/distributed/watchdog.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <random>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "runtime/base/numbers.h"

namespace gradlibra {

namespace {

constexpr const char* kGone = "its connection closed: it was killed or crashed";

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

std::string random_password() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> all;
  std::istringstream stream(text);
  for (std::string word; stream >> word;) all.push_back(word);
  return all;
}

// What stands behind the first `count` words.
std::string behind(const std::string& text, int count) {
  size_t at = 0;
  for (int i = 0; i < count; ++i) {
    at = text.find(' ', at);
    if (at == std::string::npos) return "";
    ++at;
  }
  return text.substr(at);
}

int64_t number(const std::string& text) { return parse_number<int64_t>(text).value_or(-1); }

}  // namespace

std::string to_string(const LostRank& lost) {
  return fmt::format("lost rank {} on {} at step {}: {}", lost.rank, lost.host, lost.step, lost.why);
}

// A beat every tenth of the time-out, and lost after eight without one: with what it takes to tell the others, all have
// ended within the time-out.
Watchdog::Watchdog(HostGroup& group, Options options)
    : rank_(group.rank()),
      world_size_(group.world_size()),
      interval_(std::clamp(options.timeout_seconds / 10, 0.005, 5.0)),
      silence_(0.8 * options.timeout_seconds),
      on_loss_(std::move(options.on_loss)),
      on_news_(std::move(options.on_news)),
      stall_(options.stall_seconds) {
  if (world_size_ == 1) return;
  meet(group, options);
  wake_ = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() { finish(); }

// Rank 0 listens and says where; the others come, show the password (so that no stranger on the network is taken for a
// rank, and no other machine of the same address for rank 0) and are answered with it.
void Watchdog::meet(HostGroup& group, const Options& options) {
  std::string place;
  if (rank_ == 0) {
    listener_ = std::make_unique<Listener>();
    place = fmt::format("{} {}", random_password(), listener_->port());
    for (const std::string& address : own_addresses()) place += " " + address;
  }
  const std::vector<std::string> places = group.gather(place);
  hosts_ = group.gather(host_name());
  std::string failure;
  try {
    if (rank_ == 0)
      accept_all(words(place)[0]);
    else
      reach_first(places[0], options);
  } catch (const std::runtime_error& error) {
    failure = error.what();
  }
  const std::vector<std::string> failures = group.gather(failure);
  const auto failed = std::find_if(failures.begin(), failures.end(), [](const auto& text) { return !text.empty(); });
  if (failed == failures.end()) return;
  const auto rank = static_cast<size_t>(failed - failures.begin());
  throw AgreedError(fmt::format("rank {} on {}: no connection for signs of life: {}", rank, hosts_[rank], *failed));
}

void Watchdog::accept_all(const std::string& password) {
  struct Guest {  // has not said who it is
    Peer peer;
    Clock::time_point until;
  };
  constexpr std::chrono::seconds kAll{kMeetingSeconds}, kGuest{10};
  const auto end = Clock::now() + kAll;
  // A stranger can hold one of these places for a while, never all of the memory or descriptors.
  const size_t most_waiting = static_cast<size_t>(world_size_) + 64;
  std::vector<Guest> waiting;
  while (static_cast<int>(peers_.size()) < world_size_ - 1) {
    if (Clock::now() > end)
      throw std::runtime_error(fmt::format(
          "{} of {} ranks have not come to rank 0 on {} port {} within {} s: does a firewall keep them from that port?",
          world_size_ - 1 - static_cast<int>(peers_.size()), world_size_ - 1, hosts_[0], listener_->port(),
          kAll.count()));
    std::vector<pollfd> polls{{listener_->descriptor(), POLLIN, 0}};
    for (const Guest& guest : waiting) polls.push_back({guest.peer.channel.descriptor(), POLLIN, 0});
    (void)::poll(polls.data(), polls.size(), 100);
    while (auto socket = listener_->accept())
      waiting.push_back({{.channel = LineChannel(std::move(*socket))}, Clock::now() + kGuest});
    for (size_t i = 0; i < waiting.size();) {
      Peer& peer = waiting[i].peer;
      std::vector<std::string> lines;
      const bool open = peer.channel.receive(lines);
      const std::vector<std::string> hello = lines.empty() ? std::vector<std::string>() : words(lines[0]);
      const int rank = hello.size() == 3 ? static_cast<int>(number(hello[2])) : -1;
      if (rank > 0 && rank < world_size_ && hello[0] == "hello" && hello[1] == password &&
          peer.channel.send(password)) {
        peer.rank = rank;
        peers_.push_back(std::move(peer));
      } else if (open && lines.empty() && Clock::now() < waiting[i].until) {
        ++i;
        continue;
      }
      waiting.erase(waiting.begin() + static_cast<int64_t>(i));
    }
    if (waiting.size() > most_waiting)
      waiting.erase(waiting.begin(), waiting.begin() + static_cast<int64_t>(waiting.size() - most_waiting));
  }
  listener_ = nullptr;
}

void Watchdog::reach_first(const std::string& place, const Options& options) {
  const std::vector<std::string> parts = words(place);  // password, port, addresses
  const int port = static_cast<int>(number(parts.at(1)));
  std::vector<std::string> addresses;
  if (hosts_[0] == hosts_[static_cast<size_t>(rank_)]) addresses.emplace_back("127.0.0.1");
  if (!options.master_address.empty()) addresses.push_back(options.master_address);
  addresses.insert(addresses.end(), parts.begin() + 2, parts.end());
  std::string tried;
  for (const std::string& address : addresses) {
    try {
      Peer first{.rank = 0, .channel = LineChannel(connect_to(address, port, std::chrono::seconds(5)))};
      first.channel.send(fmt::format("hello {} {}", parts[0], rank_));
      const auto end = Clock::now() + std::chrono::seconds(5);
      std::vector<std::string> answer;
      bool open = true;
      while (open && answer.empty() && Clock::now() < end) {
        pollfd waits{first.channel.descriptor(), POLLIN, 0};
        (void)::poll(&waits, 1, 100);
        open = first.channel.receive(answer);
      }
      if (answer.empty() || answer[0] != parts[0])
        throw std::runtime_error(fmt::format("{} port {}: that is not rank 0", address, port));
      peers_.push_back(std::move(first));
      return;
    } catch (const std::runtime_error& error) {
      tried += fmt::format("{}{}", tried.empty() ? "" : "; ", error.what());
    }
  }
  throw std::runtime_error(fmt::format("rank 0 on {} cannot be reached: {}", hosts_[0], tried));
}

void Watchdog::watch() {
  // Within a beat of what happens; the ends of connections wake it at once.
  const int wait_ms = std::max(1, static_cast<int>(interval_ * 250));
  Clock::time_point last = Clock::now();
  double next_beat = 0;
  while (true) {
    std::vector<pollfd> polls;
    for (const Peer& peer : peers_) polls.push_back({peer.left ? -1 : peer.channel.descriptor(), POLLIN, 0});
    polls.push_back({wake_.get(), POLLIN, 0});
    (void)::poll(polls.data(), polls.size(), wait_ms);
    if (polls.back().revents != 0) return;
    const Clock::time_point now = Clock::now();
    // Longer than it asked to wait, it did not run, nor perhaps the others: all were suspended, or the machine is busy.
    lived_ += std::min(seconds_between(last, now), 2 * interval_);
    last = now;
    if (lived_ >= next_beat) {
      beat();
      look_at_own();
      next_beat = lived_ + interval_;
    }
    // All that is said comes first: a rank that was stopped itself finds its name there, and connections that ended
    // for its sake.
    for (size_t i = 0; i < peers_.size(); ++i)
      if (!peers_[i].left && polls[i].revents != 0 && listen_to(peers_[i])) return;
    for (const Peer& peer : peers_)
      if (!peer.left && look_at(peer)) return;
    if (rank_ == 0 && blame()) return;
  }
}

void Watchdog::beat() {
  const std::string line = fmt::format("beat {}", step());
  for (Peer& peer : peers_)
    if (!peer.left) (void)peer.channel.send(line);  // whether it is there, reading tells
}

void Watchdog::also_watch(std::function<std::string()> failure) {
  const std::lock_guard lock(failure_mutex_);
  failure_ = std::move(failure);
}

void Watchdog::report(const std::string& why) {
  const std::lock_guard lock(failure_mutex_);
  reported_ = why;
}

void Watchdog::look_at_own() {
  if (!trouble_.empty()) return;
  std::string why, reported;
  {
    const std::lock_guard lock(failure_mutex_);
    if (failure_) why = failure_();
    reported = reported_;
  }
  failed_beats_ = why.empty() ? 0 : failed_beats_ + 1;
  if (failed_beats_ < 3) why = reported;
  if (const int64_t moves = moves_.load(); moves != seen_moves_) {
    seen_moves_ = moves;
    moved_ = lived_;
  } else if (why.empty() && stall_ > 0 && moves > 0 && lived_ - moved_ > stall_) {
    why = fmt::format("nothing has moved for {:.4g} s: a sum over ranks, a kernel or a disk hangs", stall_);
  }
  if (why.empty()) return;
  trouble_ = why, troubled_ = lived_, troubled_together_ = together_.load();
  if (rank_ == 0) return;
  for (Peer& first : peers_)
    (void)first.channel.send(fmt::format("trouble {} {} {}", step(), troubled_together_ ? 1 : 0, why));
}

bool Watchdog::blame() {
  LostRank lost;
  double since = std::numeric_limits<double>::infinity(), first = since;
  bool excused = true;  // in step with the others, it may have waited for one of them
  const auto take = [&](int rank, int64_t at, const std::string& why, double troubled, bool together) {
    if (why.empty()) return;
    since = std::min(since, troubled);
    if (lost.rank >= 0 && std::pair(together, troubled) >= std::pair(excused, first)) return;
    lost = {rank, hosts_[static_cast<size_t>(rank)], at, why};
    first = troubled, excused = together;
  };
  take(0, step(), trouble_, troubled_, troubled_together_);
  for (const Peer& peer : peers_) take(peer.rank, peer.step, peer.trouble, peer.troubled, peer.together);
  if (lost.rank < 0) return false;
  for (const Peer& peer : peers_)
    if (peer.rank != lost.rank && !peer.left && peer.heard < since + 2 * interval_) return false;
  if (lived_ < since + 2 * interval_) return false;
  if (on_news_) on_news_(lost);
  end_with(fmt::format("lost {} {} 0 {}", lost.rank, lost.step, lost.why));
  if (on_loss_) on_loss_(lost);
  return true;
}

bool Watchdog::listen_to(Peer& peer) {
  std::vector<std::string> lines;
  peer.open = peer.channel.receive(lines);
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) { return hear(peer, line); });
}

bool Watchdog::look_at(const Peer& peer) {
  // Its last beat may be older than the step at which this rank waits for it.
  LostRank lost{peer.rank, hosts_[static_cast<size_t>(peer.rank)], std::max(peer.step, step()), ""};
  if (!peer.open)
    lost.why = kGone;
  else if (lived_ - peer.heard > silence_)
    lost.why = fmt::format("no sign of life for {:.3g} s: it was stopped, or its machine or network is down", silence_);
  else
    return false;
  lose(lost);
  return true;
}

bool Watchdog::hear(Peer& peer, const std::string& line) {
  const std::vector<std::string> parts = words(line);
  peer.heard = lived_;
  if (parts.empty()) return false;
  if (parts[0] == "beat" && parts.size() == 2) peer.step = number(parts[1]);
  if (parts[0] == "bye") peer.left = true;
  if (parts[0] == "trouble" && parts.size() >= 4 && peer.trouble.empty()) {
    peer.step = number(parts[1]);
    peer.together = parts[2] == "1";
    peer.trouble = behind(line, 3);
    peer.troubled = lived_;
  }
  if (parts[0] != "lost" || parts.size() < 4) return false;
  const auto rank = static_cast<int>(number(parts[1]));
  if (rank < 0 || rank >= world_size_) return false;
  lose(
      {rank, hosts_[static_cast<size_t>(rank)], number(parts[2]), behind(line, 4), static_cast<int>(number(parts[3]))});
  return true;
}

// The others hear it from rank 0, and rank 0 from another if it is the lost one and wakes again. Its process ends next,
// and a connection that is closed on both sides before they have read would take the line with it: so the end of theirs
// is awaited, shortly.
void Watchdog::lose(LostRank lost) {
  if (on_news_) on_news_(lost);
  if (rank_ == 0) {
    std::erase_if(peers_, [&](const Peer& peer) { return peer.rank == lost.rank; });
    end_with(fmt::format("lost {} {} {} {}", lost.rank, lost.step, lost.exit_code, lost.why));
  } else if (lost.rank == 0) {
    for (Peer& first : peers_)
      (void)first.channel.send(fmt::format("lost 0 {} {} {}", lost.step, lost.exit_code, lost.why));
  }
  if (on_loss_) on_loss_(lost);
}

void Watchdog::end_with(const std::string& line) {
  for (Peer& peer : peers_) {
    if (!peer.left) (void)peer.channel.send(line);
    peer.channel.end();
  }
  const auto end = Clock::now() + std::chrono::milliseconds(500);
  while (!peers_.empty() && Clock::now() < end) {
    std::vector<pollfd> polls;
    for (const Peer& peer : peers_) polls.push_back({peer.channel.descriptor(), POLLIN, 0});
    (void)::poll(polls.data(), polls.size(), 20);
    std::erase_if(peers_, [](Peer& peer) {
      std::vector<std::string> ignored;
      return !peer.channel.receive(ignored);
    });
  }
}

void Watchdog::stop() {
  (void)::eventfd_write(wake_.get(), 1);
  thread_.join();
}

void Watchdog::fail(const std::string& why, int exit_code) {
  if (world_size_ == 1 || over_) return;
  over_ = true;
  stop();
  end_with(fmt::format("lost {} {} {} {}", rank_, step(), exit_code, why));
}

void Watchdog::finish() {
  if (world_size_ == 1 || over_) return;
  over_ = true;
  if (!thread_.joinable()) return;  // the constructor has thrown
  stop();
  end_with("bye");
}

}  // namespace gradlibra
