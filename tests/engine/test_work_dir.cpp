// SPDX-License-Identifier: MIT
// One owner per folder, a log whose lines are whole whatever the disk does, and cutting it back to a checkpoint.
#include "engine/work_dir.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "engine/training_log.h"
#include "runtime/base/files.h"
#include "tests/files.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

std::string refusal(const fs::path& path) {
  return message_of<std::runtime_error>([&] { const WorkDir taken(path); });
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(WorkDir, HasOneOwnerAtATime) {
  TemporaryFolder folder;
  {
    const WorkDir first(folder / "a/run");
    EXPECT_EQ(first.warning(), "");
    const std::string message = refusal(folder / "a/run");
    EXPECT_TRUE(has(message, "in use by process " + std::to_string(::getpid()))) << message;
    EXPECT_TRUE(has(message, "another folder")) << message;
    EXPECT_EQ(refusal(folder / "a/other"), "");
  }
  EXPECT_EQ(refusal(folder / "a/run"), "");
  // Other folders than a training's are told by their option.
  const WorkDir first(folder / "found", "--output");
  try {
    const WorkDir second(folder / "found", "--output");
    ADD_FAILURE() << "two owners";
  } catch (const std::runtime_error& error) {
    EXPECT_EQ(std::string(error.what()).find("--output " + (folder / "found").string() + ": in use by process "), 0u)
        << error.what();
  }
}

// The lock of a process that was killed is free, though its file is there.
TEST(WorkDir, ADeadOwnerDoesNotKeepIt) {
  TemporaryFolder folder;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const WorkDir taken(folder.path());
    (void)!::write(ready[1], "x", 1);
    for (;;) ::pause();
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_TRUE(has(refusal(folder.path()), "in use by process " + std::to_string(child)));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(fs::exists(folder / "lock"));
  EXPECT_EQ(refusal(folder.path()), "");
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(WorkDir, SaysInPlainWordsWhatIsWrong) {
  TemporaryFolder folder;
  put(folder / "file", "");
  EXPECT_TRUE(has(refusal(folder / "file"), "file is a file, not a folder")) << refusal(folder / "file");
  EXPECT_TRUE(has(refusal(folder / "file/below"), "file is a file, not a folder")) << refusal(folder / "file/below");
  EXPECT_TRUE(has(refusal(""), "--work-dir is empty"));
  EXPECT_TRUE(has(refusal(folder.path() / std::string(300, 'x')), "cannot make the folder: File name too long"));
  if (::geteuid() != 0) {
    fs::create_directories(folder / "shut");
    fs::permissions(folder / "shut", fs::perms::owner_read | fs::perms::owner_exec);
    EXPECT_TRUE(has(refusal(folder / "shut"), "cannot write in this folder: Permission denied"));
  }
}

TEST(RunLog, AppendsWholeLines) {
  TemporaryFolder folder;
  put(folder / "log", "old\n");
  RunLog log(folder / "log");
  EXPECT_EQ(log.add("one"), "");
  EXPECT_EQ(log.add("two"), "");
  EXPECT_EQ(get(folder / "log"), "old\none\ntwo\n");
  EXPECT_EQ(log.missing(), 0);
  EXPECT_THROW(RunLog(folder / "none/log"), WriteError);
}

// A limit on the file's size stands for a full disk: the write takes a part of the line, then fails.
TEST(RunLog, AFullDiskLosesNoLineAndJoinsNoTwo) {
  TemporaryFolder folder;
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  RunLog log(folder / "log");
  EXPECT_EQ(log.add("first line"), "");
  const rlimit full{15, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
  const std::string told = log.add("second line");
  const std::string again = log.add("third line");
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_TRUE(has(told, "cannot write")) << told;
  EXPECT_TRUE(has(told, "lines wait in memory")) << told;
  EXPECT_EQ(again, "");  // said once
  EXPECT_EQ(get(folder / "log"), "first line\n");
  EXPECT_EQ(log.missing(), 2);
  EXPECT_TRUE(has(log.add("fourth line"), "can be written again, 0 lines were lost"));
  EXPECT_EQ(get(folder / "log"), "first line\nsecond line\nthird line\nfourth line\n");
  EXPECT_EQ(log.missing(), 0);
  std::signal(SIGXFSZ, old_handler);
}

TEST(RunLog, BeginsAnewWhereTheFileWasDeleted) {
  TemporaryFolder folder;
  fs::create_directories(folder / "run");
  RunLog log(folder / "run/log");
  EXPECT_EQ(log.add("one"), "");
  fs::remove(folder / "run/log");
  EXPECT_TRUE(has(log.add("two"), "was deleted, with the lines before"));
  EXPECT_EQ(get(folder / "run/log"), "two\n");
  fs::remove_all(folder / "run");
  EXPECT_TRUE(has(log.add("three"), "lines wait in memory"));
  EXPECT_EQ(log.missing(), 1);
  fs::create_directories(folder / "run");
  EXPECT_TRUE(has(log.add("four"), "can be written again, 0 lines were lost"));
  EXPECT_EQ(get(folder / "run/log"), "three\nfour\n");
}

// A device that never takes a byte and cannot be cut.
TEST(RunLog, WhatCannotBeWrittenIsCounted) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  RunLog log("/dev/full");
  EXPECT_TRUE(has(log.add("a"), "No space left on device; free some space"));
  EXPECT_EQ(log.add("b"), "");
  EXPECT_EQ(log.missing(), 2);
}

TEST(CutLog, EndsWhereTheCheckpointStands) {
  TemporaryFolder folder;
  const fs::path log = folder / "log.jsonl", aside = folder / "log.cut.jsonl";
  EXPECT_EQ(cut_log(log, 3, 0), 0);  // none yet
  const std::string kept = R"({"step":1}
{"step":2}
{"step":2,"epoch":1,"val_map50":null}
)";
  const std::string later = R"({"step":2,"epoch":2,"val_map50":0.5}
{"step":3}
)";
  put(log, kept + later + R"({"step":4,"lo)");
  EXPECT_EQ(cut_log(log, 2, 1), 3);
  EXPECT_EQ(get(log), kept);
  EXPECT_EQ(get(aside), later + "{\"step\":4,\"lo\n");
  EXPECT_EQ(cut_log(log, 2, 1), 0);
  // A torn last line alone, and one that was joined to the next.
  put(log, kept + "{\"step\":");
  EXPECT_EQ(cut_log(log, 9, 9), 1);
  EXPECT_EQ(get(log), kept);
  const std::string joined = "{\"st{\"step\":3}\n";
  put(log, kept + joined + "{\"step\":4}\n");
  EXPECT_EQ(cut_log(log, 9, 9), 0);
  EXPECT_EQ(cut_log(log, 3, 9), 1);
  EXPECT_EQ(get(log), kept + joined);
  // A start from the beginning leaves nothing, and nothing is lost: all that was cut lies aside, in order.
  EXPECT_EQ(cut_log(log, 0, 0), 4);
  EXPECT_EQ(get(log), "");
  EXPECT_EQ(get(aside), later + "{\"step\":4,\"lo\n{\"step\":\n{\"step\":4}\n" + kept + joined);
}

// A line that is none costs none of the lines behind it; what is cut and what is passed over is said.
TEST(CutLog, PassesOverWhatCannotBeRead) {
  const TemporaryFolder folder;
  const fs::path log = folder / "log.jsonl";
  std::vector<std::string> said;
  const auto say = [&said](const std::string& line) { said.push_back(line); };
  const std::string kept = "{\"step\":1,\"loss\":2}\n\n{\"step\":2,\"lo#s\n" + std::string(200000, '[') +
                           "\n[7]\n{\"step\":3,\"val_map50\":0.5,\"epoch\":\"one\"}\n{\"step\":4,\"loss\":1}\n";
  put(log, kept);
  EXPECT_EQ(cut_log(log, 4, 1, say), 0);
  EXPECT_EQ(get(log), kept);
  EXPECT_EQ(said, std::vector<std::string>{
                      "log: 3 lines of log.jsonl cannot be read (the first is line 3); they are passed over"});
  EXPECT_EQ(read_training_log(log).unreadable, 3) << "as here";
  EXPECT_EQ(read_training_log(log).steps.size(), 2u);
  said.clear();
  put(log, "{\"step\":1}\n{\"step\":2}\nnone\n{\"step\":3}\n");
  EXPECT_EQ(cut_log(log, 1, 0, say), 3);
  EXPECT_EQ(said, std::vector<std::string>{
                      "log: 3 lines from line 2 on, behind step 1, moved from log.jsonl to log.cut.jsonl"});
  said.clear();
  put(log, "{\"step\":1}\n{\"st");
  EXPECT_EQ(cut_log(log, 1, 0, say), 1);
  EXPECT_EQ(said, std::vector<std::string>{
                      "log: line 2, the last and without its end, moved from log.jsonl to log.cut.jsonl"});
}

}  // namespace
}  // namespace gradlibra
