// SPDX-License-Identifier: MIT
// The stand-in for NCCL: what its collectives give, and that it catches each mistake it is there for.
#include <gtest/gtest.h>
#include <nccl.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <random>
#include <thread>

#include "tests/emulator/emulated_ranks.h"
#include "tests/messages.h"

namespace gradlibra::emulator_test {
namespace {

using Texts = std::vector<std::string>;

template <class T>
constexpr ncclDataType_t kType = std::is_same_v<T, float> ? ncclFloat32 : ncclFloat64;

template <class T>
class Array {
 public:
  explicit Array(const std::vector<T>& values) : size_(values.size()) {
    EXPECT_EQ(cudaMalloc(&data_, size_ * sizeof(T)), cudaSuccess);
    set(values);
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { cudaFree(data_); }
  void set(const std::vector<T>& values) {
    EXPECT_EQ(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  [[nodiscard]] std::vector<T> get() const {
    std::vector<T> values(size_);
    EXPECT_EQ(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }
  [[nodiscard]] T* data() const { return data_; }

 private:
  T* data_ = nullptr;
  size_t size_;
};

ncclUniqueId common_id(HostGroup& hosts) {
  ncclUniqueId id{};
  if (hosts.rank() == 0) {
    EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  }
  const std::string text = hosts.gather(std::string(id.internal, sizeof id.internal))[0];
  std::memcpy(id.internal, text.data(), sizeof id.internal);
  return id;
}

// A rank's communicator and stream.
class Rank {
 public:
  explicit Rank(HostGroup& hosts, bool blocking = true, bool ready = true) : hosts_(hosts) {
    const ncclUniqueId id = common_id(hosts);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = blocking ? 1 : 0;
    const ncclResult_t status = ncclCommInitRankConfig(&comm, hosts.world_size(), id, hosts.rank(), &config);
    EXPECT_EQ(status, blocking ? ncclSuccess : ncclInProgress);
    if (ready) wait();
    EXPECT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;
  ~Rank() { cudaStreamDestroy(stream); }

  [[nodiscard]] int rank() const { return hosts_.rank(); }
  ncclResult_t wait() const {
    ncclResult_t status = ncclInProgress;
    while (status == ncclInProgress) EXPECT_EQ(ncclCommGetAsyncError(comm, &status), ncclSuccess);
    return status;
  }
  template <class T>
  ncclResult_t sum(const Array<T>& array, size_t count, cudaStream_t on = nullptr) const {
    return ncclAllReduce(array.data(), array.data(), count, kType<T>, ncclSum, comm, on == nullptr ? stream : on);
  }
  void end() const {
    EXPECT_EQ(ncclCommFinalize(comm), ncclSuccess);
    EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess);
  }

  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;

 private:
  HostGroup& hosts_;
};

// Of many sizes, so that the order of a sum shows in its bits.
template <class T>
std::vector<T> values_of(int rank, size_t size) {
  std::mt19937 random(static_cast<uint32_t>(rank + 1));
  std::vector<T> values(size);
  for (T& v : values)
    v = static_cast<T>(std::ldexp(static_cast<double>(random()) - 2e9, static_cast<int>(random() % 40)));
  return values;
}
template <class T>
std::vector<T> sum_of_all(int ranks, size_t size) {
  std::vector<T> total = values_of<T>(0, size);
  for (int r = 1; r < ranks; ++r)
    for (size_t i = 0; i < size; ++i) total[i] += values_of<T>(r, size)[i];
  return total;
}

TEST(Nccl, SumsInTheOrderOfRanksAndBroadcasts) {
  for (const int ranks : {1, 2, 3}) {
    const Texts results = run_ranks(ranks, [&](HostGroup& hosts) -> std::string {
      const Rank own(hosts);
      for (const size_t size : {1u, 77u}) {
        const Array<float> f(values_of<float>(own.rank(), size));
        const Array<double> d(values_of<double>(own.rank(), size)), out(std::vector<double>(size, 0));
        EXPECT_EQ(own.sum(f, size), ncclSuccess);
        EXPECT_EQ(ncclAllReduce(d.data(), out.data(), size, ncclFloat64, ncclSum, own.comm, own.stream), ncclSuccess);
        EXPECT_EQ(f.get(), sum_of_all<float>(ranks, size));
        EXPECT_EQ(d.get(), values_of<double>(own.rank(), size));
        EXPECT_EQ(out.get(), sum_of_all<double>(ranks, size));
        for (int root = 0; root < ranks; ++root) {
          Array<float> b(values_of<float>(own.rank(), size));
          EXPECT_EQ(ncclBroadcast(b.data(), b.data(), size, ncclFloat32, root, own.comm, own.stream), ncclSuccess);
          EXPECT_EQ(b.get(), values_of<float>(root, size));
        }
        EXPECT_EQ(own.sum(f, 0), ncclSuccess);
      }
      own.end();
      return "ended";
    });
    EXPECT_EQ(results, Texts(static_cast<size_t>(ranks), "ended"));
  }
}

TEST(Nccl, AGroupsCallsAreMadeAtItsEnd) {
  const Texts results = run_ranks(2, [](HostGroup& hosts) -> std::string {
    const Rank own(hosts);
    const Array<float> a({1}), b({10, 20});
    EXPECT_EQ(ncclGroupStart(), ncclSuccess);
    EXPECT_EQ(own.sum(a, 1), ncclSuccess);
    EXPECT_EQ(own.sum(b, 2), ncclSuccess);
    EXPECT_EQ(a.get(), std::vector<float>{1});
    EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
    EXPECT_EQ(a.get(), std::vector<float>{2});
    EXPECT_EQ(b.get(), (std::vector<float>{20, 40}));
    EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
    own.end();
    return "ended";
  });
  EXPECT_EQ(results, Texts(2, "ended"));
}

// A graph of what `record` enqueues, launched `launches` times.
void launch_recorded(const Rank& own, int launches, const std::function<void()>& record) {
  EXPECT_EQ(cudaStreamBeginCapture(own.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  record();
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(own.stream, &graph), cudaSuccess);
  cudaGraphExec_t exec = nullptr;
  EXPECT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  for (int i = 0; i < launches; ++i) EXPECT_EQ(cudaGraphLaunch(exec, own.stream), cudaSuccess);
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

TEST(Nccl, ARecordedSumIsMadeByEveryLaunch) {
  const Texts results = run_ranks(2, [](HostGroup& hosts) -> std::string {
    const Rank own(hosts);
    const Array<float> a({1});
    launch_recorded(own, 3, [&] {
      EXPECT_EQ(own.sum(a, 1), ncclSuccess);
      EXPECT_EQ(a.get(), std::vector<float>{1});
    });
    EXPECT_EQ(a.get(), std::vector<float>{8});
    own.end();
    return "ended";
  });
  EXPECT_EQ(results, Texts(2, "ended"));
}

// --- mistakes ---

struct Mistake {
  std::string name;
  std::function<void(const Rank&, const Array<float>&)> body;  // of 8 floats, no two alike
  Texts of_rank_0, of_rank_1;                                  // what each is told; empty: it makes none
};

class BrokenCollectives : public ::testing::TestWithParam<Mistake> {};

TEST_P(BrokenCollectives, IsCaught) {
  const Texts results = run_ranks(2, [](HostGroup& hosts) -> std::string {
    // What is told only when time is over need not take long; all else has it, on a machine with other work.
    const bool waits = GetParam().name == "never_comes" || GetParam().name == "aborted_before_its_graph";
    emulator::set_collective_timeout(waits ? 0.3 : 20);
    const Rank own(hosts);
    const Array<float> array({1, 2, 3, 4, 5, 6, 7, 8});
    std::string caught;
    try {
      GetParam().body(own, array);
    } catch (const emulator::LaunchError& error) {
      caught = error.what();
    }
    hosts.barrier();
    return caught;
  });
  for (const auto& [got, want] : {std::pair(results[0], GetParam().of_rank_0), {results[1], GetParam().of_rank_1}}) {
    expect_mentions(got, want);
    EXPECT_EQ(got.empty(), want.empty()) << got;
  }
}

void first_and_other(const Rank& own, const std::function<void()>& of_first, const std::function<void()>& of_other) {
  if (own.rank() == 0)
    of_first();
  else
    of_other();
}

const Texts kSizes = {
    "rank 0 and rank 1 differ: call 1, ncclAllReduce of 4 float32, and call 1, ncclAllReduce of 8 "
    "float32 (seed "};
INSTANTIATE_TEST_SUITE_P(
    Mistakes, BrokenCollectives,
    ::testing::Values(
        Mistake{"swapped_sums",
                [](const Rank& own, const Array<float>& a) {
                  for (const size_t count : own.rank() == 0 ? std::vector<size_t>{4, 8} : std::vector<size_t>{8, 4})
                    (void)own.sum(a, count);
                },
                kSizes, kSizes},
        Mistake{"other_size", [](const Rank& own, const Array<float>& a) { (void)own.sum(a, own.rank() == 0 ? 4 : 8); },
                kSizes, kSizes},
        Mistake{"missing_call",
                [](const Rank& own, const Array<float>& a) {
                  (void)own.sum(a, 4);
                  if (own.rank() == 1) (void)own.sum(a, 4);
                  own.end();
                },
                {"rank 0 and rank 1 differ: call 2, ncclCommFinalize, and call 2, ncclAllReduce of 4 float32"},
                {"rank 0 and rank 1 differ: call 2, ncclCommFinalize, and call 2, ncclAllReduce of 4 float32"}},
        Mistake{"never_comes",
                [](const Rank& own, const Array<float>& a) {
                  (void)own.sum(a, 4);
                  if (own.rank() == 0) (void)own.sum(a, 8);
                },
                {"rank 1 (after call 1, ncclAllReduce of 4 float32) has not come within 0.3 s; rank 0 waits in call 2, "
                 "ncclAllReduce of 8 float32"},
                {}},
        Mistake{"other_type",
                [](const Rank& own, const Array<float>& a) {
                  (void)ncclAllReduce(a.data(), a.data(), 4, own.rank() == 0 ? ncclFloat32 : ncclFloat64, ncclSum,
                                      own.comm, own.stream);
                },
                {"ncclAllReduce of 4 float32, and call 1, ncclAllReduce of 4 float64"},
                {"ncclAllReduce of 4 float32, and call 1, ncclAllReduce of 4 float64"}},
        Mistake{"other_operation",
                [](const Rank& own, const Array<float>& a) {
                  first_and_other(
                      own, [&] { (void)own.sum(a, 4); },
                      [&] {
                        (void)ncclBroadcast(a.data(), a.data(), 4, ncclFloat32, 0, own.comm, own.stream);
                      });
                },
                {"ncclAllReduce of 4 float32, and call 1, ncclBroadcast of 4 float32 from rank 0"},
                {"ncclAllReduce of 4 float32, and call 1, ncclBroadcast of 4 float32 from rank 0"}},
        Mistake{"other_root",
                [](const Rank& own, const Array<float>& a) {
                  (void)ncclBroadcast(a.data(), a.data(), 4, ncclFloat32, own.rank(), own.comm, own.stream);
                },
                {"from rank 0, and call 1, ncclBroadcast of 4 float32 from rank 1"},
                {"from rank 0, and call 1, ncclBroadcast of 4 float32 from rank 1"}},
        Mistake{"registered_on_one",
                [](const Rank& own, const Array<float>& a) {
                  void *memory = a.data(), *handle = nullptr;
                  if (own.rank() == 1) {
                    EXPECT_EQ(ncclMemAlloc(&memory, 16), ncclSuccess);
                    EXPECT_EQ(ncclCommRegister(own.comm, memory, 16, &handle), ncclSuccess);
                  }
                  (void)ncclAllReduce(memory, memory, 4, ncclFloat32, ncclSum, own.comm, own.stream);
                },
                {"the memory of one is registered, that of the other is not"},
                {"the memory of one is registered, that of the other is not"}},
        // Streams of a graph that nothing puts in an order run in another one on each rank.
        Mistake{"two_streams_without_an_order",
                [](const Rank& own, const Array<float>& a) {
                  cudaStream_t side = nullptr;
                  cudaEvent_t event = nullptr;
                  EXPECT_EQ(cudaStreamCreate(&side), cudaSuccess);
                  EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
                  launch_recorded(own, 64, [&] {
                    EXPECT_EQ(cudaEventRecord(event, own.stream), cudaSuccess);
                    EXPECT_EQ(cudaStreamWaitEvent(side, event, 0), cudaSuccess);
                    (void)own.sum(a, 4);
                    (void)own.sum(a, 8, side);
                    EXPECT_EQ(cudaEventRecord(event, side), cudaSuccess);
                    EXPECT_EQ(cudaStreamWaitEvent(own.stream, event, 0), cudaSuccess);
                  });
                },
                {"rank 0 and rank 1 differ: "}, {"rank 0 and rank 1 differ: "}},
        Mistake{"host_memory",
                [](const Rank& own, const Array<float>&) {
                  std::vector<float> host(4);
                  (void)ncclAllReduce(host.data(), host.data(), 4, ncclFloat32, ncclSum, own.comm, own.stream);
                },
                {"ncclAllReduce of 4 float32: the array is not in device memory"},
                {"ncclAllReduce of 4 float32: the array is not in device memory"}},
        Mistake{"past_the_end", [](const Rank& own, const Array<float>& a) { (void)own.sum(a, 9); },
                {"ncclAllReduce of 9 float32: the array is not in device memory"},
                {"ncclAllReduce of 9 float32: the array is not in device memory"}},
        Mistake{"overlapping_arrays",
                [](const Rank& own, const Array<float>& a) {
                  (void)ncclAllReduce(a.data(), a.data() + 2, 4, ncclFloat32, ncclSum, own.comm, own.stream);
                },
                {"the arrays overlap"}, {"the arrays overlap"}},
        Mistake{"used_after_its_end",
                [](const Rank& own, const Array<float>& a) {
                  own.end();
                  (void)own.sum(a, 4);
                },
                {"ncclAllReduce on a communicator that was never made, or is destroyed or aborted"},
                {"ncclAllReduce on a communicator that was never made, or is destroyed or aborted"}},
        Mistake{"used_after_finalize",
                [](const Rank& own, const Array<float>& a) {
                  (void)ncclCommFinalize(own.comm);
                  (void)own.sum(a, 4);
                },
                {"ncclAllReduce on a communicator that is finalized"},
                {"ncclAllReduce on a communicator that is finalized"}},
        Mistake{"used_after_abort",
                [](const Rank& own, const Array<float>& a) {
                  if (own.rank() == 1) return;
                  (void)ncclCommAbort(own.comm);
                  (void)own.sum(a, 4);
                },
                {"destroyed or aborted"}, {}},
        Mistake{"ended_before_its_graph",
                [](const Rank& own, const Array<float>& a) {
                  launch_recorded(own, 1, [&] {
                    (void)own.sum(a, 4);
                    own.end();
                  });
                },
                {"ncclCommFinalize: graphs still have 1 recorded calls of the communicator, and it would wait"},
                {"ncclCommFinalize: graphs still have 1 recorded calls of the communicator, and it would wait"}},
        Mistake{"aborted_before_its_graph",
                [](const Rank& own, const Array<float>& a) {
                  launch_recorded(own, 1, [&] {
                    (void)own.sum(a, 4);
                    (void)ncclCommAbort(own.comm);
                  });
                },
                {"ncclCommAbort: graphs still have 1 recorded calls of the communicator, and it would wait"},
                {"ncclCommAbort: graphs still have 1 recorded calls of the communicator, and it would wait"}},
        Mistake{"no_end_of_a_group",
                [](const Rank& own, const Array<float>& a) {
                  (void)ncclGroupStart();
                  (void)own.sum(a, 4);
                  own.end();
                },
                {"ncclCommFinalize in a group that is not ended"}, {"ncclCommFinalize in a group that is not ended"}},
        Mistake{"registered_at_the_end",
                [](const Rank& own, const Array<float>&) {
                  void *memory = nullptr, *handle = nullptr;
                  EXPECT_EQ(ncclMemAlloc(&memory, 16), ncclSuccess);
                  EXPECT_EQ(ncclCommRegister(own.comm, memory, 16, &handle), ncclSuccess);
                  own.end();
                },
                {"ncclCommFinalize: memory is still registered"}, {"ncclCommFinalize: memory is still registered"}}),
    [](const auto& test) { return test.param.name; });

TEST(BrokenCollective, ACallOnACommunicatorThatIsNotConnectedIsCaught) {
  const Texts results = run_ranks(2, [](HostGroup& hosts) -> std::string {
    const Rank own(hosts, /*blocking=*/false, /*ready=*/false);
    const Array<float> a({1});
    std::string caught = message_of<emulator::LaunchError>([&] { (void)own.sum(a, 1); });
    hosts.barrier();
    EXPECT_EQ(own.wait(), ncclSuccess);
    return caught;
  });
  for (const std::string& text : results)
    EXPECT_HAS(text, "ncclAllReduce on a communicator whose ncclCommInitRankConfig is still in progress");
}

// Now and then a call that does not block is in progress when it returns.
TEST(BrokenCollective, ACallWhileAnotherIsInProgressIsCaught) {
  const Texts results = run_ranks(2, [](HostGroup& hosts) -> std::string {
    const Rank own(hosts, /*blocking=*/false);
    const Array<float> a({1});
    std::string caught;
    for (int i = 0; i < 32; ++i) {
      if (own.sum(a, 1) == ncclSuccess) continue;
      caught = message_of<emulator::LaunchError>([&] { (void)own.sum(a, 1); });
      EXPECT_EQ(own.wait(), ncclSuccess);
    }
    hosts.barrier();
    return caught;
  });
  for (const std::string& text : results)
    EXPECT_HAS(text, "ncclAllReduce while an earlier call on the communicator is in progress");
}

TEST(BrokenCollective, ARankThatDiesIsAnErrorLater) {
  const Texts results = run_ranks(2, [](HostGroup& hosts) -> std::string {
    const Rank own(hosts);
    const Array<float> a({1});
    EXPECT_EQ(own.sum(a, 1), ncclSuccess);
    if (own.rank() == 1) ::raise(SIGKILL);
    EXPECT_EQ(own.sum(a, 1), ncclSuccess);
    EXPECT_EQ(a.get(), std::vector<float>{2}) << "what never came";
    EXPECT_EQ(own.wait(), ncclRemoteError);
    return ncclGetLastError(own.comm);
  });
  EXPECT_EQ(results[1], "signal 9");
  EXPECT_EQ(results[0], "rank 1's process has ended after call 1, ncclAllReduce of 1 float32");
}

TEST(BrokenCollective, RanksMustAgreeWhoTheyAre) {
  const Texts results = run_ranks(2, [](HostGroup& hosts) -> std::string {
    const ncclUniqueId id = common_id(hosts);
    ncclComm_t comm = nullptr;
    EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, ncclUniqueId{}, 0, nullptr), ncclSystemError);
    EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, id, 2, nullptr), ncclInvalidArgument);
    ncclConfig_t none{};
    EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, id, 0, &none), ncclInvalidArgument);
    std::string caught;
    if (hosts.rank() == 1)
      caught = message_of<emulator::LaunchError>([&] {
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 0;
        EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, id, 1, &config), ncclInProgress);
        ncclComm_t twice = nullptr;
        (void)ncclCommInitRankConfig(&twice, 2, id, 1, nullptr);
      });
    hosts.barrier();
    return caught;
  });
  EXPECT_HAS(results[1], "two processes are rank 1");
}

}  // namespace
}  // namespace gradlibra::emulator_test
