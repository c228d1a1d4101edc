// SPDX-License-Identifier: MIT
// Captured streams: a launch of the graph keeps to what streams and events say about the order, and to nothing else.
#include <gtest/gtest.h>

#include <set>

#include "cuda_runtime.h"

namespace gradlibra {
namespace {

class Streams : public ::testing::Test {
 protected:
  Streams() {
    for (cudaStream_t* stream : {&main_, &side_}) EXPECT_EQ(cudaStreamCreate(stream), cudaSuccess);
    for (cudaEvent_t* event : {&fork_, &join_})
      EXPECT_EQ(cudaEventCreateWithFlags(event, cudaEventDisableTiming), cudaSuccess);
    EXPECT_EQ(cudaMalloc(&bytes_, kBytes), cudaSuccess);
    EXPECT_EQ(cudaMemset(bytes_, 0, kBytes), cudaSuccess);
  }
  ~Streams() override {
    EXPECT_EQ(cudaFree(bytes_), cudaSuccess);
    for (cudaEvent_t event : {fork_, join_}) EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
    for (cudaStream_t stream : {main_, side_}) EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  }

  void set(int at, int value, cudaStream_t stream) {
    EXPECT_EQ(cudaMemsetAsync(bytes_ + at, value, 1, stream), cudaSuccess);
  }
  void copy(int from, int to, cudaStream_t stream) {
    EXPECT_EQ(cudaMemcpyAsync(bytes_ + to, bytes_ + from, 1, cudaMemcpyDeviceToDevice, stream), cudaSuccess);
  }
  void order(cudaStream_t before, cudaEvent_t event, cudaStream_t after) {
    EXPECT_EQ(cudaEventRecord(event, before), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(after, event, 0), cudaSuccess);
  }
  [[nodiscard]] int get(int at) const {
    unsigned char value = 0;
    EXPECT_EQ(cudaMemcpy(&value, bytes_ + at, 1, cudaMemcpyDeviceToHost), cudaSuccess);
    return value;
  }

  // Launches what was recorded since begin() often, and returns all values that `at` had afterwards.
  void begin() { ASSERT_EQ(cudaStreamBeginCapture(main_, cudaStreamCaptureModeThreadLocal), cudaSuccess); }
  std::set<int> values_after_launches(int at) {
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(main_, &graph), cudaSuccess);
    cudaGraphExec_t exec = nullptr;
    EXPECT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    std::set<int> values;
    for (int launch = 0; launch < 64; ++launch) {
      EXPECT_EQ(cudaGraphLaunch(exec, main_), cudaSuccess);
      values.insert(get(at));
    }
    EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return values;
  }

  static constexpr int kBytes = 4;
  cudaStream_t main_ = nullptr, side_ = nullptr;
  cudaEvent_t fork_ = nullptr, join_ = nullptr;
  unsigned char* bytes_ = nullptr;
};

TEST_F(Streams, KeepTheOrderOfEvents) {
  begin();
  set(0, 1, main_);
  order(main_, fork_, side_);
  copy(0, 1, side_);
  copy(1, 2, side_);
  order(side_, join_, main_);
  set(0, 2, main_);
  EXPECT_EQ(values_after_launches(2), std::set<int>{1});
}

TEST_F(Streams, AMissingWaitShows) {
  begin();
  set(0, 1, main_);
  order(main_, fork_, side_);
  copy(0, 1, side_);
  set(0, 2, main_);  // should have waited
  order(side_, join_, main_);
  EXPECT_EQ(values_after_launches(1), (std::set<int>{1, 2}));
}

// However long a stream has worked before it reads what it did not wait for.
TEST_F(Streams, AMissingWaitShowsLateAsWell) {
  set(0, 5, nullptr);
  begin();
  order(main_, fork_, side_);
  set(0, 1, main_);
  for (int i = 0; i < 50; ++i) set(1, i, side_);
  copy(0, 2, side_);
  order(side_, join_, main_);
  set(0, 5, main_);  // for the next launch
  EXPECT_EQ(values_after_launches(2), (std::set<int>{1, 5}));
}

TEST_F(Streams, NothingRunsWhileItIsRecorded) {
  begin();
  order(main_, fork_, side_);
  set(3, 7, side_);
  EXPECT_EQ(cudaStreamSynchronize(side_), cudaErrorStreamCaptureUnsupported);
  order(side_, join_, main_);
  EXPECT_EQ(cudaEventSynchronize(join_), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(get(3), 0);
  EXPECT_EQ(values_after_launches(3), std::set<int>{7});
}

TEST_F(Streams, ABranchThatIsNotJoinedIsRefused) {
  begin();
  order(main_, fork_, side_);
  set(0, 1, side_);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(main_, &graph), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(graph, nullptr);
  begin();  // it has ended all the same
  EXPECT_EQ(cudaStreamEndCapture(main_, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

TEST_F(Streams, ACapturedStreamCannotWaitForWhatIsNotRecorded) {
  EXPECT_EQ(cudaEventRecord(fork_, side_), cudaSuccess);
  begin();
  EXPECT_EQ(cudaStreamWaitEvent(main_, fork_, 0), cudaErrorStreamCaptureIsolation);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(main_, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

}  // namespace
}  // namespace gradlibra
