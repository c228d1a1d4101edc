// SPDX-License-Identifier: MIT
// Texts over TCP, for what ranks tell each other outside their collectives.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gradlibra {

// An open file descriptor; closed with its owner.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor();
  [[nodiscard]] int get() const { return number_; }

 private:
  int number_;
};

// One end of a connection. Never blocks: what cannot be sent at once, to a peer that reads nothing any more, is a
// broken connection.
class LineChannel {
 public:
  LineChannel() = default;
  explicit LineChannel(Descriptor connected);
  // False: the peer is gone, or its lines pile up. A newline in `line` becomes a space.
  bool send(std::string_view line);
  // Appends the lines that have arrived. False: no more will come, or one is longer than 64 KiB.
  bool receive(std::vector<std::string>& lines);
  // No more is sent; the peer reads what was and then the end.
  void end();
  [[nodiscard]] int descriptor() const { return socket_.get(); }

 private:
  Descriptor socket_;
  std::string received_;  // of a line whose end has not come
};

// One end of a connection that carries texts of any length, each behind its length. What a peer claims about a length
// allocates nothing: memory grows with what has come.
class MessageChannel {
 public:
  MessageChannel() = default;
  explicit MessageChannel(Descriptor connected);
  // Returns when all has been handed over. std::runtime_error: the peer is gone.
  void send(std::string_view text);
  // Takes what has arrived, without waiting. True: `text` is the next text, whole. std::runtime_error: no more will
  // come, it is longer than `longest`, or it is none of ours.
  bool receive(std::string& text, uint64_t longest);
  [[nodiscard]] int descriptor() const { return socket_.get(); }

 private:
  static constexpr size_t kHeader = 12;  // "GLR1", and the length with its lowest byte first
  Descriptor socket_;
  std::string header_, text_;  // of the text that is on its way
};

class Listener {
 public:
  // On every address of this machine, on `port`, or where that is 0 on one that is free. std::runtime_error names the
  // port.
  explicit Listener(int port = 0);
  [[nodiscard]] int port() const { return port_; }
  [[nodiscard]] int descriptor() const { return socket_.get(); }
  // A connection that has come, if one has.
  [[nodiscard]] std::optional<Descriptor> accept() const;

 private:
  Descriptor socket_;
  int port_ = 0;
};

// A port that nobody has, outside the range from which the system picks ports: so that nobody is given it before it is
// listened on.
[[nodiscard]] int free_port();

// std::runtime_error names address, port and reason: refused, unknown host, no answer in time.
[[nodiscard]] Descriptor connect_to(const std::string& address, int port, std::chrono::milliseconds limit);

// Whom a connection leads to, as a number: "10.0.0.7".
[[nodiscard]] std::string peer_address(int socket);

// Addresses under which other machines may reach this one, as numbers: those of its interfaces that are up, but for
// the loopback and link-local ones.
[[nodiscard]] std::vector<std::string> own_addresses();

}  // namespace gradlibra
