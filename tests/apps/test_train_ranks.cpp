// SPDX-License-Identifier: MIT
// `train` and `evaluate` on several processes: one result, one voice, one end.
#include "runtime/base/safetensors.h"
#include "runtime/distributed/launch.h"
#include "runtime/distributed/tcp.h"
#include "tests/apps/run_ranks.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

// Two ranks with two images each train as one process with four: sums of float32 in another order, within 1e-4 of a
// loss over the steps of two epochs. Two runs differ in no bit.
TEST_F(RanksTest, TwoProcessesTrainAsOne) {
  const Command more = {"schedule.epochs=2", "model.backbone.norm_eval=true", "model.loss.type=eqlv2",
                        "train.log_every=1"};
  const Ran whole = Process(folder_, join(train(path("whole"), more), {"loader.batch_size=4"})).wait();
  ASSERT_EQ(whole.code, 0) << whole.err;
  const Ran first = Process(folder_, join(train(path("first"), more), {"--ranks", "2"})).wait(seconds(60));
  ASSERT_EQ(first.code, 0) << first.err;
  const Ran second = Process(folder_, mpirun(2, train(path("second"), more))).wait(seconds(60));
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_EQ(checkpoints(path("first")), checkpoints(path("whole")));
  const auto want = log_of(path("whole")), got = log_of(path("first"));
  ASSERT_EQ(got.size(), 4u);
  ASSERT_EQ(want.size(), 4u);
  for (size_t i = 0; i < want.size(); ++i)
    EXPECT_NEAR(got[i]["loss"].get<double>(), want[i]["loss"].get<double>(), 1e-4 * want[i]["loss"].get<double>()) << i;
  // Who waits for whom; of the first step nothing is known yet.
  EXPECT_FALSE(want[1].contains("rank_wait"));
  EXPECT_EQ(got[0]["rank_wait"].get<double>(), 0);
  for (size_t i = 1; i < got.size(); ++i) {
    EXPECT_GT(got[i]["rank_wait"].get<double>(), 0) << i;
    EXPECT_LT(got[i]["slowest_rank"].get<int>(), 2) << i;
  }
  const auto weights = [&](const std::string& work) {
    return read_safetensors(path(work) + "/checkpoints/checkpoint_4.safetensors").tensors;
  };
  EXPECT_TRUE(weights("first") == weights("second"));
  // What they say at the start, once.
  EXPECT_HAS(first.out, "ranks: 2 by Open MPI, gradlibra ");
  for (const char* rank : {"0", "1"}) EXPECT_HAS(first.out, "  rank " + std::string(rank) + " on ");
  EXPECT_HAS(first.out, "a sum of 1 MB over all ranks takes ");
  EXPECT_HAS(first.out, "at total batch 4");
  const size_t said = first.out.find("data: 8 training images");
  EXPECT_NE(said, std::string::npos);
  EXPECT_EQ(first.out.find("data: 8 training images", said + 1), std::string::npos) << first.out;
  EXPECT_TRUE(fs::exists(path("first") + "/finished"));
}

// `benchmark comm`: the first rank speaks, what it says adds up.
TEST_F(RanksTest, SumsAreMeasured) {
  const Command comm = {"benchmark",
                        "comm",
                        "--config",
                        config_,
                        "--device",
                        "cpu",
                        "--threads",
                        "1",
                        "--batch",
                        "2",
                        "--height",
                        "64",
                        "--width",
                        "64",
                        "--steps",
                        "2",
                        "--rounds",
                        "2",
                        "--mb",
                        "0.01,1",
                        "--json",
                        "distributed.first_bucket_mb=0.01",
                        "distributed.bucket_mb=0.05"};
  const Ran ran = Process(folder_, mpirun(2, comm)).wait(seconds(60));
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "ranks: 2 by Open MPI");
  const size_t line = ran.out.rfind("\n{");
  ASSERT_NE(line, std::string::npos) << ran.out;
  const auto json = nlohmann::json::parse(ran.out.substr(line + 1));
  ASSERT_EQ(json["sums"].size(), 2u);
  for (const auto& sum : json["sums"])
    EXPECT_NEAR(sum["bus_gb_per_s"].get<double>(), sum["mb"].get<double>() * 1.048576 / sum["ms"].get<double>(), 1e-6);
  const auto& step = json["step"];
  EXPECT_GT(step["buckets_mb"].size(), 1u);
  EXPECT_NEAR(step["exposed_ms"].get<double>(),
              std::max(0.0, step["ms"].get<double>() - step["ms_without_gradients"].get<double>()), 1e-9);
  EXPECT_HAS(step["ready"].get<std::string>(), "@");
  // Alone there is nothing to measure.
  const Ran alone = Process(folder_, comm).wait(seconds(60));
  EXPECT_EQ(alone.code, 2) << alone.err;
  EXPECT_HAS(alone.err, "comm needs several ranks");
}

// One rank has the signal, all leave after the same step; and go on from there.
TEST_F(RanksTest, ASignalToOneEndsAllInOrder) {
  const std::string work = path("work");
  Process run(folder_, mpirun(3, endless(work, {"--stopped-code", "75"})));
  wait_for_steps(work, 2);
  const pid_t one = process_of_rank(work, 2);
  ASSERT_GT(one, 0);
  kill(one, SIGTERM);
  const Ran ran = run.wait(seconds(30));
  EXPECT_EQ(ran.code, 75) << ran.err;
  EXPECT_HAS(ran.out, "continue with --resume");
  ASSERT_EQ(checkpoints(work).size(), 1u);
  expect_nothing_left(work);
  const auto step = log_of(work).back()["step"].get<int64_t>();
  EXPECT_EQ(checkpoints(work)[0], "checkpoint_" + std::to_string(step) + ".safetensors");
  const Ran on = Process(folder_, mpirun(3, endless(work, {"--resume", "--stop-after-step", std::to_string(step + 1)})))
                     .wait(seconds(60));
  EXPECT_EQ(on.code, 0) << on.err;
  EXPECT_EQ(log_of(work).back()["step"].get<int64_t>(), step + 1);
}

// Ctrl-C reaches the one that started them.
TEST_F(RanksTest, TheStarterPassesSignalsAndExitCodesOn) {
  const std::string work = path("work");
  Process run(folder_, endless(work, {"--ranks", "2"}));
  wait_for_steps(work, 2);
  run.send(SIGINT);
  const Ran ran = run.wait(seconds(30));
  EXPECT_EQ(ran.code, 130) << ran.err;
  EXPECT_EQ(checkpoints(work).size(), 1u);
  expect_nothing_left(work);
  const Ran bad = Process(folder_, endless(path("none"), {"--ranks", "2", "data.root=/nowhere"})).wait(seconds(30));
  EXPECT_EQ(bad.code, 1) << bad.err;
  EXPECT_HAS(bad.err, "train: rank ");
}

// A starter that is killed takes them along.
TEST_F(RanksTest, NothingOutlivesTheStarter) {
  const std::string work = path("work");
  Process run(folder_, endless(work, {"--ranks", "2"}));
  wait_for_steps(work, 1);
  run.send(SIGKILL);
  EXPECT_EQ(run.wait(seconds(30)).code, -1);
  expect_nothing_left(work);
}

TEST_F(RanksTest, EvaluationGivesTheSameBytesOnAnyNumberOfRanks) {
  put_tiny_set(folder_ / "data", 9, "test", 8);
  const std::string work = path("work");
  ASSERT_EQ(run(join(train(work), {"schedule.epochs=2"})).code, 0);
  std::string want[2];
  const auto evaluate = [&](const std::string& to, const Command& more) {
    const Command common = {"evaluate", "--checkpoint", work,        "--output", to,
                            "--device", "cpu",          "--threads", "1",        "data.test=test"};
    return join(common, more);
  };
  for (int count = 1; count <= 4; ++count) {
    const std::string to = path("evaluated" + std::to_string(count));
    const Command command = evaluate(to, {"model.test.score_threshold=0"});
    const Ran ran = Process(folder_, count == 1 ? command : mpirun(count, command)).wait(seconds(60));
    ASSERT_EQ(ran.code, 0) << ran.err;
    const std::string got[2] = {get(to + "/metrics.json"), get(to + "/detections.json")};
    if (count == 1) std::copy(got, got + 2, want);
    EXPECT_GT(got[1].size(), 1000u);
    EXPECT_TRUE(got[0] == want[0]) << count;
    EXPECT_TRUE(got[1] == want[1]) << count;
    if (count > 1) {
      EXPECT_HAS(ran.out, "ranks: " + std::to_string(count) + " by Open MPI");
    }
  }
  Command other = evaluate(path("differ"), {"model.test.nms_iou=0.1"});
  other[0] = program("evaluate");
  const Command both = join(mpirun(1, evaluate(path("differ"), {})), join({":", "-np", "1"}, other));
  const Ran ran = Process(folder_, both).wait(seconds(60));
  EXPECT_EQ(ran.code, 1) << ran.err;
  EXPECT_HAS(ran.err, "differ at the start in the configuration");
  EXPECT_FALSE(fs::exists(path("differ") + "/metrics.json"));
}

// They meet over TCP, as ranks on GPUs do, and find that nothing can carry their sums.
TEST_F(RanksTest, RanksOnCpusThatMpiDidNotStartAreRefused) {
  const std::string master = "127.0.0.1:" + std::to_string(free_port());
  Command arguments = train(path("work"));
  arguments.erase(arguments.begin());
  const Command script = {std::string(GRADLIBRA_SCRIPTS) + "/launch/torchrun.sh",
                          "--nproc-per-node",
                          "2",
                          "--master",
                          master,
                          "--bin",
                          GRADLIBRA_PROGRAMS,
                          "--"};
  const Ran ran = Process(folder_, join(script, arguments)).wait(seconds(60));
  EXPECT_EQ(ran.code, 1);
  for (const char* rank : {"0", "1"})
    EXPECT_HAS(ran.err, "train: rank " + std::string(rank) + " on " + host_name() +
                            " at step 0: 2 ranks on CPUs by torchrun's environment: MPI must connect them: start them "
                            "with mpirun");
}

TEST_F(RanksTest, ALauncherThatStartedNoRanksIsNamed) {
  setenv("RANK", "0", 1), setenv("WORLD_SIZE", "2", 1), setenv("LOCAL_RANK", "0", 1);
  const Ran ran = run(train(path("work")));
  const Ran twice = run(train(path("work"), {"--ranks", "2"}));
  unsetenv("LOCAL_RANK");
  const Ran half = run(train(path("work")));
  unsetenv("RANK"), unsetenv("WORLD_SIZE");
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.err,
             "rank 0 of 2 by torchrun's environment: where rank 0 can be met is not known: set MASTER_ADDR and "
             "MASTER_PORT, or give --master HOST:PORT; on CPUs start the ranks with mpirun");
  EXPECT_EQ(twice.code, 2);
  EXPECT_HAS(twice.err,
             "--ranks 2 starts its own processes, but torchrun's environment has started this one as rank 0");
  EXPECT_EQ(half.code, 2);
  EXPECT_HAS(half.err, "RANK is set but LOCAL_RANK is not");
}

// Whose environment mpirun's ranks inherit.
TEST_F(RanksTest, TheOnlyRankOfALauncherMayStartItsOwn) {
  setenv("RANK", "0", 1), setenv("WORLD_SIZE", "1", 1), setenv("LOCAL_RANK", "0", 1);
  const Ran ran = run(train(path("work"), {"--ranks", "2", "schedule.epochs=1"}));
  unsetenv("LOCAL_RANK"), unsetenv("RANK"), unsetenv("WORLD_SIZE");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "ranks: 2 by Open MPI");
}

}  // namespace
}  // namespace gradlibra
