// SPDX-License-Identifier: MIT
// The communicator over NCCL, with the emulator's stand-in for it: sums and their order, beside the stream and in a
// recorded graph, and how errors are told.
#include <gtest/gtest.h>
#include <nccl.h>

#include <cmath>
#include <csignal>
#include <random>
#include <set>

#include "runtime/distributed/nccl_communicator.h"
#include "tests/emulator/emulated_ranks.h"
#include "tests/messages.h"

namespace gradlibra::emulator_test {
namespace {

using Texts = std::vector<std::string>;
using Floats = std::vector<float>;

// body(context, communicator) on every rank, and the orderly end.
Texts run_connected(int count, const std::function<std::string(Context&, Communicator&)>& body) {
  return run_gpu_ranks(count, [&](HostGroup& hosts) {
    const auto context = Context::for_device("cuda");
    const auto ranks = make_nccl_communicator(*context, hosts, 20);
    std::string result = body(*context, *ranks);
    ranks->finish();
    return result;
  });
}

template <class T>
std::vector<T> values_of(int rank, int64_t size, uint32_t seed = 0) {
  std::mt19937 random(static_cast<uint32_t>(rank + 1) + 100 * seed);
  std::vector<T> values(static_cast<size_t>(size));
  for (T& v : values)
    v = static_cast<T>(std::ldexp(static_cast<double>(random()) - 2e9, static_cast<int>(random() % 40)));
  return values;
}
template <class T>
std::vector<T> sum_of_all(int ranks, int64_t size, uint32_t seed = 0) {
  std::vector<T> total = values_of<T>(0, size, seed);
  for (int r = 1; r < ranks; ++r) {
    const std::vector<T> part = values_of<T>(r, size, seed);
    for (size_t i = 0; i < total.size(); ++i) total[i] += part[i];
  }
  return total;
}
template <class T>
Tensor upload(Context& context, const std::vector<T>& values) {
  return context.upload(std::span<const T>(values), {static_cast<int64_t>(values.size())});
}

TEST(NcclCommunicator, SumsInTheOrderOfRanksAndBroadcasts) {
  for (const int count : {2, 4}) {
    const Texts results = run_connected(count, [&](Context& context, Communicator& ranks) -> std::string {
      EXPECT_EQ(ranks.world_size(), count);
      for (const int64_t size : {1, 5000}) {
        Tensor f = upload(context, values_of<float>(ranks.rank(), size));
        Tensor d = upload(context, values_of<double>(ranks.rank(), size));
        ranks.sum(f.view());
        ranks.sum(d.view<double>());
        EXPECT_EQ(context.download<float>(f), sum_of_all<float>(count, size));
        EXPECT_EQ(context.download<double>(d), sum_of_all<double>(count, size));
        for (int root = 0; root < count; ++root) {
          Tensor b = upload(context, values_of<float>(ranks.rank(), size));
          ranks.broadcast(b.view(), root);
          EXPECT_EQ(context.download<float>(b), values_of<float>(root, size));
        }
      }
      ranks.sum(View<float>(nullptr, {0}));
      ranks.sum(View<double>(nullptr, {0}));
      ranks.begin_sum(View<float>(nullptr, {0}));
      ranks.join_sums();
      ranks.broadcast(View<float>(nullptr, {0}), 0);
      ranks.barrier();
      EXPECT_EQ(ranks.gather(std::to_string(ranks.rank())).back(), std::to_string(count - 1));
      EXPECT_EQ(ranks.failure(), "");
      return ranks.library();
    });
    EXPECT_EQ(results, Texts(static_cast<size_t>(count), "NCCL 2.19.3, hosts by TCP"));
  }
}

// Several sums beside the work that computes the next array, one of doubles between them, and a broadcast behind:
// recorded, with the same bits in every launch, whatever order a launch takes.
TEST(NcclCommunicator, SumsBesideTheStreamAreRecorded) {
  constexpr int kCount = 3;
  constexpr int64_t kSize = 300;
  const Texts results = run_connected(kCount, [&](Context& context, Communicator& ranks) -> std::string {
    Tensor given[3] = {upload(context, values_of<float>(ranks.rank(), kSize, 1)),
                       upload(context, values_of<float>(ranks.rank(), kSize, 2)),
                       upload(context, values_of<float>(ranks.rank(), kSize, 3))};
    const Tensor given_doubles = upload(context, values_of<double>(ranks.rank(), 7));
    Tensor sums[3], doubles = context.empty({7}, DType::f64), out = context.empty({kSize}),
                    sent = context.empty({kSize});
    for (Tensor& sum : sums) sum = context.empty({kSize});
    const auto step = [&] {
      for (size_t i = 0; i < 3; ++i) {
        context.copy(given[i], sums[i]);
        if (i < 2) ranks.begin_sum(sums[i].view());
        if (i == 0) {
          context.copy(given_doubles, doubles);
          ranks.sum(doubles.view<double>());
        }
      }
      ranks.begin_sum(View<float>(sums[2].view().data(), {kSize / 3}));  // what is left of it, alone
      ranks.join_sums();
      ranks.join_sums();
      context.copy(sums[1], out);
      context.copy(sums[0], sent);
      context.zero(sums[0]);
      if (ranks.rank() != 1) context.zero(sent);
      ranks.broadcast(sent.view(), 1);
    };
    step();
    const auto graph = context.capture(step);
    for (int launch = 0; launch < 40; ++launch) {
      for (Tensor* t : {&sums[1], &sums[2], &out, &sent}) context.zero(*t);
      graph->launch();
      EXPECT_EQ(context.download<float>(out), sum_of_all<float>(kCount, kSize, 2));
      EXPECT_EQ(context.download<float>(sent), sum_of_all<float>(kCount, kSize, 1));
      EXPECT_EQ(context.download<double>(doubles), sum_of_all<double>(kCount, 7));
      const Floats third = context.download<float>(sums[2]), all = sum_of_all<float>(kCount, kSize, 3),
                   own = values_of<float>(ranks.rank(), kSize, 3);
      EXPECT_TRUE(std::equal(third.begin(), third.begin() + kSize / 3, all.begin()));
      EXPECT_TRUE(std::equal(third.begin() + kSize / 3, third.end(), own.begin() + kSize / 3));
    }
    return "ended";
  });
  EXPECT_EQ(results, Texts(kCount, "ended"));
}

// The mistake that join_sums() is there to prevent: what reads before it finds now the sum, now what was there.
TEST(BrokenNcclUse, AReadBeforeTheJoinShows) {
  const Texts results = run_connected(2, [](Context& context, Communicator& ranks) -> std::string {
    const Tensor given = upload(context, Floats{1, 2});
    Tensor values = context.empty({2}), out = context.empty({2});
    const auto graph = context.capture([&] {
      context.copy(given, values);
      ranks.begin_sum(values.view());
      context.copy(values, out);
      ranks.join_sums();
    });
    std::set<Floats> seen;
    for (int launch = 0; launch < 64; ++launch) {
      graph->launch();
      seen.insert(context.download<float>(out));
    }
    EXPECT_EQ(seen, (std::set<Floats>{{1, 2}, {2, 4}}));
    return "ended";
  });
  EXPECT_EQ(results, Texts(2, "ended"));
}

TEST(BrokenNcclUse, AMissingJoinIsRefused) {
  const Texts results = run_connected(2, [](Context& context, Communicator& ranks) -> std::string {
    Tensor values = upload(context, Floats{1, 2});
    const std::string message = message_of([&] { (void)context.capture([&] { ranks.begin_sum(values.view()); }); });
    ranks.join_sums();
    return message;
  });
  for (const std::string& message : results) EXPECT_HAS(message, "cudaErrorStreamCaptureUnjoined");
}

TEST(NcclCommunicator, GivesMemoryThatAllHaveRegistered) {
  const Texts results = run_connected(2, [](Context& context, Communicator& ranks) -> std::string {
    EXPECT_EQ(ranks.memory_for_sums(0).size(), 0);
    const View<float> memory = ranks.memory_for_sums(100);
    EXPECT_EQ(memory.size(), 100);
    Tensor borrowed = Tensor::borrow(memory.data(), memory.shape());
    context.upload(std::span<const float>(values_of<float>(ranks.rank(), 100)), borrowed);
    ranks.sum(memory);
    EXPECT_EQ(context.download<float>(borrowed), sum_of_all<float>(2, 100));
    // Where one cannot, none has any.
    emulator::allow_registration(ranks.rank() != 1);
    EXPECT_EQ(ranks.memory_for_sums(100).size(), 0);
    Tensor plain = upload(context, Floats{1});
    ranks.sum(plain.view());
    EXPECT_EQ(context.download<float>(plain), Floats{2});
    return "ended";
  });
  EXPECT_EQ(results, Texts(2, "ended"));
}

// --- errors ---

std::string name_of(int rank) { return "rank " + std::to_string(rank) + " on " + host_name(); }

TEST(NcclErrors, ARankThatDoesNotComeIsATimeOut) {
  const Texts results = run_gpu_ranks(2, [](HostGroup& hosts) -> std::string {
    const auto context = Context::for_device("cuda");
    if (hosts.rank() == 1) {  // it says that it will, and stands still
      (void)hosts.gather(std::to_string(NCCL_VERSION_CODE) + " ");
      hosts.barrier();
      return "";
    }
    std::string message = message_of([&] { (void)make_nccl_communicator(*context, hosts, 0.3); });
    hosts.barrier();
    return message;
  });
  EXPECT_EQ(results[0], name_of(0) + ": ncclCommInitRankConfig: not connected with all 2 ranks within 0.3 s");
}

TEST(NcclErrors, AllNameWhoHasNoNcclOrAnother) {
  for (const auto& [other, want] :
       {std::pair<std::string, std::string>("21803 ",
                                            "rank 0 has NCCL 2.19.3, rank 1 has 2.18.3: all must load the same"),
        {"!rank 1 on other: ranks on GPUs need NCCL: no file", "rank 1 on other: ranks on GPUs need NCCL: no file"}}) {
    const Texts results = run_gpu_ranks(2, [&own = other](HostGroup& hosts) -> std::string {
      const auto context = Context::for_device("cuda");
      if (hosts.rank() == 1) return (void)hosts.gather(own), "";
      return message_of<AgreedError>([&] { (void)make_nccl_communicator(*context, hosts, 1); });
    });
    EXPECT_EQ(results[0], want);
  }
}

TEST(NcclErrors, ACallNamesRankHostCallAndReason) {
  const Texts results = run_gpu_ranks(2, [](HostGroup& hosts) {
    const auto context = Context::for_device("cuda");
    const auto communicator = make_nccl_communicator(*context, hosts, 20);
    Communicator& ranks = *communicator;
    Tensor values = upload(*context, Floats{1});
    std::string message = message_of<PeerLost>([&] { ranks.broadcast(values.view(), 7); });
    // And nothing else works from then on.
    EXPECT_EQ(message_of([&] { ranks.sum(values.view()); }), message);
    EXPECT_EQ(message_of([&] { ranks.begin_sum(values.view()); }), message);
    EXPECT_EQ(ranks.failure(), message);
    EXPECT_EQ(message_of([&] { ranks.finish(); }), message);
    return message;
  });
  for (int r = 0; r < 2; ++r)
    EXPECT_EQ(results[static_cast<size_t>(r)],
              name_of(r) + ": ncclBroadcast: invalid argument (ncclBroadcast: root 7 of 2)");
}

// What fails while nobody looks is told when somebody asks, and where the hosts meet next.
TEST(NcclErrors, AnErrorOnTheWayIsToldLater) {
  const Texts results = run_gpu_ranks(2, [](HostGroup& hosts) -> std::string {
    const auto context = Context::for_device("cuda");
    const auto ranks = make_nccl_communicator(*context, hosts, 20);
    EXPECT_EQ(ranks->failure(), "");
    emulator::fail_collectives(ncclRemoteError, "socket closed by 10.0.0.7");
    const std::string want = name_of(ranks->rank()) +
                             ": a collective that was enqueued: remote process exited or there was a network error "
                             "(socket closed by 10.0.0.7)";
    EXPECT_EQ(ranks->failure(), want);
    EXPECT_EQ(message_of([&] { ranks->barrier(); }), want);
    EXPECT_EQ(message_of([&] { (void)ranks->gather(""); }), want);
    EXPECT_EQ(message_of([&] { ranks->finish(); }), want);
    context->synchronize();
    hosts.barrier();
    return "told";
  });
  EXPECT_EQ(results, Texts(2, "told"));
}

// What throws has a recorded step above it on the stack, which NCCL waits for: the abort must not wait in its place.
TEST(NcclErrors, AnErrorIsToldWhileARecordedStepIsThere) {
  const Texts results = run_gpu_ranks(2, [](HostGroup& hosts) -> std::string {
    const auto context = Context::for_device("cuda");
    const auto ranks = make_nccl_communicator(*context, hosts, 20);
    emulator::set_collective_timeout(5);  // of the abort that nothing lets go on
    Tensor values = upload(*context, Floats{1});
    std::string message;
    try {
      const auto graph = context->capture([&] { ranks->sum(values.view()); });
      graph->launch();
      emulator::fail_collectives(ncclRemoteError, "socket closed");
      ranks->barrier();
    } catch (const PeerLost& error) {
      message = error.what();
    }
    EXPECT_EQ(ranks->failure(), message);
    hosts.barrier();
    return message;
  });
  for (const std::string& message : results) EXPECT_HAS(message, "a collective that was enqueued: remote process");
}

// The same while the step is being recorded.
TEST(NcclErrors, AnErrorIsToldWhileAStepIsRecorded) {
  const Texts results = run_gpu_ranks(2, [](HostGroup& hosts) -> std::string {
    const auto context = Context::for_device("cuda");
    const auto ranks = make_nccl_communicator(*context, hosts, 20);
    emulator::set_collective_timeout(5);
    Tensor values = upload(*context, Floats{1});
    std::string message = message_of<PeerLost>([&] {
      (void)context->capture([&] {
        ranks->begin_sum(values.view());
        ranks->broadcast(values.view(), 7);
      });
    });
    context->synchronize();
    hosts.barrier();
    return message;
  });
  for (const std::string& message : results) EXPECT_HAS(message, "ncclBroadcast: invalid argument");
}

// Killed, or gone with an exception, in front of a recorded step that the others launch.
TEST(NcclErrors, ALostRankIsToldLater) {
  for (const bool killed : {true, false}) {
    const Texts results = run_gpu_ranks(2, [&](HostGroup& hosts) -> std::string {
      const auto context = Context::for_device("cuda");
      auto ranks = make_nccl_communicator(*context, hosts, 20);
      Tensor values = upload(*context, Floats{1, 2});
      auto graph = context->capture([&] { ranks->sum(values.view()); });
      graph->launch();
      EXPECT_EQ(context->download<float>(values), (Floats{2, 4}));
      if (ranks->rank() == 1) {
        if (killed) ::raise(SIGKILL);
        graph = nullptr;
        ranks = nullptr;
        hosts.barrier();
        return "left";
      }
      graph->launch();
      std::string why = ranks->failure();
      if (!killed) hosts.barrier();
      return why;
    });
    EXPECT_HAS(results[0], name_of(0) +
                               ": a collective that was enqueued: remote process exited or there was a network "
                               "error (rank 1");
    EXPECT_HAS(results[0], killed ? "'s process has ended" : " has aborted");
    EXPECT_EQ(results[1], killed ? "signal 9" : "left");
  }
}

TEST(NcclErrors, AHostContextIsNoGpu) {
  Context host(1);
  SingleProcess alone;
  EXPECT_THROW((void)make_nccl_communicator(host, alone, 1), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::emulator_test
