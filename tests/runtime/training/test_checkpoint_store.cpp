// SPDX-License-Identifier: MIT
// Checkpoints under attack: truncated and altered files, full disks, interrupted calls, leftovers of killed processes.
#include "runtime/training/checkpoint_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <numeric>

#include "tests/files.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

SafetensorsFile contents(float value) {
  SafetensorsFile file;
  std::vector<float> weights(1000);
  std::iota(weights.begin(), weights.end(), value);
  file.tensors["backbone.conv1.weight"] = make_file_tensor(weights, {10, 100});
  file.tensors["step"] = make_file_scalar(int64_t{3});
  file.tensors["empty"] = make_file_tensor(std::vector<float>{}, {0, 5});
  file.metadata["config"] = "name: test\n";
  return file;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

class Checkpoints : public testing::Test {
 protected:
  [[nodiscard]] fs::path file(int step) const {
    return folder_ / ("checkpoint_" + std::to_string(step) + ".safetensors");
  }
  // Without waiting for the disk; RoundTrip and the tests of failing calls use the real fsync.
  void save(int step) const {
    FileCalls calls;
    calls.fsync = [](int) { return 0; };
    CheckpointStore store(folder_, 3, calls);
    const auto saved = store.save(contents(static_cast<float>(step)), step);
    ASSERT_TRUE(saved.ok()) << saved.error;
    ASSERT_EQ(saved.path, file(step));
  }
  void expect_loads(int step, size_t problems) const {
    const auto loaded = CheckpointStore(folder_).load_latest();
    ASSERT_TRUE(loaded.has_value());
    EXPECT_EQ(loaded->step, step);
    EXPECT_EQ(loaded->path, file(step));
    EXPECT_EQ(loaded->file, contents(static_cast<float>(step)));
    EXPECT_EQ(loaded->problems.size(), problems);
  }
  // A store whose calls fail as told must leave the checkpoint of step 1 as it is and say why.
  void expect_failed_save(FileCalls calls, const std::string& reason, bool empty_at_once = true) const {
    save(1);
    CheckpointStore store(folder_, 1, std::move(calls));
    const auto saved = store.save(contents(2), 2);
    EXPECT_FALSE(saved.ok());
    EXPECT_TRUE(contains(saved.error, reason)) << saved.error;
    if (empty_at_once) expect_loads(1, 0);
    for (const auto& entry : fs::directory_iterator(folder_)) {
      EXPECT_FALSE(contains(entry.path().filename().string(), "tmp")) << entry.path();
    }
    save(3);  // and it goes on once the cause is gone
    expect_loads(3, 0);
  }
  TemporaryFolder temporary_;
  const fs::path folder_ = temporary_ / "checkpoints";  // not there yet
};

TEST_F(Checkpoints, RoundTrip) {
  EXPECT_FALSE(CheckpointStore(folder_).load_latest().has_value());
  ASSERT_TRUE(CheckpointStore(folder_).save(contents(7), 7).ok());
  expect_loads(7, 0);
  EXPECT_EQ(CheckpointStore::load(file(7)).file, contents(7));
  EXPECT_EQ(read_safetensors(file(7)).tensors, contents(7).tensors);  // a plain reader sees the same tensors
  EXPECT_EQ(get(folder_ / "latest"), "checkpoint_7.safetensors\n");
  const auto saved = CheckpointStore(folder_).save(contents(8), 7);  // the same step again: replaced
  ASSERT_TRUE(saved.ok());
  EXPECT_EQ(CheckpointStore::load(file(7)).file, contents(8));
}

TEST_F(Checkpoints, KeepsTheNewestAndLaterOnes) {
  CheckpointStore store(folder_, 2);
  for (const int step : {100, 5, 9, 10, 11}) ASSERT_TRUE(store.save(contents(0), step).ok());
  EXPECT_FALSE(fs::exists(file(5)));
  EXPECT_FALSE(fs::exists(file(9)));
  for (const int step : {10, 11, 100}) EXPECT_TRUE(fs::exists(file(step)));
  EXPECT_EQ(store.load_latest()->step, 11);
}

TEST_F(Checkpoints, RefusesReservedKeysAndBadContents) {
  CheckpointStore store(folder_);
  SafetensorsFile bad = contents(1);
  bad.metadata["checkpoint.step"] = "4";
  EXPECT_THROW((void)store.save(bad, 1), SafetensorsError);
  bad = contents(1);
  bad.tensors["x"] = {FileDType::f32, {7}, {}};
  EXPECT_THROW((void)store.save(bad, 1), SafetensorsError);
  EXPECT_THROW((void)store.save(contents(1), -1), SafetensorsError);
  EXPECT_FALSE(store.load_latest().has_value());
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(Checkpoints, TruncatedNewestFallsBack) {
  save(1);
  save(2);
  for (const double part : {0.0, 0.01, 0.5, 0.999}) {
    save(3);
    fs::resize_file(file(3), static_cast<uintmax_t>(static_cast<double>(fs::file_size(file(3))) * part));
    expect_loads(2, 1);
  }
  const auto loaded = CheckpointStore(folder_).load_latest();
  EXPECT_TRUE(contains(loaded->problems[0], "checkpoint_3.safetensors")) << loaded->problems[0];
  fs::resize_file(file(2), 100);
  expect_loads(1, 2);
  fs::resize_file(file(1), 100);
  const std::string message = message_of<std::runtime_error>([&] { (void)CheckpointStore(folder_).load_latest(); });
  for (const int step : {1, 2, 3}) EXPECT_HAS(message, file(step).string());
}

TEST_F(Checkpoints, FlippedBitsAreFound) {
  save(1);
  save(2);
  const std::string good = get(file(2));
  size_t offset = 0;
  for (size_t at = 0; at < good.size(); at += at < 700 ? 3 : 97, ++offset) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << (offset % 8)));
    put(file(2), bad);
    EXPECT_THROW((void)CheckpointStore::load(file(2)), SafetensorsError) << "byte " << at;
  }
  expect_loads(1, 1);
}

TEST_F(Checkpoints, ChangesThatCancelInSimpleSumsAreFound) {
  save(1);
  const SafetensorsFile good = read_safetensors(file(1));
  const auto expect_found = [&](const SafetensorsFile& bad, const char* what) {
    write_safetensors(file(1), bad);
    EXPECT_THROW((void)CheckpointStore::load(file(1)), SafetensorsError) << what;
  };
  SafetensorsFile bad = good;
  const auto bytes = [&]() -> std::vector<std::byte>& { return bad.tensors.at("backbone.conv1.weight").bytes; };
  for (const size_t distance : {8, 16, 32, 64, 128}) {
    bad = good;
    bytes()[7] ^= std::byte{0x80};
    bytes()[7 + distance] ^= std::byte{0x80};
    expect_found(bad, "two sign bits");
    bad = good;
    for (size_t i = 0; i < 8; ++i) std::swap(bytes()[i], bytes()[i + distance]);
    expect_found(bad, "two words exchanged");
  }
  bad = good;
  bad.tensors["backbone.conv1.weight"].shape = {100, 10};
  expect_found(bad, "shape");
  bad = good;
  bad.tensors["backbone.conv1.weight"].dtype = FileDType::i32;
  expect_found(bad, "dtype");
  bad = good;
  bad.metadata["config"] = "name: tesd\n";
  expect_found(bad, "metadata");
  bad = good;
  bad.metadata["more"] = "";
  expect_found(bad, "metadata added");
  bad = good;
  bad.tensors.erase("empty");
  expect_found(bad, "tensor removed");
  bad = good;
  bad.tensors["more"] = bad.tensors["empty"];
  expect_found(bad, "tensor added");
  expect_found(contents(1), "no checksums at all");
}

TEST_F(Checkpoints, LatestIsOnlyAHint) {
  save(1);
  save(2);
  put(folder_ / "latest", "checkpoint_1.safetensors\n");
  expect_loads(1, 0);
  for (const char* text :
       {"checkpoint_99.safetensors\n", "", "../../etc/passwd", "checkpoint_2", "checkpoint_02.safetensors"}) {
    put(folder_ / "latest", text);
    expect_loads(2, 1);
  }
  put(folder_ / "latest", std::string(1 << 20, 'x'));
  expect_loads(2, 1);
  fs::remove(folder_ / "latest");
  expect_loads(2, 1);
  fs::create_directory(folder_ / "latest");
  expect_loads(2, 1);
  fs::remove(folder_ / "latest");
  put(folder_ / "checkpoint_x.safetensors", "");
  put(folder_ / "checkpoint_-4.safetensors", "");
  put(folder_ / "checkpoint_99999999999999999999.safetensors", "");
  expect_loads(2, 1);
}

TEST_F(Checkpoints, LeftoversAreIgnoredAndRemoved) {
  save(1);
  put(folder_ / "ckpt.tmp.12345", "half a file");
  expect_loads(1, 0);
  EXPECT_TRUE(fs::exists(folder_ / "ckpt.tmp.12345"));  // loading changes nothing
  put(folder_ / "ckpt.tmp.999", "of a process that is still writing");
  const int held = ::open((folder_ / "ckpt.tmp.999").c_str(), O_RDONLY);
  ASSERT_EQ(::flock(held, LOCK_EX), 0);
  save(2);
  EXPECT_FALSE(fs::exists(folder_ / "ckpt.tmp.12345"));
  EXPECT_TRUE(fs::exists(folder_ / "ckpt.tmp.999"));
  ::close(held);
  save(3);
  EXPECT_FALSE(fs::exists(folder_ / "ckpt.tmp.999"));
}

TEST_F(Checkpoints, FullDiskKeepsTheOldFile) {
  for (const int error : {ENOSPC, EDQUOT, EIO}) {
    FileCalls calls;
    size_t written = 0;
    calls.write = [&](int file, const void* bytes, size_t count) -> ssize_t {
      if (written >= 2000) {
        errno = error;
        return -1;
      }
      const ssize_t result = ::write(file, bytes, std::min<size_t>(count, 2000 - written));
      written += static_cast<size_t>(result);
      return result;
    };
    expect_failed_save(calls, std::strerror(error));
  }
}

TEST_F(Checkpoints, FullDiskWhileNamingTheLatest) {
  FileCalls calls;
  int flushes = 0;
  calls.fsync = [&](int file) {
    if (++flushes < 3) return ::fsync(file);  // the checkpoint and its folder
    errno = ENOSPC;
    return -1;
  };
  expect_failed_save(calls, "No space left");
}

TEST_F(Checkpoints, FailuresOfTheOtherCalls) {
  FileCalls calls;
  calls.fsync = [](int) { return errno = EIO, -1; };
  expect_failed_save(calls, "cannot flush");
  calls = {};
  calls.close = [](int file) { return ::close(file), errno = EDQUOT, -1; };
  expect_failed_save(calls, "cannot close");
  calls = {};
  calls.rename = [](const char*, const char*) { return errno = EACCES, -1; };
  expect_failed_save(calls, "cannot rename");
  calls = {};
  calls.write = [](int, const void*, size_t) -> ssize_t { return 0; };
  expect_failed_save(calls, "cannot write");
  calls = {};
  calls.free_bytes = [](const fs::path&) { return int64_t{5000}; };
  expect_failed_save(calls, "not enough space");
}

TEST_F(Checkpoints, FolderThatCannotBeUsed) {
  put(folder_, "a file where the folder should be");
  const auto saved = CheckpointStore(folder_).save(contents(1), 1);
  EXPECT_FALSE(saved.ok());
  EXPECT_TRUE(contains(saved.error, folder_.string())) << saved.error;
}

TEST_F(Checkpoints, InterruptedAndShortWritesAreContinued) {
  FileCalls calls;
  int count = 0;
  calls.write = [&](int file, const void* bytes, size_t size) -> ssize_t {
    if (++count % 3 == 0) return errno = EINTR, -1;
    return ::write(file, bytes, std::min<size_t>(size, 1 + static_cast<size_t>(count) % 7));
  };
  int flushes = 0;
  calls.fsync = [&](int file) { return ++flushes % 2 == 1 ? (errno = EINTR, -1) : ::fsync(file); };
  calls.close = [](int file) { return ::close(file), errno = EINTR, -1; };
  CheckpointStore store(folder_, 3, calls);
  const auto saved = store.save(contents(4), 4);
  ASSERT_TRUE(saved.ok()) << saved.error;
  expect_loads(4, 0);
  EXPECT_GT(count, 500);
}

TEST_F(Checkpoints, FilesystemsWithoutFolderFlush) {
  FileCalls calls;
  int flushes = 0;
  calls.fsync = [&](int file) { return ++flushes % 2 == 0 ? (errno = EINVAL, -1) : ::fsync(file); };
  EXPECT_TRUE(CheckpointStore(folder_, 3, calls).save(contents(1), 1).ok());
  EXPECT_EQ(flushes, 4);  // two files, each followed by the folder
}

TEST_F(Checkpoints, RealFileSizeLimit) {
  save(1);
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{3000, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto saved = CheckpointStore(folder_).save(contents(2), 2);
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_FALSE(saved.ok());
  EXPECT_TRUE(contains(saved.error, "ulimit")) << saved.error;
  expect_loads(1, 0);
}

TEST_F(Checkpoints, SpaceIsAskedAhead) {
  FileCalls calls;
  calls.free_bytes = [](const fs::path& there) {
    EXPECT_TRUE(fs::exists(there)) << there;
    return int64_t{1'000'000};
  };
  const CheckpointStore store(folder_ / "not" / "there yet", 3, calls);
  EXPECT_EQ(store.space_problem(1'000'000), "");
  EXPECT_TRUE(contains(store.space_problem(2'000'000), "needs 2.0 MB, 1.0 MB are free"))
      << store.space_problem(2'000'000);
  EXPECT_EQ(CheckpointStore(folder_).space_problem(1), "");
}

}  // namespace
}  // namespace gradlibra
