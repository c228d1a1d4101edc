// SPDX-License-Identifier: MIT
// Ranks of a data-parallel job as threads of one process, on host contexts.
#pragma once

#include <barrier>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "runtime/distributed/communicator.h"

namespace gradlibra::testing {

class ThreadRanks {
 public:
  explicit ThreadRanks(int count) : meeting_(count), floats_(count), doubles_(count), texts_(count) {}

  // body(communicator) on a thread for each rank.
  void run(const std::function<void(Communicator&)>& body) {
    std::vector<std::jthread> threads;
    for (size_t rank = 0; rank < floats_.size(); ++rank)
      threads.emplace_back([this, rank, &body] {
        Rank communicator(*this, rank);
        body(communicator);
      });
  }

 private:
  class Rank final : public Communicator {
   public:
    Rank(ThreadRanks& all, size_t rank) : all_(all), rank_(rank) {}
    [[nodiscard]] int rank() const override { return static_cast<int>(rank_); }
    [[nodiscard]] int world_size() const override { return static_cast<int>(all_.floats_.size()); }
    void sum(View<float> values) override { sum(values, all_.floats_); }
    void sum(View<double> values) override { sum(values, all_.doubles_); }
    void broadcast(View<float> values, int root) override {
      all_.floats_[rank_] = values;
      barrier();
      const std::vector<float> sent = copy_of(all_.floats_[static_cast<size_t>(root)]);
      barrier();
      std::copy(sent.begin(), sent.end(), values.data());
    }
    void barrier() override { all_.meeting_.arrive_and_wait(); }
    std::vector<std::string> gather(const std::string& own) override {
      all_.texts_[rank_] = own;
      barrier();
      std::vector<std::string> texts = all_.texts_;
      barrier();
      return texts;
    }

   private:
    template <class T>
    static std::vector<T> copy_of(View<T> values) {
      return {values.data(), values.data() + values.size()};
    }
    template <class T>
    void sum(View<T> values, std::vector<View<T>>& of_ranks) {
      of_ranks[rank_] = values;
      barrier();
      std::vector<T> total(static_cast<size_t>(values.size()), T(0));
      for (const View<T>& part : of_ranks) {
        require(part.size() == values.size(), "ThreadRanks", "ranks sum arrays of different sizes");
        for (size_t i = 0; i < total.size(); ++i) total[i] += part[static_cast<int64_t>(i)];
      }
      barrier();
      std::copy(total.begin(), total.end(), values.data());
      barrier();  // nobody reads before all have it
    }
    ThreadRanks& all_;
    size_t rank_;
  };

  std::barrier<> meeting_;
  std::vector<View<float>> floats_;
  std::vector<View<double>> doubles_;
  std::vector<std::string> texts_;
};

}  // namespace gradlibra::testing
