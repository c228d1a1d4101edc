// SPDX-License-Identifier: MIT
#include "runtime/distributed/tcp.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>

namespace gradlibra {

namespace {

constexpr size_t kLongestLine = 65536;

Descriptor open_socket(int family) {
  return Descriptor(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

void set(int socket, int level, int option, int value) {
  (void)::setsockopt(socket, level, option, &value, sizeof value);  // all of them are only improvements
}

template <class Structure>
sockaddr* address_of(Structure& structure) {
  return reinterpret_cast<sockaddr*>(&structure);
}

// Zero, or an errno.
int connect_in_time(int socket, const addrinfo& to, std::chrono::steady_clock::time_point end) {
  if (::connect(socket, to.ai_addr, to.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    pollfd waits{socket, POLLOUT, 0};
    const int ready = ::poll(&waits, 1, static_cast<int>(std::max<int64_t>(0, left.count())));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return ETIMEDOUT;
    int error = 0;
    socklen_t size = sizeof error;
    if (ready < 0 || ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return errno;
    return error;
  }
}

constexpr const char* kMagic = "GLR1";

void send_all(int socket, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(socket, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      text.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd waits{socket, POLLOUT, 0};
      (void)::poll(&waits, 1, -1);
    } else if (errno != EINTR) {
      throw std::runtime_error("its connection closed");
    }
  }
}

}  // namespace

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

LineChannel::LineChannel(Descriptor connected) : socket_(std::move(connected)) {
  set(socket_.get(), IPPROTO_TCP, TCP_NODELAY, 1);
}

bool LineChannel::send(std::string_view line) {
  std::string text(line);
  std::replace(text.begin(), text.end(), '\n', ' ');
  text.resize(std::min(text.size(), kLongestLine - 1));
  text += '\n';
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t sent = ::send(socket_.get(), text.data() + done, text.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return false;
    done += static_cast<size_t>(sent);
  }
  return true;
}

bool LineChannel::receive(std::vector<std::string>& lines) {
  std::array<char, 4096> bytes{};
  while (true) {
    const ssize_t got = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
    if (got == 0) return false;
    received_.append(bytes.data(), static_cast<size_t>(got));
    size_t begin = 0;
    for (size_t end; (end = received_.find('\n', begin)) != std::string::npos; begin = end + 1)
      lines.push_back(received_.substr(begin, end - begin));
    received_.erase(0, begin);
    if (received_.size() > kLongestLine) return false;
  }
}

void LineChannel::end() { (void)::shutdown(socket_.get(), SHUT_WR); }

MessageChannel::MessageChannel(Descriptor connected) : socket_(std::move(connected)) {
  set(socket_.get(), IPPROTO_TCP, TCP_NODELAY, 1);
}

void MessageChannel::send(std::string_view text) {
  std::string whole = kMagic;
  for (size_t i = 0; i < 8; ++i) whole += static_cast<char>(static_cast<uint64_t>(text.size()) >> (8 * i) & 0xff);
  // One packet for what is short.
  const size_t with_header = std::min<size_t>(text.size(), 4096);
  whole += text.substr(0, with_header);
  send_all(socket_.get(), whole);
  send_all(socket_.get(), text.substr(with_header));
}

bool MessageChannel::receive(std::string& text, uint64_t longest) {
  uint64_t missing = kHeader - header_.size();
  std::array<char, 65536> bytes{};
  while (true) {
    if (header_.size() == kHeader) {
      uint64_t length = 0;
      for (size_t i = 0; i < 8; ++i)
        length |= static_cast<uint64_t>(static_cast<unsigned char>(header_[4 + i])) << (8 * i);
      if (!header_.starts_with(kMagic) || length > longest) throw std::runtime_error("what came is no rank's message");
      missing = length - text_.size();
      if (missing == 0) {
        text = std::move(text_);
        text_.clear(), header_.clear();
        return true;
      }
    }
    const ssize_t got = ::recv(socket_.get(), bytes.data(), std::min<uint64_t>(missing, bytes.size()), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (got <= 0) throw std::runtime_error("its connection closed");
    std::string& to = header_.size() < kHeader ? header_ : text_;
    to.append(bytes.data(), static_cast<size_t>(got));
    missing -= static_cast<uint64_t>(got);
  }
}

Listener::Listener(int port) : socket_(open_socket(AF_INET6)) {
  // One socket for both families, or where the machine has no IPv6 for the old one alone.
  const bool six = socket_.get() >= 0;
  if (!six) socket_ = open_socket(AF_INET);
  sockaddr_in6 any6{};
  sockaddr_in any4{};
  any6.sin6_family = AF_INET6, any6.sin6_port = htons(static_cast<uint16_t>(port)), any6.sin6_addr = in6addr_any;
  any4.sin_family = AF_INET, any4.sin_port = any6.sin6_port;
  set(socket_.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (six) set(socket_.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  const int bound =
      six ? ::bind(socket_.get(), address_of(any6), sizeof any6) : ::bind(socket_.get(), address_of(any4), sizeof any4);
  if (bound != 0 || ::listen(socket_.get(), 1024) != 0)
    throw std::runtime_error(fmt::format("cannot listen on port {}: {}", port, std::strerror(errno)));
  sockaddr_in6 own{};
  socklen_t size = sizeof own;
  if (::getsockname(socket_.get(), address_of(own), &size) != 0)
    throw std::runtime_error(fmt::format("no port to listen on: {}", std::strerror(errno)));
  port_ = ntohs(own.sin6_port);  // which lies where sockaddr_in has it
}

std::optional<Descriptor> Listener::accept() const {
  const int accepted = ::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (accepted >= 0) return Descriptor(accepted);
  if (errno == EMFILE || errno == ENFILE)
    throw std::runtime_error(fmt::format("no more ranks can be let in: {} (ulimit -n)", std::strerror(errno)));
  return std::nullopt;
}

int free_port() {
  constexpr int kFirst = 20000, kCount = 10000, kTries = 100;
  std::random_device random;
  for (int i = 0; i < kTries; ++i) {
    try {
      return Listener(kFirst + static_cast<int>(random() % kCount)).port();
    } catch (const std::runtime_error&) {
      continue;  // somebody has it
    }
  }
  return Listener().port();
}

Descriptor connect_to(const std::string& address, int port, std::chrono::milliseconds limit) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int status = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (status != 0) throw std::runtime_error(fmt::format("{} port {}: {}", address, port, ::gai_strerror(status)));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> all(found, &::freeaddrinfo);
  int error = EADDRNOTAVAIL, left = 0;
  for (const addrinfo* to = found; to != nullptr; to = to->ai_next) ++left;
  const auto end = std::chrono::steady_clock::now() + limit;
  for (const addrinfo* to = found; to != nullptr; to = to->ai_next, --left) {
    Descriptor socket = open_socket(to->ai_family);
    // One from which nothing comes back leaves the others their share of the time.
    const auto now = std::chrono::steady_clock::now();
    error = socket.get() < 0 ? errno : connect_in_time(socket.get(), *to, now + (end - now) / left);
    if (error == 0) return socket;
  }
  throw std::runtime_error(fmt::format("{} port {}: {}", address, port, std::strerror(error)));
}

std::string peer_address(int socket) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  std::array<char, NI_MAXHOST> text{};
  if (::getpeername(socket, address_of(peer), &size) != 0 ||
      ::getnameinfo(address_of(peer), size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0)
    return "unknown address";
  const std::string address = text.data();
  constexpr std::string_view kMapped = "::ffff:";  // an IPv4 address on a socket of both
  return address.starts_with(kMapped) ? address.substr(kMapped.size()) : address;
}

std::vector<std::string> own_addresses() {
  std::vector<std::string> addresses;
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return addresses;
  for (const ifaddrs* i = all; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || (i->ifa_flags & IFF_UP) == 0 || (i->ifa_flags & IFF_LOOPBACK) != 0) continue;
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (i->ifa_addr->sa_family == AF_INET) {
      const auto* four = reinterpret_cast<const sockaddr_in*>(i->ifa_addr);
      ::inet_ntop(AF_INET, &four->sin_addr, text.data(), text.size());
    } else if (i->ifa_addr->sa_family == AF_INET6) {
      const auto* six = reinterpret_cast<const sockaddr_in6*>(i->ifa_addr);
      if (IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr)) continue;
      ::inet_ntop(AF_INET6, &six->sin6_addr, text.data(), text.size());
    }
    if (text[0] != '\0') addresses.emplace_back(text.data());
  }
  ::freeifaddrs(all);
  return addresses;
}

}  // namespace gradlibra
