// SPDX-License-Identifier: MIT
#include "nccl_meeting.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <random>
#include <sstream>
#include <thread>

#include "nccl.h"

namespace gradlibra::emulator {

namespace {

// In no folder, and gone with its owner; but in that of GRADLIBRA_EMULATED_NCCL for hosts that are network namespaces,
// which share disks alone.
sockaddr_un address_of(const std::string& name) {
  const char* folder = std::getenv("GRADLIBRA_EMULATED_NCCL");
  const std::string path = folder == nullptr ? std::string(1, '\0') + name : folder + ("/" + name);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof address.sun_path - 1));
  return address;
}

std::string seconds_text(double seconds) {
  std::ostringstream text;
  text << seconds << " s";
  return text.str();
}

class Meeting {
 public:
  Meeting(int listener, double timeout_seconds) : listener_(listener), timeout_(timeout_seconds) {}
  Meeting(const Meeting&) = delete;
  Meeting& operator=(const Meeting&) = delete;
  ~Meeting() {
    ::close(listener_);
    for (const Guest& guest : guests_) ::close(guest.socket);
  }

  // Until all ranks have come and gone.
  void run() {
    while (!began_ || !guests_.empty()) {
      std::vector<pollfd> polls{{listener_, POLLIN, 0}};
      for (const Guest& guest : guests_) polls.push_back({guest.socket, POLLIN, 0});
      (void)::poll(polls.data(), polls.size(), 20);
      if (polls[0].revents != 0) guests_.push_back({::accept(listener_, nullptr, nullptr)});
      for (size_t i = 0; i + 1 < polls.size(); ++i)
        if (polls[i + 1].revents != 0) hear(guests_[i]);
      std::erase_if(guests_, [](const Guest& guest) { return guest.socket < 0; });
      look_at_time();
    }
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Guest {
    int socket = -1;
    int rank = -1;             // has said hello
    std::optional<Call> call;  // that waits for the others
    std::vector<char> bytes;
    Call last;  // that was answered
    Clock::time_point since;
  };

  void hear(Guest& guest) {
    Call call;
    std::vector<char> bytes;
    bool here = receive_bytes(guest.socket, &call, sizeof call);
    if (here) {
      bytes.resize(call.bytes);
      here = receive_bytes(guest.socket, bytes.data(), bytes.size());
    }
    if (!here || call.kind == Call::Kind::abort) {
      ::close(guest.socket);
      guest.socket = -1;
      if (guest.rank >= 0 && guest.last.kind != Call::Kind::finalize)
        lose("rank " + std::to_string(guest.rank) + (here ? " has aborted" : "'s process has ended") + " after " +
             to_string(guest.last));
      return;
    }
    guest.call = call, guest.bytes = std::move(bytes), guest.since = Clock::now();
    if (call.kind == Call::Kind::hello && !greet(guest)) return;
    if (!lost_.empty()) return answer_all(Answer::Kind::lost, lost_);
    if (!wrong_.empty()) return answer_all(Answer::Kind::wrong, wrong_);
    if (static_cast<int>(waiting().size()) == ranks_) meet();
  }

  bool greet(Guest& guest) {
    const Call call = *guest.call;
    std::string problem;
    if (ranks_ == 0) ranks_ = call.ranks;
    if (call.ranks != ranks_)
      problem = "rank " + std::to_string(call.rank) + " says that there are " + std::to_string(call.ranks) +
                " ranks, another says " + std::to_string(ranks_);
    for (const Guest& other : guests_)
      if (other.rank == call.rank) problem = "two processes are rank " + std::to_string(call.rank);
    if (problem.empty()) {
      guest.rank = call.rank;
      return true;
    }
    answer(guest, Answer::Kind::wrong, problem.data(), problem.size());
    return false;
  }

  [[nodiscard]] std::vector<Guest*> waiting() {
    std::vector<Guest*> found;
    for (Guest& guest : guests_)
      if (guest.call && guest.rank >= 0) found.push_back(&guest);
    std::sort(found.begin(), found.end(), [](const Guest* a, const Guest* b) { return a->rank < b->rank; });
    return found;
  }

  // All have made a call.
  void meet() {
    const std::vector<Guest*> all = waiting();
    const Call& first = *all[0]->call;
    for (size_t r = 1; r < all.size(); ++r) {
      const Call& other = *all[r]->call;
      if (other.kind == first.kind && other.count == first.count && other.type == first.type && other.op == first.op &&
          other.root == first.root && other.registered == first.registered)
        continue;
      wrong_ = "rank 0 and rank " + std::to_string(r) + " differ: " + to_string(first) + ", and " + to_string(other);
      if (other.registered != first.registered) wrong_ += ": the memory of one is registered, that of the other is not";
      return answer_all(Answer::Kind::wrong, wrong_);
    }
    began_ = true;
    std::vector<char> result;
    if (first.kind == Call::Kind::broadcast) result = all[static_cast<size_t>(first.root)]->bytes;
    if (first.kind == Call::Kind::all_reduce)
      result = first.type == ncclFloat32 ? sum_of<float>(all) : sum_of<double>(all);
    for (size_t r = all.size(); r-- > 0;) answer(*all[r], Answer::Kind::done, result.data(), result.size());
  }

  template <class T>
  static std::vector<char> sum_of(const std::vector<Guest*>& all) {
    std::vector<char> result = all[0]->bytes;
    const size_t count = result.size() / sizeof(T);
    std::vector<T> total(count), part(count);
    if (count == 0) return result;
    std::memcpy(total.data(), result.data(), result.size());
    for (size_t r = 1; r < all.size(); ++r) {
      std::memcpy(part.data(), all[r]->bytes.data(), result.size());
      for (size_t i = 0; i < count; ++i) total[i] += part[i];
    }
    std::memcpy(result.data(), total.data(), result.size());
    return result;
  }

  void look_at_time() {
    const std::vector<Guest*> here = waiting();
    if (here.empty() || here[0]->call->kind == Call::Kind::hello) return;  // a start may take as long as it likes
    const Guest& first = **std::min_element(here.begin(), here.end(),
                                            [](const Guest* a, const Guest* b) { return a->since < b->since; });
    if (std::chrono::duration<double>(Clock::now() - first.since).count() < timeout_) return;
    std::string missing;
    for (const Guest& guest : guests_)
      if (!guest.call)
        missing += (missing.empty() ? "rank " : ", rank ") + std::to_string(guest.rank) + " (after " +
                   to_string(guest.last) + ")";
    wrong_ = missing + " has not come within " + seconds_text(timeout_) + "; rank " + std::to_string(first.rank) +
             " waits in " + to_string(*first.call);
    answer_all(Answer::Kind::wrong, wrong_);
  }

  void lose(const std::string& why) {
    if (lost_.empty()) lost_ = why;
    answer_all(Answer::Kind::lost, lost_);
  }
  void answer_all(Answer::Kind kind, const std::string& text) {
    const std::vector<Guest*> all = waiting();
    for (size_t i = all.size(); i-- > 0;) answer(*all[i], kind, text.data(), text.size());
  }
  // To rank 0 last: its process, where this thread is, may end when it has its answer.
  void answer(Guest& guest, Answer::Kind kind, const void* data, size_t bytes) {
    guest.last = *guest.call;
    guest.call.reset();
    guest.bytes.clear();
    const Answer head{kind, bytes};
    if (send_bytes(guest.socket, &head, sizeof head)) (void)send_bytes(guest.socket, data, bytes);
  }

  const int listener_;
  const double timeout_;
  int ranks_ = 0;       // 0: nobody has said
  bool began_ = false;  // all have been here
  std::vector<Guest> guests_;
  std::string lost_, wrong_;  // nothing works any more, and why
};

}  // namespace

size_t bytes_of(const Call& call) { return call.count * (call.type == ncclFloat64 ? 8 : 4); }

std::string to_string(const Call& call) {
  if (call.kind == Call::Kind::hello) return "ncclCommInitRankConfig";
  const std::string number = "call " + std::to_string(call.number) + ", ";
  if (call.kind == Call::Kind::finalize) return number + "ncclCommFinalize";
  const std::string values = std::to_string(call.count) + (call.type == ncclFloat64 ? " float64" : " float32");
  if (call.kind == Call::Kind::broadcast)
    return number + "ncclBroadcast of " + values + " from rank " + std::to_string(call.root);
  return number + "ncclAllReduce of " + values + (call.op == ncclSum ? "" : " (not a sum)");
}

bool send_bytes(int socket, const void* data, size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t sent = ::send(socket, at, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    at += sent, bytes -= static_cast<size_t>(sent);
  }
  return true;
}

bool receive_bytes(int socket, void* data, size_t bytes) {
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = ::recv(socket, at, bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got, bytes -= static_cast<size_t>(got);
  }
  return true;
}

std::string start_meeting(double timeout_seconds) {
  std::random_device random;
  const std::string name = "gradlibra-nccl-" + std::to_string(random()) + "-" + std::to_string(random());
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_un address = address_of(name);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || ::listen(listener, 64) != 0)
    return "";
  std::thread([listener, timeout_seconds] { Meeting(listener, timeout_seconds).run(); }).detach();
  return name;
}

int connect_to_meeting(const std::string& name) {
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_un address = address_of(name);
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return socket;
  ::close(socket);
  return -1;
}

}  // namespace gradlibra::emulator
