// SPDX-License-Identifier: MIT
// The emulator runs sound kernels as a GPU would, whatever the order of threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <set>
#include <vector>

#include "tests/cuda/device_array.h"
#include "tests/emulator/kernels_under_test.h"

namespace gradlibra::emulator_test {
namespace {

using testing::DeviceArray;

constexpr int kSeeds = 12;

class Emulator : public ::testing::Test {
 protected:
  Cuda cuda{nullptr};
};

std::vector<int> numbers(int n) {
  std::vector<int> x(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) x[static_cast<size_t>(i)] = i * 37 % 101 - 40;
  return x;
}

TEST_F(Emulator, SumsBlocksByShuffles) {
  const std::vector<int> x = numbers(1000);
  const DeviceArray<int> device_x({1000}, x);
  for (const unsigned threads : {32u, 96u, 1024u}) {
    emulator::run_with_seeds(kSeeds, [&] {
      DeviceArray<int> sum({3});
      block_sums(cuda, device_x.view().data(), 1000, sum.view().data(), 3, threads);
      const std::vector<int> got = sum.to_host();
      for (size_t b = 0; b < 3; ++b) {
        int want = 0;
        for (size_t i = 0; i < x.size(); ++i)
          if (i / threads % 3 == b) want += x[i];
        EXPECT_EQ(got[b], want) << "block " << b << " of " << threads;
      }
    });
  }
}

TEST_F(Emulator, LetsTheLastBlockFinish) {
  const std::vector<int> x = numbers(5000);
  const DeviceArray<int> device_x({5000}, x);
  DeviceArray<unsigned> ticket({1}, {0});
  emulator::run_with_seeds(kSeeds, [&] {
    DeviceArray<int> partial({13}), total({1});
    grid_sum(cuda, device_x.view().data(), 5000, partial.view().data(), ticket.view().data(), total.view().data(), 13);
    EXPECT_EQ(total.to_host()[0], std::accumulate(x.begin(), x.end(), 0));
    EXPECT_EQ(ticket.to_host()[0], 0u);
  });
}

TEST_F(Emulator, TransposesThroughSharedMemory) {
  for (const auto& [rows, cols] : {std::pair{1, 1}, {16, 16}, {17, 33}, {40, 5}}) {
    std::vector<float> x(static_cast<size_t>(rows * cols));
    std::iota(x.begin(), x.end(), 0.0f);
    const DeviceArray<float> device_x({rows, cols}, x);
    emulator::run_with_seeds(kSeeds, [&, rows = rows, cols = cols] {
      DeviceArray<float> y({cols, rows});
      transpose(cuda, device_x.view().data(), rows, cols, y.view().data());
      const std::vector<float> got = y.to_host();
      for (int r = 0; r < rows; ++r)
        for (int c = 0; c < cols; ++c)
          ASSERT_EQ(got[static_cast<size_t>(c * rows + r)], x[static_cast<size_t>(r * cols + c)]);
    });
  }
}

TEST_F(Emulator, CountsWithIntegerAtomics) {
  std::vector<unsigned char> x(777);
  std::vector<unsigned> want(50);
  for (size_t i = 0; i < x.size(); ++i) ++want[x[i] = static_cast<unsigned char>(i * i % 50)];
  const DeviceArray<unsigned char> device_x({777}, x);
  emulator::run_with_seeds(kSeeds, [&] {
    DeviceArray<unsigned> bins({50}, std::vector<unsigned>(50));
    histogram(cuda, device_x.view().data(), 777, bins.view().data(), 50);
    EXPECT_EQ(bins.to_host(), want);
  });
}

TEST_F(Emulator, ScansInDynamicSharedMemory) {
  for (const int n : {1, 31, 64, 257, 1024}) {
    const std::vector<int> x = numbers(n);
    std::vector<int> want(x.size());
    std::partial_sum(x.begin(), x.end(), want.begin());
    const DeviceArray<int> device_x({n}, x);
    emulator::run_with_seeds(8, [&] {
      DeviceArray<int> y({n});
      prefix_sum(cuda, device_x.view().data(), n, y.view().data());
      EXPECT_EQ(y.to_host(), want);
    });
  }
}

TEST_F(Emulator, KnowsWarpOperations) {
  emulator::run_with_seeds(kSeeds, [&] {
    DeviceArray<unsigned> results({32, kWarpResults});
    warp_operations(cuda, results.view().data());
    const std::vector<unsigned> got = results.to_host();
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned in_16 = lane % 16;
      const std::vector<unsigned> want = {105,
                                          100 + lane / 8 * 8 + 5,
                                          100 + (in_16 >= 3 ? lane - 3 : lane),
                                          100 + (in_16 < 13 ? lane + 3 : lane),
                                          100 + (lane ^ 9u),
                                          0x49249249u,
                                          1,
                                          0,
                                          0x11111111u << lane % 4,
                                          100 + (lane ^ 1u),
                                          std::bit_cast<unsigned>(static_cast<float>(lane ^ 16u)),
                                          lane ^ 2u,
                                          static_cast<unsigned>(1.5 * (lane < 31 ? lane + 1 : lane)),
                                          7,
                                          1,
                                          0};
      const auto row = got.begin() + lane * kWarpResults;
      EXPECT_EQ(std::vector<unsigned>(row, row + kWarpResults), want) << "lane " << lane;
    }
  });
}

TEST_F(Emulator, RunsEveryThreadOfEveryBlockOnce) {
  for (const auto& [grid, block] : {std::pair{dim3(1), dim3(1)},
                                    {dim3(7), dim3(33)},
                                    {dim3(2, 3, 4), dim3(5, 6, 7)},
                                    {dim3(1, 1, 9), dim3(2, 1, 64)}}) {
    const unsigned n = grid.x * grid.y * grid.z * block.x * block.y * block.z;
    DeviceArray<unsigned> where({n});
    coordinates(cuda, grid, block, where.view().data());
    std::vector<unsigned> want(n);
    std::iota(want.begin(), want.end(), 0u);
    EXPECT_EQ(where.to_host(), want);
  }
}

// Returns the order in which the 4 * 96 threads came.
std::vector<unsigned> order_of_threads(Cuda& cuda) {
  DeviceArray<unsigned> ticket({1}, {0}), order({4 * 96});
  arrival_order(cuda, ticket.view().data(), order.view().data(), 4, 96);
  return order.to_host();
}

TEST_F(Emulator, ShufflesThreadsByTheSeedAlone) {
  std::set<std::vector<unsigned>> orders;
  emulator::run_with_seeds(8, [&] {
    const std::vector<unsigned> order = order_of_threads(cuda);
    orders.insert(order);
    orders.insert(order_of_threads(cuda));  // the next launch has an order of its own
    emulator::set_seed(emulator::seed());
    EXPECT_EQ(order_of_threads(cuda), order);
    std::vector<unsigned> sorted = order;
    std::sort(sorted.begin(), sorted.end());
    for (unsigned i = 0; i < sorted.size(); ++i) ASSERT_EQ(sorted[i], i);
  });
  EXPECT_EQ(orders.size(), 16u);
}

TEST(EmulatorFunctions, AreCudas) {
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__ffs(8), 4);
  EXPECT_EQ(__ffsll(1LL << 40), 41);
  EXPECT_EQ(__clz(1), 31);
  EXPECT_EQ(__clz(0), 32);
  EXPECT_EQ(__clzll(1), 63);
  EXPECT_EQ(__popc(0xf0f0u), 8);
  EXPECT_EQ(__brev(1), 0x80000000u);
  EXPECT_EQ(__float2int_rn(2.5f), 2);
  EXPECT_EQ(__float2int_rd(-0.5f), -1);
  EXPECT_EQ(__float2int_rz(-1.9f), -1);
  EXPECT_EQ(__float2int_rn(1e30f), INT32_MAX);
  EXPECT_EQ(__float2int_rn(-1e30f), INT32_MIN);
  EXPECT_EQ(__float2int_rn(NAN), 0);
  EXPECT_EQ(__float2uint_rn(-3.0f), 0u);
  EXPECT_EQ(__float2uint_rn(4e9f), 4000000000u);
  EXPECT_EQ(__float2uint_rn(5e9f), UINT32_MAX);
  EXPECT_EQ(__double2ll_rn(-2.5), -2);
  EXPECT_EQ(__double2ll_rn(1e300), INT64_MAX);
  EXPECT_EQ(__double2ull_rn(1e300), UINT64_MAX);
  EXPECT_EQ(::min(3, -2), -2);
  EXPECT_EQ(::max(1u, 7u), 7u);
  EXPECT_EQ(::max(NAN, 2.0f), 2.0f);
  EXPECT_EQ(alignof(float4), 16u);
  EXPECT_EQ(alignof(float2), 8u);
  EXPECT_EQ(sizeof(float3), 12u);
  EXPECT_EQ(alignof(uchar4), 4u);
  int v = INT32_MAX;
  EXPECT_EQ(atomicAdd(&v, 1), INT32_MAX);
  EXPECT_EQ(v, INT32_MIN);
  EXPECT_EQ(atomicMax(&v, 5), INT32_MIN);
  EXPECT_EQ(atomicCAS(&v, 5, 9), 5);
  EXPECT_EQ(atomicExch(&v, 6), 9);
  EXPECT_EQ(atomicOr(&v, 8), 6);
  EXPECT_EQ(atomicAnd(&v, 12), 14);
  EXPECT_EQ(atomicMin(&v, 3), 12);
  EXPECT_EQ(v, 3);
}

TEST(EmulatorMemory, RefusesWrongSides) {
  std::vector<float> host(8);
  DeviceArray<float> array({8}, host);
  float* device = array.view().data();
  EXPECT_EQ(cudaMemcpy(host.data(), device, 32, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(device, host.data(), 32, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(device + 1, host.data(), 32, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(device, 0, 33), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(host.data()), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(device + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(host.data(), device + 1, 28, cudaMemcpyDeviceToHost), cudaSuccess);
}

template <class T>
concept HasAtomicAdd = requires(T* p, T v) {
  atomicAdd(p, v);
};
static_assert(HasAtomicAdd<int> && HasAtomicAdd<unsigned> && HasAtomicAdd<unsigned long long>);
static_assert(!HasAtomicAdd<float> && !HasAtomicAdd<double>, "floating-point atomics add in the order of arrival");

}  // namespace
}  // namespace gradlibra::emulator_test
