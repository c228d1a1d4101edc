// SPDX-License-Identifier: MIT
// The MPI communicator, run by `mpirun -np N`: every rank knows what all give, and compares with the sum by hand.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <random>

#include "runtime/distributed/mpi_communicator.h"

namespace gradlibra {
namespace {

Communicator* ranks = nullptr;

// Numbers whose sum depends on the order in which they are added.
template <class T>
std::vector<T> values_of(int rank, int64_t size, uint32_t seed) {
  std::mt19937 random(seed * 1000 + static_cast<uint32_t>(rank));
  std::vector<T> values(static_cast<size_t>(size));
  for (T& v : values) v = static_cast<T>(std::ldexp(1.0 + random() / 4.3e9, static_cast<int>(random() % 40) - 20));
  return values;
}

template <class T>
void expect_sum_in_order(int64_t size) {
  const auto seed = static_cast<uint32_t>(size % 977);
  std::vector<T> want = values_of<T>(0, size, seed), got = values_of<T>(ranks->rank(), size, seed);
  for (int r = 1; r < ranks->world_size(); ++r) {
    const std::vector<T> part = values_of<T>(r, size, seed);
    for (size_t i = 0; i < want.size(); ++i) want[i] += part[i];
  }
  ranks->sum(View<T>(got.data(), {size}));
  EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(T)), 0) << size;
}

TEST(MpiRanks, SumsInTheOrderOfRanks) {
  for (const int64_t size : {0, 1, 2, 7, 1023, 1024, 1025, 100003}) {
    expect_sum_in_order<float>(size);
    expect_sum_in_order<double>(size);
  }
  expect_sum_in_order<float>((int64_t{1} << 22) + 1);  // more than one piece, the second shorter than there are ranks
}

TEST(MpiRanks, BroadcastsFromAnyRank) {
  for (int root = 0; root < ranks->world_size(); ++root) {
    std::vector<float> values = values_of<float>(ranks->rank(), 4099, 5);
    ranks->broadcast(View<float>(values.data(), {4099}), root);
    EXPECT_EQ(values, values_of<float>(root, 4099, 5));
  }
}

TEST(MpiRanks, GathersTextsOfAnyLength) {
  const auto text = [](int rank, size_t size) { return std::string(size * static_cast<size_t>(rank), 'a' + rank); };
  for (const size_t size : {size_t{0}, size_t{1}, size_t{1000}, size_t{3} << 20}) {
    const std::vector<std::string> got = ranks->gather(text(ranks->rank(), size));
    ASSERT_EQ(got.size(), static_cast<size_t>(ranks->world_size()));
    for (int r = 0; r < ranks->world_size(); ++r) EXPECT_TRUE(got[static_cast<size_t>(r)] == text(r, size)) << size;
  }
}

TEST(MpiRanks, AFailedCallNamesRankHostAndCall) {
  std::vector<float> values(8);
  try {
    ranks->broadcast(View<float>(values.data(), {8}), /*root=*/1000);
    FAIL() << "no rank 1000";
  } catch (const std::runtime_error& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find("rank " + std::to_string(ranks->rank()) + " on " + host_name() + ": MPI_Bcast: "), 0u)
        << message;
  }
}

TEST(MpiRanks, SayWhatCarriesThem) { EXPECT_NE(ranks->library(), ""); }

}  // namespace
}  // namespace gradlibra

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const auto communicator = gradlibra::make_mpi_communicator(gradlibra::find_launch());
  gradlibra::ranks = communicator.get();
  if (communicator->world_size() < 2) {
    std::fprintf(stderr, "start it with mpirun -np 3\n");
    return 1;
  }
  const int code = RUN_ALL_TESTS();
  communicator->finish();
  return code;
}
