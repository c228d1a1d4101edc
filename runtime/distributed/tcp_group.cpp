// SPDX-License-Identifier: MIT
#include "runtime/distributed/tcp_group.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <thread>

#include "runtime/base/numbers.h"

namespace gradlibra {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr uint64_t kLongestHello = 4096;
constexpr uint64_t kLongestText = uint64_t{1} << 50;  // all ranks' together
constexpr const char* kGreeting = "gradlibra rank 1";
constexpr const char* kWelcome = "welcome";
constexpr const char* kLoss = "!";  // in place of what was gathered: why it was not

Clock::time_point after(double seconds) {
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

std::string join(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines(1);
  for (const char c : text) {
    if (c == '\n')
      lines.emplace_back();
    else
      lines.back() += c;
  }
  return lines;
}

int number(const std::string& text) { return parse_number<int>(text).value_or(-1); }

// Texts as one, each behind its length.
std::string pack(const std::vector<std::string>& texts) {
  std::string packed;
  for (const std::string& text : texts) packed += fmt::format("{} ", text.size()) + text;
  return packed;
}
std::vector<std::string> unpack(const std::string& packed) {
  std::vector<std::string> texts;
  for (size_t at = 0; at < packed.size();) {
    const size_t space = packed.find(' ', at);
    size_t size = 0;
    if (space != std::string::npos) std::from_chars(packed.data() + at, packed.data() + space, size);
    if (space == std::string::npos || size > packed.size() - space - 1)
      throw std::runtime_error("rank 0 sent what does not parse");
    texts.push_back(packed.substr(space + 1, size));
    at = space + 1 + size;
  }
  return texts;
}

class TcpGroup final : public HostGroup {
 public:
  TcpGroup(const Launch& launch, double timeout_seconds, std::unique_ptr<Listener> listener)
      : launch_(launch), timeout_(timeout_seconds) {
    if (launch_.rank == 0)
      meet_all(std::move(listener));
    else
      come();
  }

  [[nodiscard]] int rank() const override { return launch_.rank; }
  [[nodiscard]] int world_size() const override { return launch_.world_size; }
  [[nodiscard]] std::string library() const override { return "TCP"; }

  void barrier() override { (void)gather(""); }

  std::vector<std::string> gather(const std::string& own) override {
    if (launch_.rank == 0) return gather_here(own);
    std::string packed;
    try {
      first_.send(own);
      while (!first_.receive(packed, kLongestText)) wait(first_, -1);
    } catch (const std::runtime_error& error) {
      throw PeerLost(fmt::format("rank {} on {}: rank 0 at {}: {}", rank(), host_name(), place(), error.what()));
    }
    if (packed.starts_with(kLoss)) throw PeerLost(packed.substr(std::string_view(kLoss).size()));
    return unpack(packed);
  }

  void finish() override {
    barrier();
    first_ = MessageChannel();
    others_.clear();
  }

 private:
  struct Other {
    MessageChannel channel;
    std::string host;
  };
  struct Guest {  // has not said who it is
    MessageChannel channel;
    std::string address;
    Clock::time_point until;
  };

  [[nodiscard]] std::string place() const {
    return fmt::format("{} port {}", launch_.master_address, launch_.master_port);
  }
  static void wait(const MessageChannel& channel, int limit_ms) {
    pollfd waits{channel.descriptor(), POLLIN, 0};
    (void)::poll(&waits, 1, limit_ms);
  }

  // --- rank 0 ---

  void meet_all(std::unique_ptr<Listener> listener) {
    if (!listener) {
      try {
        listener = std::make_unique<Listener>(launch_.master_port);
      } catch (const std::runtime_error& error) {
        throw std::runtime_error(
            fmt::format("rank 0 on {}: {}: set another MASTER_PORT (or --master HOST:PORT), the same for all ranks",
                        host_name(), error.what()));
      }
    }
    others_.resize(static_cast<size_t>(launch_.world_size));
    const Clock::time_point end = after(timeout_);
    // A stranger can hold one of these places for a while, never all of the memory or descriptors.
    const size_t most_guests = others_.size() + 64;
    std::vector<Guest> guests;
    while (!missing().empty()) {
      if (Clock::now() > end) give_up(*listener);
      std::vector<pollfd> polls{{listener->descriptor(), POLLIN, 0}};
      for (const Guest& guest : guests) polls.push_back({guest.channel.descriptor(), POLLIN, 0});
      (void)::poll(polls.data(), polls.size(), 100);
      while (auto socket = listener->accept()) {
        const std::string address = peer_address(socket->get());
        guests.push_back({MessageChannel(std::move(*socket)), address, after(std::min(timeout_, 10.0))});
        if (guests.size() > most_guests) guests.erase(guests.begin());
      }
      std::erase_if(guests, [&](Guest& guest) { return is_done(guest); });
    }
    for (size_t r = 1; r < others_.size(); ++r) tell(others_[r].channel, kWelcome);
  }

  // Whether a guest has become a rank, was refused, or is gone.
  bool is_done(Guest& guest) {
    std::string hello, reason;
    try {
      if (!guest.channel.receive(hello, kLongestHello)) {
        if (Clock::now() < guest.until) return false;
        reason = "said nothing";
      } else {
        reason = refusal(lines_of(hello));
      }
    } catch (const std::runtime_error& error) {
      reason = error.what();
    }
    if (reason.empty()) {
      const std::vector<std::string> lines = lines_of(hello);
      others_[static_cast<size_t>(number(lines[1]))] = {std::move(guest.channel), lines[4]};
      return true;
    }
    if (refused_.size() < 8) refused_.push_back(guest.address + ": " + reason);
    tell(guest.channel, "this process " + reason);
    return true;
  }

  // Lines of a hello: greeting, rank, number of ranks, job, host. Empty: it is welcome.
  [[nodiscard]] std::string refusal(const std::vector<std::string>& lines) const {
    if (lines.size() != 5 || lines[0] != kGreeting) return "is no rank of this program, or of another version of it";
    const int rank = number(lines[1]), world_size = number(lines[2]);
    if (lines[3] != launch_.job) return fmt::format("is of job '{}', this is job '{}'", lines[3], launch_.job);
    if (world_size != launch_.world_size)
      return fmt::format("is one of {} ranks, here are {}", world_size, launch_.world_size);
    if (rank < 1 || rank >= world_size) return fmt::format("says it is rank {} of {}", lines[1], world_size);
    const Other& other = others_[static_cast<size_t>(rank)];
    if (other.channel.descriptor() >= 0)
      return fmt::format("is rank {} on {}, but rank {} has come from {}", rank, lines[4], rank, other.host);
    return "";
  }

  [[nodiscard]] std::vector<std::string> missing() const {
    std::vector<std::string> ranks;
    for (size_t r = 1; r < others_.size(); ++r)
      if (others_[r].channel.descriptor() < 0) ranks.push_back(std::to_string(r));
    return ranks;
  }

  [[noreturn]] void give_up(const Listener& listener) {
    const std::vector<std::string> ranks = missing();
    std::string text = fmt::format("{} {} of {} {} not come to rank 0 on {} port {} within {:.3g} s",
                                   ranks.size() == 1 ? "rank" : "ranks", join(ranks, ", "), launch_.world_size,
                                   ranks.size() == 1 ? "has" : "have", host_name(), listener.port(), timeout_);
    if (!refused_.empty()) text += "; refused: " + join(refused_, "; ");
    for (size_t r = 1; r < others_.size(); ++r)
      if (others_[r].channel.descriptor() >= 0) tell(others_[r].channel, text);
    throw std::runtime_error(text);
  }

  static void tell(MessageChannel& channel, const std::string& text) {
    try {
      channel.send(text);
    } catch (const std::runtime_error&) {
      // It is gone: who waits for it will see that.
    }
  }

  std::vector<std::string> gather_here(const std::string& own) {
    std::vector<std::string> all(others_.size());
    all[0] = own;
    std::vector<size_t> waited;
    for (size_t r = 1; r < others_.size(); ++r) waited.push_back(r);
    while (!waited.empty()) {
      std::vector<pollfd> polls;
      polls.reserve(waited.size());
      for (const size_t r : waited) polls.push_back({others_[r].channel.descriptor(), POLLIN, 0});
      (void)::poll(polls.data(), polls.size(), -1);
      std::erase_if(waited, [&](size_t r) {
        return with_other(r, [&](MessageChannel& channel) { return channel.receive(all[r], kLongestText); });
      });
    }
    const std::string packed = pack(all);
    for (size_t r = 1; r < others_.size(); ++r)
      with_other(r, [&](MessageChannel& channel) { return channel.send(packed), true; });
    return all;
  }

  template <class Body>
  bool with_other(size_t r, Body&& body) {
    try {
      return body(others_[r].channel);
    } catch (const std::runtime_error& error) {
      const std::string text =
          fmt::format("rank 0 on {}: rank {} on {}: {}", host_name(), r, others_[r].host, error.what());
      for (size_t other = 1; other < others_.size(); ++other)
        if (other != r) tell(others_[other].channel, kLoss + text);  // who would else name rank 0, which goes next
      throw PeerLost(text);
    }
  }

  // --- the others ---

  // Rank 0 may start later than this one, and something else may have its port for a moment: so it is tried again.
  void come() {
    const Clock::time_point end = after(timeout_);
    std::string reason = "no time was given";
    while (Clock::now() < end) {
      std::string answer;
      try {
        first_ = MessageChannel(connect_to(launch_.master_address, launch_.master_port, milliseconds(5000)));
        first_.send(
            fmt::format("{}\n{}\n{}\n{}\n{}", kGreeting, launch_.rank, launch_.world_size, launch_.job, host_name()));
        // Rank 0's time may have begun later, by as much as was given to it.
        const Clock::time_point last = after(2 * timeout_ + 10);
        while (!first_.receive(answer, uint64_t{1} << 20)) {
          wait(first_, 100);
          if (Clock::now() > last) throw std::runtime_error("no answer");
        }
      } catch (const std::runtime_error& error) {
        reason = error.what();
        std::this_thread::sleep_for(milliseconds(100));
        continue;
      }
      if (answer == kWelcome) return;
      throw std::runtime_error(
          fmt::format("rank {} on {}: rank 0 at {} says: {}", rank(), host_name(), place(), answer));
    }
    throw std::runtime_error(fmt::format("rank {} on {} has not found rank 0 at {} within {:.3g} s: {}", rank(),
                                         host_name(), place(), timeout_, reason));
  }

  const Launch launch_;
  const double timeout_;
  MessageChannel first_;              // to rank 0
  std::vector<Other> others_;         // of rank 0, by rank
  std::vector<std::string> refused_;  // the first few: who, and why
};

}  // namespace

std::unique_ptr<HostGroup> make_tcp_group(const Launch& launch, double timeout_seconds,
                                          std::unique_ptr<Listener> listener) {
  if (launch.world_size > 1 && !listener && (launch.master_address.empty() || launch.master_port == 0))
    throw std::runtime_error(
        fmt::format("rank {} of {} by {}: where rank 0 can be met is not known: set MASTER_ADDR and MASTER_PORT, or "
                    "give --master HOST:PORT; on CPUs start the ranks with mpirun",
                    launch.rank, launch.world_size, launch.source));
  return std::make_unique<TcpGroup>(launch, timeout_seconds, std::move(listener));
}

}  // namespace gradlibra
