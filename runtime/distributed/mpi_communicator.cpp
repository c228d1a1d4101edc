// SPDX-License-Identifier: MIT
#include "runtime/distributed/mpi_communicator.h"

#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <vector>

namespace gradlibra {

namespace {

template <class T>
MPI_Datatype mpi_type();
template <>
MPI_Datatype mpi_type<float>() {
  return MPI_FLOAT;
}
template <>
MPI_Datatype mpi_type<double>() {
  return MPI_DOUBLE;
}

// "Open MPI v4.1.4" of a text that goes on with package, host and date.
std::string library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  const std::string whole(text.data(), static_cast<size_t>(length));
  return whole.substr(0, whole.find_first_of(",\n"));
}

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(const Launch& launch) : rank_(launch.rank) {
    int given = MPI_THREAD_SINGLE;
    // Other threads decode images and compute, but never call MPI.
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given), "MPI_Init_thread");
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &world_size_), "MPI_Comm_size");
    if (given < MPI_THREAD_FUNNELED)
      throw std::runtime_error(library_version() + " does not allow a process to have threads");
    if (launch.rank != rank_ || launch.world_size != world_size_)
      throw std::runtime_error(fmt::format(
          "{} says rank {} of {}, MPI started this process as rank {} of {}: on CPUs start the ranks with mpirun, or "
          "with srun --mpi=pmix where SLURM knows this MPI",
          launch.source, launch.rank, launch.world_size, rank_, world_size_));
  }

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int world_size() const override { return world_size_; }
  [[nodiscard]] std::string library() const override { return library_version(); }

  void sum(View<float> values) override { sum_in_order(values.data(), values.size(), floats_); }
  void sum(View<double> values) override { sum_in_order(values.data(), values.size(), doubles_); }

  void broadcast(View<float> values, int root) override {
    for (int64_t at = 0; at < values.size(); at += kPiece)
      check(MPI_Bcast(values.data() + at, static_cast<int>(std::min(kPiece, values.size() - at)), MPI_FLOAT, root,
                      MPI_COMM_WORLD),
            "MPI_Bcast");
  }

  void barrier() override { check(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier"); }

  std::vector<std::string> gather(const std::string& own) override {
    const auto size = static_cast<int64_t>(own.size());
    std::vector<int64_t> sizes(static_cast<size_t>(world_size_));
    check(MPI_Allgather(&size, 1, MPI_INT64_T, sizes.data(), 1, MPI_INT64_T, MPI_COMM_WORLD), "MPI_Allgather");
    std::vector<std::string> all(sizes.size());
    for (size_t r = 0; r < all.size(); ++r) all[r].resize(static_cast<size_t>(sizes[r]));
    all[static_cast<size_t>(rank_)] = own;
    const int64_t total = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
    if (total <= kPiece)
      gather_at_once(own, sizes, total, all);
    else
      gather_in_pieces(all);
    return all;
  }

  void finish() override { check(MPI_Finalize(), "MPI_Finalize"); }

 private:
  static constexpr int64_t kPiece = int64_t{1} << 22;  // values, or bytes of a text, that one call moves

  void check(int status, const char* call) const {
    if (status == MPI_SUCCESS) return;
    std::array<char, MPI_MAX_ERROR_STRING> text{};
    int length = 0;
    MPI_Error_string(status, text.data(), &length);
    throw PeerLost(fmt::format("rank {} on {}: {}: {}", rank_, host_name(), call, text.data()));
  }

  // Every rank has all parts of a short array and adds them itself: one call, which is what it takes.
  static constexpr int64_t kShort = 1024;

  template <class T>
  void sum_in_order(T* values, int64_t size, std::vector<T>& parts) {
    if (size == 0) return;
    if (size <= kShort) return sum_short(values, size, parts);
    for (int64_t at = 0; at < size; at += kPiece) sum_piece(values + at, std::min(kPiece, size - at), parts);
  }

  // total[i] = ((part 0 + part 1) + part 2) + ..; parts lie behind one another.
  template <class T>
  void add_parts(const std::vector<T>& parts, int64_t size, T* total) const {
    std::copy_n(parts.data(), size, total);
    for (int r = 1; r < world_size_; ++r) {
      const T* part = parts.data() + r * size;
      for (int64_t i = 0; i < size; ++i) total[i] += part[i];
    }
  }

  template <class T>
  void sum_short(T* values, int64_t size, std::vector<T>& parts) {
    parts.resize(static_cast<size_t>(size * world_size_));
    check(MPI_Allgather(values, static_cast<int>(size), mpi_type<T>(), parts.data(), static_cast<int>(size),
                        mpi_type<T>(), MPI_COMM_WORLD),
          "MPI_Allgather");
    add_parts(parts, size, values);
  }

  // Rank r gets everybody's part of the r-th slice, adds them, and gives the sum to all: each rank sends and receives
  // 2 (W - 1) / W of the array, the least there is.
  template <class T>
  void sum_piece(T* values, int64_t size, std::vector<T>& parts) {
    const int W = world_size_;
    std::vector<int> counts(static_cast<size_t>(W)), offsets(counts), own(counts), own_offsets(counts);
    for (int r = 0; r < W; ++r) {
      const int64_t begin = size * r / W, end = size * (r + 1) / W;
      offsets[static_cast<size_t>(r)] = static_cast<int>(begin);
      counts[static_cast<size_t>(r)] = static_cast<int>(end - begin);
    }
    const int mine = counts[static_cast<size_t>(rank_)];
    for (int r = 0; r < W; ++r) own[static_cast<size_t>(r)] = mine, own_offsets[static_cast<size_t>(r)] = r * mine;
    parts.resize(static_cast<size_t>(W) * static_cast<size_t>(mine));
    check(MPI_Alltoallv(values, counts.data(), offsets.data(), mpi_type<T>(), parts.data(), own.data(),
                        own_offsets.data(), mpi_type<T>(), MPI_COMM_WORLD),
          "MPI_Alltoallv");
    add_parts(parts, mine, values + offsets[static_cast<size_t>(rank_)]);
    check(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, values, counts.data(), offsets.data(), mpi_type<T>(),
                         MPI_COMM_WORLD),
          "MPI_Allgatherv");
  }

  void gather_at_once(const std::string& own, const std::vector<int64_t>& sizes, int64_t total,
                      std::vector<std::string>& all) const {
    std::vector<int> counts, offsets;
    int at = 0;
    for (const int64_t size : sizes) {
      counts.push_back(static_cast<int>(size));
      offsets.push_back(at);
      at += counts.back();
    }
    std::string joined(static_cast<size_t>(total), '\0');
    check(MPI_Allgatherv(own.data(), static_cast<int>(own.size()), MPI_CHAR, joined.data(), counts.data(),
                         offsets.data(), MPI_CHAR, MPI_COMM_WORLD),
          "MPI_Allgatherv");
    for (size_t r = 0; r < all.size(); ++r)
      all[r] = joined.substr(static_cast<size_t>(offsets[r]), static_cast<size_t>(counts[r]));
  }

  void gather_in_pieces(std::vector<std::string>& all) const {
    for (int r = 0; r < world_size_; ++r) {
      std::string& text = all[static_cast<size_t>(r)];
      const auto size = static_cast<int64_t>(text.size());
      for (int64_t at = 0; at < size; at += kPiece)
        check(MPI_Bcast(text.data() + at, static_cast<int>(std::min(kPiece, size - at)), MPI_CHAR, r, MPI_COMM_WORLD),
              "MPI_Bcast");
    }
  }

  int rank_ = 0, world_size_ = 1;
  std::vector<float> floats_;  // the ranks' parts of what this one adds
  std::vector<double> doubles_;
};

}  // namespace

bool has_mpi() { return true; }

std::unique_ptr<Communicator> make_mpi_communicator(const Launch& launch) {
  return std::make_unique<MpiCommunicator>(launch);
}

}  // namespace gradlibra
