// SPDX-License-Identifier: MIT
#include "engine/tables/job_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <csignal>
#include <map>
#include <set>

#include "tests/files.h"

namespace gradlibra {
namespace {

class JobPool : public ::testing::Test {
 protected:
  Job shell(const std::string& name, const std::vector<std::string>& scripts) {
    Job job{.name = name, .folder = folder_.path(), .output = folder_ / (name + ".txt")};
    for (const std::string& script : scripts) job.commands.push_back({"/bin/sh", "-c", script, "sh", "{threads}"});
    return job;
  }
  std::map<std::string, JobResult> run(const std::vector<Job>& jobs, const std::vector<Slot>& slots) {
    std::map<std::string, JobResult> results;
    run_jobs(jobs, slots, signal_, [&](size_t index, const JobResult& result) {
      EXPECT_TRUE(results.emplace(jobs[index].name, result).second) << "told twice of " << jobs[index].name;
    });
    EXPECT_EQ(results.size(), jobs.size());
    return results;
  }

  TemporaryFolder folder_;
  std::atomic<int> signal_{0};
};

TEST_F(JobPool, CommandsFollowEachOtherInTheFolderAndTheirOutputIsKept) {
  const auto results =
      run({shell("two", {"echo first > file; echo out; echo err >&2", "cat file"})}, divide_machine(1, 0));
  EXPECT_EQ(results.at("two").end, JobResult::End::done);
  EXPECT_GT(results.at("two").seconds, 0);
  EXPECT_EQ(get(folder_ / "two.txt"), "out\nerr\nfirst\n");
}

TEST_F(JobPool, AFailureEndsItsJobAloneAndSaysWhy) {
  Job missing{.name = "missing",
              .commands = {{"/no/such/program"}},
              .folder = folder_.path(),
              .output = folder_ / "missing.txt"};
  const auto results = run({shell("fails", {"echo some; echo 'train: no data'; exit 3", "touch never"}), missing,
                            shell("dies", {"kill -9 $$"}), shell("well", {"true"})},
                           divide_machine(2, 0));
  EXPECT_EQ(results.at("fails").end, JobResult::End::failed);
  EXPECT_EQ(results.at("fails").why, "exit code 3: train: no data");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "never"));
  EXPECT_EQ(results.at("missing").end, JobResult::End::failed);
  EXPECT_NE(results.at("missing").why.find("/no/such/program: cannot be started: No such file"), std::string::npos)
      << results.at("missing").why;
  EXPECT_EQ(results.at("dies").why, "killed by signal 9: no output");
  EXPECT_EQ(results.at("well").end, JobResult::End::done);
}

TEST_F(JobPool, ASlotRunsOneJobAtATimeWithItsProcessorsAndGpu) {
  std::vector<Slot> slots = divide_machine(1, 2);
  ASSERT_FALSE(slots[0].processors.empty());
  slots[0].processors.resize(1);
  const auto results = run({shell("a", {"test ! -e busy && touch busy && sleep 0.1 && rm busy && echo $1 "
                                        "$CUDA_VISIBLE_DEVICES $(env -u OMP_NUM_THREADS nproc)"}),
                            shell("b", {"test ! -e busy"})},
                           slots);
  EXPECT_EQ(results.at("a").end, JobResult::End::done);
  EXPECT_EQ(results.at("b").end, JobResult::End::done);
  EXPECT_EQ(get(folder_ / "a.txt"), "1 0 1\n");
}

TEST_F(JobPool, ASignalStopsWhatRunsAndBeginsNothingMore) {
  const std::vector<Job> jobs{
      shell("polite", {"trap 'echo checkpoint; exit 0' TERM; kill -USR1 $PPID; while :; do sleep 0.01; done"}),
      shell("later", {"touch later"})};
  static std::atomic<int>* flag = nullptr;
  flag = &signal_;
  const auto old = std::signal(SIGUSR1, [](int number) { *flag = number; });
  const auto results = run(jobs, divide_machine(1, 0));
  std::signal(SIGUSR1, old);
  EXPECT_EQ(results.at("polite").end, JobResult::End::stopped);
  EXPECT_EQ(get(folder_ / "polite.txt"), "checkpoint\n");
  EXPECT_EQ(results.at("later").end, JobResult::End::stopped);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "later"));
}

TEST(DivideMachine, PartsAreEqualAndDisjointWhileThereAreProcessors) {
  cpu_set_t set;
  CPU_ZERO(&set);
  ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  const auto all = static_cast<size_t>(CPU_COUNT(&set));
  for (size_t jobs = 1; jobs <= all + 2; ++jobs) {
    const std::vector<Slot> slots = divide_machine(static_cast<int>(jobs), 0);
    ASSERT_EQ(slots.size(), jobs);
    std::multiset<int> used;
    for (const Slot& slot : slots) {
      EXPECT_GE(slot.processors.size(), std::max<size_t>(1, all / jobs));
      used.insert(slot.processors.begin(), slot.processors.end());
      EXPECT_EQ(slot.gpu, -1);
    }
    if (jobs <= all) {
      EXPECT_EQ(used.size(), all);
      EXPECT_EQ(std::set<int>(used.begin(), used.end()).size(), all);
    }
  }
  EXPECT_EQ(divide_machine(3, 2)[2].gpu, 0);
  EXPECT_THROW(static_cast<void>(divide_machine(0, 0)), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra
