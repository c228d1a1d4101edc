// SPDX-License-Identifier: MIT
// A rank that is killed, stands still, fails or differs: the others end in time, name it, and leave nothing behind.
#include <chrono>

#include "runtime/distributed/launch.h"
#include "tests/apps/run_ranks.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

using std::chrono::seconds;

class RankFaults : public RanksTest {
 protected:
  // mpirun would end the others itself when it sees one end; here the watchdog has to. Each rank's exit code is told,
  // as mpirun's is always 0 then.
  Command alone_with_watchdog(int count, const Command& train) {
    put(folder_ / "tell.sh", "\"$@\"\necho \"ended with $?\" >&2\n");
    Command command = mpirun(count, train);
    const auto of_rank = std::find(command.begin(), command.end(), program("train"));
    command.insert(of_rank, {"bash", path("tell.sh")});
    command.insert(command.begin() + 2, "--enable-recovery");
    return command;
  }
  static int count(const std::string& text, const std::string& part) {
    int times = 0;
    for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++times;
    return times;
  }
  // All files that MPI and this program might have left in shared memory.
  static size_t shared_memory() {
    size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/dev/shm"))
      files += entry.path().filename().string().find("vader") != std::string::npos;
    return files;
  }
  // Every surviving rank of three says one line, that names the lost one.
  static void expect_named(const Ran& ran, int lost, const std::string& why) {
    for (int r = 0; r < 3; ++r) {
      const std::string line = "train: rank " + std::to_string(r) + " on " + host_name() + ": lost rank " +
                               std::to_string(lost) + " on " + host_name() + " at step ";
      EXPECT_EQ(count(ran.err, line), r == lost ? 0 : 1) << "rank " << r << " in: " << ran.err;
    }
    EXPECT_HAS(ran.err, why);
  }
};

int milliseconds_since(std::chrono::steady_clock::time_point start) {
  const auto took = std::chrono::steady_clock::now() - start;
  return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(took).count());
}

class RankFaultsOf : public RankFaults, public ::testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, RankFaultsOf, ::testing::Values(0, 1), ::testing::PrintToStringParamName());

TEST_P(RankFaultsOf, AKilledRankEndsAll) {
  const std::string work = path("work");
  const size_t before = shared_memory();
  Process run(folder_, alone_with_watchdog(3, endless(work)));
  wait_for_steps(work, 2);
  const pid_t victim = process_of_rank(work, GetParam());
  ASSERT_GT(victim, 0);
  const auto start = std::chrono::steady_clock::now();
  kill(victim, SIGKILL);
  const Ran ran = run.wait(seconds(10));
  RecordProperty("milliseconds", milliseconds_since(start));
  expect_named(ran, GetParam(), "its connection closed: it was killed or crashed");
  EXPECT_EQ(count(ran.err, "ended with 5\n"), 2) << ran.err;
  expect_nothing_left(work);
  EXPECT_EQ(shared_memory(), before);
}

// Nothing but the beats that do not come tells of it; when it goes on, it ends as well.
TEST_P(RankFaultsOf, AStoppedRankEndsAllWithinTheTimeOut) {
  const std::string work = path("work");
  Process run(folder_, alone_with_watchdog(3, endless(work, {"distributed.timeout=3"})));
  wait_for_steps(work, 2);
  const pid_t victim = process_of_rank(work, GetParam());
  ASSERT_GT(victim, 0);
  const auto start = std::chrono::steady_clock::now();
  kill(victim, SIGSTOP);
  while (processes(work, (GetParam() + 1) % 3).size() + processes(work, (GetParam() + 2) % 3).size() > 0 &&
         std::chrono::steady_clock::now() < start + seconds(20))
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const int took = milliseconds_since(start);
  RecordProperty("milliseconds", took);
  EXPECT_GT(took, 1500);
  EXPECT_LT(took, 10000) << "the time-out is 3 s";  // and the machine may be busy
  kill(victim, SIGCONT);
  const Ran ran = run.wait(seconds(10));
  EXPECT_EQ(count(ran.err, "ended with 5\n"), 3) << ran.err;
  EXPECT_GE(count(ran.err, "lost rank " + std::to_string(GetParam()) + " on "), 2) << ran.err;
  EXPECT_HAS(ran.err, "no sign of life for 2.4 s");
  expect_nothing_left(work);
}

// By mpirun's own rules, as a user starts it.
TEST_F(RankFaults, AKilledRankEndsAllUnderMpirunsOwnRules) {
  const std::string work = path("work");
  Process run(folder_, endless(work, {"--ranks", "3"}));
  wait_for_steps(work, 2);
  const pid_t victim = process_of_rank(work, 2);
  ASSERT_GT(victim, 0);
  kill(victim, SIGKILL);
  const Ran ran = run.wait(seconds(10));
  EXPECT_NE(ran.code, 0);
  expect_named(ran, 2, "its connection closed: it was killed or crashed");
  expect_nothing_left(work);
}

// mpirun ends what is left as soon as one has ended, and rank 0 has said its line by then.
TEST_F(RankFaults, AStoppedRankIsNamedByAllUnderMpirunsOwnRules) {
  const std::string work = path("work");
  Process run(folder_, endless(work, {"--ranks", "3", "distributed.timeout=3"}));
  wait_for_steps(work, 2);
  const pid_t victim = process_of_rank(work, 2);
  ASSERT_GT(victim, 0);
  kill(victim, SIGSTOP);
  const auto others = [&] { return processes(work, 0).size() + processes(work, 1).size(); };
  for (const auto end = std::chrono::steady_clock::now() + seconds(20);
       others() > 0 && std::chrono::steady_clock::now() < end;)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(others(), 0U);
  kill(victim, SIGKILL);
  const Ran ran = run.wait(seconds(20));
  EXPECT_NE(ran.code, 0);
  for (const char* rank : {"train: rank 0 on ", "train: rank 1 on "})
    EXPECT_HAS(ran.err, rank + host_name() + ": lost rank 2 on " + host_name());
  expect_nothing_left(work);
}

// The script starts again from the checkpoint, and the training ends as one that lost nobody.
TEST_F(RankFaults, ALocalTrainingGoesOnAfterALostRank) {
  const Command more = {"train.checkpoint_every=4", "schedule.epochs=60", "loader.batch_size=1"};
  const std::string work = path("work"), whole = path("whole");
  Command script = {std::string(GRADLIBRA_SCRIPTS) + "/launch/local.sh",
                    "--ranks",
                    "2",
                    "--restarts",
                    "2",
                    "--bin",
                    GRADLIBRA_PROGRAMS,
                    "--"};
  Command arguments = join(train(work), more);
  arguments.erase(arguments.begin());
  Process run(folder_, join(script, arguments));
  wait_for_steps(work, 5);
  const pid_t victim = process_of_rank(work, 1);
  ASSERT_GT(victim, 0);
  kill(victim, SIGKILL);
  const Ran ran = run.wait(seconds(60));
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.err, "start 1 of 2 again, from the last checkpoint");
  EXPECT_HAS(ran.out, "resumed from ");
  ASSERT_EQ(Process(folder_, join(join(train(whole), more), {"--ranks", "2"})).wait(seconds(60)).code, 0);
  const auto last = [](const std::string& folder) { return get(folder + "/checkpoints/checkpoint_240.safetensors"); };
  EXPECT_GT(last(work).size(), 1000u);
  EXPECT_TRUE(last(work) == last(whole)) << "not a bit may differ";
}

// An mpirun whose ranks have ended, and which does not see it.
TEST_F(RankFaults, AStarterThatHangsIsEnded) {
  const TemporaryFolder of_unseen, of_killed;
  const auto start = [&](const TemporaryFolder& folder, const std::string& name, const std::string& ranks) {
    put(folder / "mpirun", "#!/bin/bash\n" + ranks + "\nexec sleep 1000\n");
    std::filesystem::permissions(folder / "mpirun", std::filesystem::perms::owner_all);
    Command command = train(name, {"--ranks", "2"});
    command[0] = program("train");
    return std::make_unique<Process>(
        folder, join({"/usr/bin/env", "PATH=" + folder.string() + ":" + std::getenv("PATH")}, command));
  };
  // A rank that ends once nobody looks any more: as long as its starter is bash, that might.
  const auto rank = [](const std::string& code) {
    return "bash -c 'for i in {1..400}; do grep -q sleep /proc/$PPID/comm && break; sleep 0.05; done; exit " + code +
           "' &";
  };
  const auto unseen = start(of_unseen, "unseen", rank("5") + "\n" + rank("3"));
  const auto killed = start(of_killed, "killed", "bash -c 'kill -9 $$' &\nwait\n" + rank("0"));  // saw the first
  for (const auto& [process, code] : {std::pair{unseen.get(), 3},     // that of the rank with a reason of its own
                                      std::pair{killed.get(), 5}}) {  // a rank was lost
    const Ran ran = process->wait(seconds(40));
    EXPECT_EQ(ran.code, code) << ran.err;
    EXPECT_HAS(ran.err, "all ranks have ended, mpirun has not");
  }
}

// The loader of one rank meets it; all leave in front of that step, with a checkpoint.
TEST_F(RankFaults, AnImageThatOneCannotReadEndsAllInOrder) {
  const std::string work = path("work");
  Process run(folder_, mpirun(2, endless(work, {"loader.cache_mb=0", "loader.retry_seconds=0"})));
  wait_for_steps(work, 2);
  std::filesystem::resize_file(folder_ / "data/JPEGImages/tiny_003.png", 100);
  const Ran ran = run.wait(seconds(30));
  EXPECT_EQ(ran.code, 1) << ran.err;
  EXPECT_EQ(count(ran.err, "train: rank "), 2) << ran.err;
  EXPECT_EQ(count(ran.err, "tiny_003.png"), 2) << ran.err;
  EXPECT_HAS(ran.err, "is kept; continue with --resume");
  EXPECT_EQ(checkpoints(work).size(), 1u);
  expect_nothing_left(work);
}

// Before there is a watchdog: in the start of MPI itself.
TEST_F(RankFaults, OneThatIsStoppedBeforeTheStartEndsAll) {
  const std::string work = path("work");
  Command command = alone_with_watchdog(2, endless(work, {"distributed.start_timeout=2"}));
  put(folder_ / "tell.sh", "[ \"$OMPI_COMM_WORLD_RANK\" != 1 ] || kill -STOP $$\n\"$@\"\necho \"ended with $?\" >&2\n");
  Process run(folder_, command);
  const auto start = std::chrono::steady_clock::now();
  while (get(folder_ / "stderr").find("ended with") == std::string::npos && milliseconds_since(start) < 30000)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  run.send(SIGTERM);
  const Ran ran = run.wait(seconds(30));
  EXPECT_HAS(ran.err,
             "train: rank 0 on " + host_name() +
                 ": not all ranks have come to MPI's start within 2 s: one was stopped, or its network is down");
  EXPECT_HAS(ran.err, "ended with 5\n");
}

// One waits for a picture that does not come, the other for its sums. Both live, and nothing moves.
TEST_F(RankFaults, AStandstillEndsAll) {
  const std::string work = path("work");
  Process run(folder_, alone_with_watchdog(2, endless(work, {"loader.cache_mb=0", "loader.retry_seconds=1000",
                                                             "distributed.timeout=3", "distributed.stall_timeout=2"})));
  wait_for_steps(work, 2);
  std::filesystem::rename(folder_ / "data/JPEGImages/tiny_003.png", folder_ / "gone");
  const Ran ran = run.wait(seconds(40));
  EXPECT_EQ(count(ran.err, "ended with 5\n"), 2) << ran.err;
  EXPECT_EQ(count(ran.err, "nothing has moved for 2 s: a sum over ranks, a kernel or a disk hangs"), 2) << ran.err;
  const std::string reader = ran.err.find("rank 1 on " + host_name() + ": warning: ") != std::string::npos ? "1" : "0";
  EXPECT_EQ(count(ran.err, "lost rank " + reader + " on "), 2) << ran.err;
  expect_nothing_left(work);
}

// All end with the exit code that says so, and leave their batches side by side.
TEST_F(RankFaults, ALossThatIsNoNumberEndsAll) {
  const std::string work = path("work");
  const Ran ran =
      Process(folder_, alone_with_watchdog(2, endless(work, {"schedule.lr=1e25", "schedule.warmup_iterations=0",
                                                             "optimizer.clip_norm=0"})))
          .wait(seconds(30));
  EXPECT_EQ(count(ran.err, "ended with 3\n"), 2) << ran.err;
  EXPECT_EQ(count(ran.err, "Nothing was updated."), 2) << ran.err;
  EXPECT_HAS(ran.err, "_rank_1.safetensors for `inspect step --batch`");
  expect_nothing_left(work);
}

// One fails where the others wait for it.
TEST_F(RankFaults, AnErrorOfOneIsToldByAll) {
  const std::string work = path("work");
  // A folder that is a file: only the first rank takes it.
  put(work, "no folder");
  const Ran ran = Process(folder_, alone_with_watchdog(2, endless(work))).wait(seconds(30));
  EXPECT_EQ(count(ran.err, "ended with 1\n"), 2) << ran.err;
  EXPECT_HAS(ran.err, "train: rank 0 on " + host_name() + " at step 0: --work-dir " + work);
  EXPECT_HAS(ran.err,
             "train: rank 1 on " + host_name() + ": lost rank 0 on " + host_name() + " at step 0: --work-dir ");
  expect_nothing_left(work);
}

TEST_F(RankFaults, RanksThatDifferAreRefused) {
  const std::string work = path("work");
  Command both = mpirun(1, endless(work));
  const Command other = {":", "-np", "1", program("train")};
  Command different = endless(work, {"schedule.lr=0.5"});
  different.erase(different.begin());
  const Ran ran = Process(folder_, join(join(both, other), different)).wait(seconds(30));
  EXPECT_EQ(ran.code, 1) << ran.err;
  EXPECT_EQ(count(ran.err, "rank 0 on " + host_name() + " and rank 1 on " + host_name() +
                               " differ at the start in the configuration: '  lr: 0.01', '  lr: 0.5'"),
            2)
      << ran.err;
}

}  // namespace
}  // namespace gradlibra
