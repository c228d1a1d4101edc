// SPDX-License-Identifier: MIT
// Ranks that meet over TCP, as processes of this machine: late, missing, strange and mistaken ones.
#include "runtime/distributed/tcp_group.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <functional>
#include <thread>

#include "tests/messages.h"
#include "tests/rank_processes.h"

namespace gradlibra {
namespace {

using testing::run_processes;
using Texts = std::vector<std::string>;
using std::chrono::milliseconds;

class TcpGroups : public ::testing::Test {
 protected:
  static constexpr double kPatience = 20;

  // Nobody else gets the port: rank 0's process inherits the socket, and the others ask until it listens.
  [[nodiscard]] Launch launch(int rank, int world_size) const {
    Launch launch{.rank = rank, .world_size = world_size, .local_rank = rank, .master_address = "127.0.0.1"};
    launch.master_port = listener_->port();
    launch.source = "a test";
    launch.job = "7.0";
    return launch;
  }
  // As rank 0 does; every other rank, and the test itself, lets go of the socket.
  std::unique_ptr<Listener> listener_of(int rank) { return rank == 0 ? std::move(listener_) : nullptr; }
  std::unique_ptr<HostGroup> meet(int rank, int world_size, double patience = kPatience) {
    const Launch own = launch(rank, world_size);
    return make_tcp_group(own, patience, listener_of(rank));
  }
  // What a process hears that sends `bytes` to rank 0, until the connection ends. `sent` is called when they are.
  std::string stray(const std::string& bytes, int wait_ms, const std::function<void()>& sent) {
    const Descriptor socket = connect_to("127.0.0.1", listener_->port(), milliseconds(5000));
    (void)::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    sent();
    std::string heard;
    char byte = 0;
    for (pollfd waits{socket.get(), POLLIN, 0};
         ::poll(&waits, 1, wait_ms) > 0 && ::recv(socket.get(), &byte, 1, 0) > 0;)
      heard += byte;
    return heard;
  }

  std::unique_ptr<Listener> listener_ = std::make_unique<Listener>();
};

TEST_F(TcpGroups, GatherTextsOfAnyLengthInTheOrderOfRanks) {
  constexpr int kRanks = 4;
  // Longer than any buffer on the way.
  const auto text = [](int rank, int round) {
    const size_t length = round == 0 ? 0 : round == 1 ? static_cast<size_t>(rank) : (rank % 2 == 0 ? 3 << 20 : 70000);
    return std::string(length, static_cast<char>('a' + rank)) + std::string(1, '\0') + "\n";
  };
  const Texts results = run_processes(kRanks, [&](int rank) -> std::string {
    const auto group = meet(rank, kRanks);
    EXPECT_EQ(group->rank(), rank);
    EXPECT_EQ(group->world_size(), kRanks);
    EXPECT_EQ(group->library(), "TCP");
    for (int round = 0; round < 4; ++round) {
      Texts want;
      for (int r = 0; r < kRanks; ++r) want.push_back(text(r, round));
      EXPECT_TRUE(group->gather(text(rank, round)) == want) << round;
      group->barrier();
    }
    group->finish();
    return "ended";
  });
  EXPECT_EQ(results, Texts(kRanks, "ended"));
}

// Rank 0 as well: the others ask again until it listens.
TEST_F(TcpGroups, WaitForWhoComesLate) {
  for (const int late : {0, 2}) {
    Launch some = launch(0, 3);
    const int port = some.master_port = free_port();
    listener_ = nullptr;
    const Texts results = run_processes(3, [&](int rank) -> std::string {
      Launch own = some;
      own.rank = rank;
      if (rank == late) std::this_thread::sleep_for(milliseconds(300));
      const auto group = make_tcp_group(own, kPatience, rank == 0 ? std::make_unique<Listener>(port) : nullptr);
      const Texts all = group->gather(std::to_string(rank));
      group->finish();
      return all[0] + all[1] + all[2];
    });
    EXPECT_EQ(results, Texts(3, "012")) << late;
    listener_ = std::make_unique<Listener>();
  }
}

TEST_F(TcpGroups, NameWhoDoesNotComeOnEveryRankThatCame) {
  const auto start = std::chrono::steady_clock::now();
  const std::string port = std::to_string(listener_->port());
  const Texts results = run_processes(5, [&](int rank) -> std::string {
    if (rank == 2 || rank == 4) return "not started";
    return meet(rank, 5, 2) ? "met" : "";
  });
  const std::string why = "ranks 2, 4 of 5 have not come to rank 0 on " + host_name() + " port " + port + " within 2 s";
  EXPECT_EQ(results[0], "error: " + why);
  for (const size_t r : {1u, 3u})
    EXPECT_EQ(results[r], "error: rank " + std::to_string(r) + " on " + host_name() + ": rank 0 at 127.0.0.1 port " +
                              port + " says: " + why);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST_F(TcpGroups, NameThePlaceWhereNobodyListens) {
  const Launch own = launch(1, 2);
  listener_ = nullptr;
  EXPECT_EQ(message_of([&] { (void)make_tcp_group(own, 0.3); }),
            "rank 1 on " + host_name() + " has not found rank 0 at 127.0.0.1 port " + std::to_string(own.master_port) +
                " within 0.3 s: 127.0.0.1 port " + std::to_string(own.master_port) + ": Connection refused");
  Launch unknown = own;
  unknown.master_address = "no.such.host.invalid";
  EXPECT_HAS(message_of([&] { (void)make_tcp_group(unknown, 0.2); }), "no.such.host.invalid port ");
  unknown.master_address = "";
  EXPECT_EQ(message_of([&] { (void)make_tcp_group(unknown, 1); }),
            "rank 1 of 2 by a test: where rank 0 can be met is not known: set MASTER_ADDR and MASTER_PORT, or give "
            "--master HOST:PORT; on CPUs start the ranks with mpirun");
}

TEST_F(TcpGroups, NameAPortThatIsTaken) {
  const Launch own = launch(0, 2);
  const std::string message = message_of([&] { (void)make_tcp_group(own, 1); });
  EXPECT_HAS(message, "rank 0 on " + host_name() + ": cannot listen on port " + std::to_string(own.master_port) +
                          ": Address already in use: set another MASTER_PORT");
}

// Two ranks, and a third process that is no rank: it is told so or dropped, and the two meet all the same.
TEST_F(TcpGroups, RefuseStrangers) {
  struct Case {
    std::string name, bytes, heard;
  };
  const auto message = [](const std::string& text, uint64_t length) {
    std::string whole = "GLR1";
    for (size_t i = 0; i < 8; ++i) whole += static_cast<char>(length >> (8 * i) & 0xff);
    return whole + text;
  };
  const auto hello = [&](const std::string& text) { return message(text, text.size()); };
  const std::string long_text(5000, 'x');
  for (const Case& c : std::vector<Case>{
           {"a browser", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "this process what came is no rank's message"},
           {"a claim of length", message("x", uint64_t{1} << 60), "what came is no rank's message"},
           {"a long hello", hello(long_text), "what came is no rank's message"},
           {"another program", hello("hello"), "this process is no rank of this program, or of another version of it"},
           {"another job", hello("gradlibra rank 1\n1\n2\n8.0\nhost"),
            "this process is of job '8.0', this is job '7.0'"},
           {"another size", hello("gradlibra rank 1\n1\n3\n7.0\nhost"), "this process is one of 3 ranks, here are 2"},
           {"no such rank", hello("gradlibra rank 1\n2\n2\n7.0\nhost"), "this process says it is rank 2 of 2"},
           {"rank 0 twice", hello("gradlibra rank 1\n0\n2\n7.0\nhost"), "this process says it is rank 0 of 2"},
           {"no number", hello("gradlibra rank 1\nx\n2\n7.0\nhost"), "this process says it is rank x of 2"},
           {"one that closes", "GLR", ""}}) {
    SCOPED_TRACE(c.name);
    // Rank 1 comes when the stranger has: with it rank 0 has all, and looks at nobody else.
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe(pipe.data()), 0);
    const Descriptor comes(pipe[0]), has_come(pipe[1]);
    const Texts results = run_processes(3, [&](int rank) -> std::string {
      char byte = 0;
      if (rank == 2)
        return stray(c.bytes, c.heard.empty() ? 100 : 20000, [&] { (void)!::write(has_come.get(), &byte, 1); });
      if (rank == 1) {
        (void)!::read(comes.get(), &byte, 1);
        std::this_thread::sleep_for(milliseconds(50));
      }
      const auto group = meet(rank, 2);
      const Texts all = group->gather(std::to_string(rank));
      group->finish();
      return all[0] + all[1];
    });
    EXPECT_EQ(results[0], "01");
    EXPECT_EQ(results[1], "01");
    EXPECT_HAS(results[2], c.heard);
    listener_ = std::make_unique<Listener>();
  }
}

// The one that is wrong ends at once and says why; those that wait for the right one name it too.
TEST_F(TcpGroups, TellAMistakenRankWhy) {
  const Texts results = run_processes(3, [&](int rank) -> std::string {
    Launch own = launch(rank, 3);
    if (rank == 1) own.job = "6.0";
    if (rank == 2) own.world_size = 4;
    return make_tcp_group(own, 2, listener_of(rank)) ? "met" : "";
  });
  EXPECT_HAS(results[0], "ranks 1, 2 of 3 have not come");
  EXPECT_HAS(results[0], "127.0.0.1: is of job '6.0', this is job '7.0'");
  EXPECT_HAS(results[0], "127.0.0.1: is one of 4 ranks, here are 3");
  EXPECT_HAS(results[1], "says: this process is of job '6.0', this is job '7.0'");
  EXPECT_HAS(results[2], "says: this process is one of 4 ranks, here are 3");
  listener_ = std::make_unique<Listener>();
  const Texts twice =
      run_processes(3, [&](int rank) -> std::string { return meet(std::min(rank, 1), 3, 2) ? "met" : ""; });
  EXPECT_HAS(twice[0], "rank 2 of 3 has not come");
  EXPECT_HAS(twice[1] + twice[2],
             "says: this process is rank 1 on " + host_name() + ", but rank 1 has come from " + host_name());
}

TEST_F(TcpGroups, NameWhoseConnectionCloses) {
  for (const int lost : {0, 2}) {
    const Texts results = run_processes(3, [&](int rank) -> std::string {
      const auto group = meet(rank, 3);
      group->barrier();
      if (rank == lost) ::raise(SIGKILL);
      (void)group->gather(std::string(1 << 20, 'x'));
      return "gathered";
    });
    EXPECT_EQ(results[static_cast<size_t>(lost)], "signal 9");
    if (lost == 0) {
      for (const size_t r : {1u, 2u}) {
        EXPECT_HAS(results[r],
                   "error: rank " + std::to_string(r) + " on " + host_name() + ": rank 0 at 127.0.0.1 port ");
        EXPECT_HAS(results[r], ": its connection closed");
      }
    } else {
      for (const size_t r : {0u, 1u})
        EXPECT_EQ(results[r],
                  "error: rank 0 on " + host_name() + ": rank 2 on " + host_name() + ": its connection closed");
    }
    listener_ = std::make_unique<Listener>();
  }
}

// Some of a message, and then no more.
TEST_F(TcpGroups, ATextThatBreaksOffIsNoText) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
  MessageChannel reader{Descriptor(ends[0])};
  std::string text = "before";
  {
    const Descriptor writer(ends[1]);
    const std::string part("GLR1\5\0\0\0\0\0\0\0abc", 15);
    ASSERT_EQ(::send(writer.get(), part.data(), part.size(), 0), 15);
    EXPECT_FALSE(reader.receive(text, 100));
    EXPECT_FALSE(reader.receive(text, 100));
  }
  EXPECT_EQ(message_of([&] { (void)reader.receive(text, 100); }), "its connection closed");
  EXPECT_EQ(text, "before");
}

}  // namespace
}  // namespace gradlibra
