// SPDX-License-Identifier: MIT
// `train` as a user meets it when things go otherwise than planned: signals, closed terminals, full disks, a folder
// that is taken, a run to go on with; and weights from elsewhere.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <nlohmann/json.hpp>

#include "runtime/base/safetensors.h"
#include "runtime/training/checkpoint_store.h"
#include "tests/apps/run_programs.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class Train : public ProgramTest {
 protected:
  Train() {
    put_tiny_set(folder_ / "data", 4);
    config_ = write_config(folder_ / "data");
  }
  // A training without an end in `work`, with checkpoints only where it is told to leave.
  [[nodiscard]] std::vector<std::string> endless(const std::string& work) const {
    return {"train",
            "--config",
            config_,
            "--work-dir",
            work,
            "--threads",
            "1",
            "schedule.epochs=1000000",
            "train.checkpoint_every=1000000",
            "train.log_every=1"};
  }
  static void wait_for_a_step(const std::string& work) {
    const fs::path log = fs::path(work) / "log.jsonl";
    for (int i = 0; i < 30000 && get(log).find('\n') == std::string::npos; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    ASSERT_NE(get(log).find('\n'), std::string::npos) << "no step within a minute";
  }
  static int checkpoints(const std::string& work) {
    int count = 0;
    for (const auto& entry : fs::directory_iterator(fs::path(work) / "checkpoints"))
      count += entry.path().extension() == ".safetensors";
    return count;
  }
  std::string config_;
};

TEST_F(Train, EverySignalLeavesACheckpoint) {
  for (const int number : {SIGHUP, SIGQUIT, SIGUSR2, SIGXCPU}) {
    const std::string work = path("work" + std::to_string(number));
    Process train(folder_, endless(work));
    wait_for_a_step(work);
    train.send(number);
    train.send(number);  // as a terminal and its shell do
    const Ran ran = train.wait(std::chrono::seconds(30));
    EXPECT_EQ(ran.code, 0) << number << ran.err;
    EXPECT_HAS(ran.out, "continue with --resume");
    EXPECT_EQ(checkpoints(work), 1) << number;
    EXPECT_FALSE(fs::exists(fs::path(work) / "finished"));
  }
}

// `train | head -1`, and a terminal that is gone.
TEST_F(Train, AReaderThatGoesAwayLeavesACheckpoint) {
  const std::string work = path("piped"), program = std::string(GRADLIBRA_PROGRAMS) + "/train";
  std::string command = "'" + program + "'";
  const std::vector<std::string> arguments = endless(work);
  for (size_t i = 1; i < arguments.size(); ++i) command += " '" + arguments[i] + "'";
  ASSERT_EQ(std::system((command + " 2>/dev/null | head -1 >/dev/null").c_str()), 0);
  EXPECT_EQ(checkpoints(work), 1);
  // No standard output at all: the log gets nothing but its own lines.
  const std::string closed = path("closed");
  command.replace(command.find(work), work.size(), closed);
  ASSERT_EQ(std::system((command + " --stop-after-step 3 >&- 2>&- <&-").c_str()), 0);
  EXPECT_EQ(checkpoints(closed), 1);
  std::ifstream lines(fs::path(closed) / "log.jsonl");
  int64_t steps = 0;
  for (std::string line; std::getline(lines, line);) EXPECT_EQ(Json::parse(line).at("step"), ++steps);
  EXPECT_EQ(steps, 3);
}

// The first one is heard at the next step; here there is none, since an image is waited for.
TEST_F(Train, ASecondSignalEndsAtOnce) {
  const std::string work = path("work");
  std::vector<std::string> argv = endless(work);
  argv.insert(argv.end(), {"loader.cache_mb=0", "model.test.score_threshold=0"});
  Process train(folder_, argv);
  wait_for_a_step(work);
  fs::rename(folder_ / "data/JPEGImages", folder_ / "data/gone");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  train.send(SIGTERM);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  train.send(SIGTERM);
  const Ran ran = train.wait(std::chrono::seconds(30));
  // Either the wait ended by the first, with a checkpoint, or the second was quicker.
  EXPECT_TRUE(ran.code == 143 || (ran.code == 0 && checkpoints(work) == 1)) << ran.code << ran.err;
}

// The folder of somebody's own configuration becomes the one to work in.
TEST_F(Train, AnOwnConfigurationIsNotWrittenOver) {
  const std::string work = path("mine"), own = "# what I learned\n" + get(config_);
  put(folder_ / "mine/config.yaml", own);
  const auto train = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"train", "--work-dir", work, "--threads", "1"});
    return run(more);
  };
  const Ran first = train({"--config", work + "/config.yaml", "--stop-after-step", "1"});
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_HAS(first.out, "config.yaml was there; it is config.1.yaml now");
  EXPECT_EQ(get(folder_ / "mine/config.1.yaml"), own);
  ASSERT_EQ(train({"--resume"}).code, 0);
  EXPECT_FALSE(fs::exists(folder_ / "mine/config.2.yaml"));
}

TEST_F(Train, AFileSizeLimitIsAnErrorThatNamesIt) {
  const std::string work = path("work"), program = std::string(GRADLIBRA_PROGRAMS) + "/train";
  const std::string command = "ulimit -f 100; '" + program + "' --config '" + config_ + "' --work-dir '" + work +
                              "' --threads 1 --stop-after-step 2 >/dev/null 2>'" + path("err") + "'";
  const int status = std::system(("bash -c \"" + command + "\"").c_str());
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_HAS(get(folder_ / "err"), "ulimit -f");
}

TEST_F(Train, OneFolderHasOneTraining) {
  const std::string work = path("work");
  Process first(folder_, endless(work));
  wait_for_a_step(work);
  TemporaryFolder elsewhere;
  const std::string before = get(fs::path(work) / "config.yaml");
  for (const bool resume : {false, true}) {
    std::vector<std::string> argv = endless(work);
    argv.emplace_back("train.seed=7");
    if (resume) argv.emplace_back("--resume");
    const Ran second = Process(elsewhere, argv).wait();
    EXPECT_EQ(second.code, 1);
    EXPECT_HAS(second.err, "in use by process ");
  }
  EXPECT_EQ(get(fs::path(work) / "config.yaml"), before);
  first.send(SIGKILL);
  EXPECT_EQ(first.wait().code, -1);
  // The dead owner does not keep it, and the log starts anew.
  const Ran again = run({"train", "--resume", work, "--stop-after-step", "2", "--threads", "1"});
  EXPECT_EQ(again.code, 0) << again.err;
  std::ifstream lines(fs::path(work) / "log.jsonl");
  int64_t steps = 0;
  for (std::string line; std::getline(lines, line);) EXPECT_EQ(Json::parse(line).at("step"), ++steps);
  EXPECT_EQ(steps, 2);
}

TEST_F(Train, ResumeNeedsNothingButTheFolder) {
  const std::string work = path("work"), plain = path("plain");
  const auto start = [&](const std::string& folder, const std::string& stop) {
    return run({"train", "--config", config_, "--work-dir", folder, "--threads", "1", "--stop-after-step", stop,
                "schedule.lr=0.02"});
  };
  ASSERT_EQ(start(work, "3").code, 0);
  ASSERT_EQ(start(plain, "6").code, 0);
  Ran ran = run({"train", "--resume", work, "--threads", "1"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "at step 3\n");
  EXPECT_HAS(ran.out, "finished: 6 steps");
  EXPECT_TRUE(ran.out.find("configuration differs") == std::string::npos) << ran.out;
  EXPECT_TRUE(CheckpointStore::load(fs::path(work) / "checkpoints/checkpoint_6.safetensors").file.tensors ==
              CheckpointStore::load(fs::path(plain) / "checkpoints/checkpoint_6.safetensors").file.tensors);
  EXPECT_TRUE(fs::exists(fs::path(work) / "finished"));
  // With values behind it, in either form, and with the configuration from the checkpoint alone.
  ran = run({"train", "--work-dir", work, "--resume", "schedule.epochs=4", "--threads", "1"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "schedule.epochs: 3, now 4");
  EXPECT_HAS(ran.out, "finished: 8 steps");
  fs::remove(fs::path(work) / "config.yaml");
  ran = run({"train", "--resume", work, "--threads", "1", "schedule.epochs=5"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "schedule.epochs: 4, now 5");

  const auto refused = [&](const std::vector<std::string>& argv, const std::string& part) {
    const Ran r = run(argv);
    EXPECT_EQ(r.code, 2) << part;
    EXPECT_HAS(r.err, part);
  };
  refused({"train", "--resume", path("wrok")}, "wrok: no such folder; nothing to resume");
  refused({"train", "--work-dir", path("wrok"), "--resume"}, "wrok: no such folder");
  refused({"train", "--resume", (fs::path(work) / "checkpoints/latest").string()},
          "latest: is no folder; name that of the training: " + work);
  refused({"train", "--resume", path("data")}, "holds no training");
  put(path("emptied/config.yaml"), get(fs::path(work) / "config.yaml"));
  refused({"train", "--resume", path("emptied")}, "emptied: holds config.yaml but no checkpoints; nothing to resume");
  refused({"train", "--resume", work, "data.root=m\xfcller"}, "data.root=m\\xfcller': is not UTF-8");
  refused({"train", "--resume", work, "--work-dir", path("other")}, "two folders");
  refused({"train", "--resume"}, "--work-dir is required");
  refused({"train", "--work-dir", path("other")}, "--config is required");
  refused({"train", "--config", config_, "--resume", path("wrok")}, "no such folder");
  EXPECT_FALSE(fs::exists(folder_ / "wrok"));
}

TEST_F(Train, ValuesOutOfRangeEndBeforeAnythingStarts) {
  for (const char* value : {"schedule.epochs=0", "schedule.lr=-1", "train.seed=-1", "model.test.max_per_image=-2",
                            "loader.height=100", "model.pixel_std=[0, 0, 0]"}) {
    const Ran ran = run({"train", "--config", config_, "--work-dir", path("work"), value});
    EXPECT_EQ(ran.code, 2) << value;
    EXPECT_HAS(ran.err, "expected");
  }
  const Ran ran = run({"train", "--config", config_, "--work-dir", path("work"), "--profile-steps", "9:9"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "--profile-steps 9:9: not A:B");
  EXPECT_EQ(run({"train", "--config", config_, "--work-dir", path("work"), "--threads", "-1"}).code, 2);
  EXPECT_EQ(run({"train", "--config", config_, "--work-dir", path("work"), "--threads", "100000"}).code, 2);
  EXPECT_FALSE(fs::exists(folder_ / "work"));
}

TEST_F(Train, AnOlderCheckpointIsNamedByEveryProgram) {
  const std::string work = path("work");
  ASSERT_EQ(run({"train", "--config", config_, "--work-dir", work, "--threads", "1", "--stop-after-step", "4"}).code,
            0);
  const fs::path newest = fs::path(work) / "checkpoints/checkpoint_4.safetensors";
  std::string bytes = get(newest);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 64);
  put(newest, bytes);
  put_tiny_set(folder_ / "data", 1, "test", 4);
  for (const std::vector<std::string>& argv : std::vector<std::vector<std::string>>{
           {"evaluate", "--checkpoint", work, "--threads", "1", "data.test=test"},
           {"detect", "--checkpoint", work, "--input", path("data/JPEGImages"), "--output", path("found")},
           {"inspect", "model", "--weights", work}}) {
    const Ran ran = run(argv);
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_HAS(ran.err, "checkpoint_4.safetensors: damaged");
    EXPECT_HAS(ran.err, "taking the older ");
    EXPECT_HAS(ran.out, "checkpoint_2.safetensors (step 2)");
  }
}

// A box over exactly half of the object, which devkit's wider boxes take for a little more.
TEST_F(Train, ConventionsOfVoc) {
  put_tiny_set(folder_ / "data", 1, "test", 0);
  const std::string found = path("found.json");
  put(found, R"([{"image_id": "tiny_000", "category": "disc", "bbox": [3, 5, 16, 9], "score": 0.9}])");
  for (const auto& [name, ap] :
       std::map<std::string, double>{{"mmdet", 1}, {"devkit", 1}, {"strict", 0}, {"mmdet_legacy", 1}}) {
    const Ran ran = run({"evaluate", "--detections", found, "--config", config_, "--output", path("voc"),
                         "--voc-convention", name, "data.test=test"});
    ASSERT_EQ(ran.code, 0) << ran.err;
    const Json metrics = Json::parse(get(folder_ / "voc/metrics.json"));
    EXPECT_EQ(metrics.at("mAP"), ap) << name;
    EXPECT_EQ(metrics.at("evaluation").value("voc_convention", "mmdet"), name);
  }
  EXPECT_EQ(run({"evaluate", "--detections", found, "--config", config_, "--voc-convention", "coco"}).code, 2);
}

// Weights that come without a configuration: of another system, converted.
TEST_F(Train, PlainWeightsAreEvaluatedWithAConfiguration) {
  const std::string work = path("work");
  ASSERT_EQ(run({"train", "--config", config_, "--work-dir", work, "--threads", "1", "--stop-after-step", "2"}).code,
            0);
  put_tiny_set(folder_ / "data", 2, "test", 4);
  const fs::path ours = fs::path(work) / "checkpoints/checkpoint_2.safetensors";
  SafetensorsFile weights = read_safetensors(ours);
  weights.metadata.clear();
  std::erase_if(weights.tensors, [](const auto& entry) { return entry.first.starts_with("optim."); });
  write_safetensors(folder_ / "weights.safetensors", weights);
  const std::vector<std::string> low{"--threads", "1", "data.test=test", "model.test.score_threshold=0"};
  const auto with = [&](std::vector<std::string> argv) {
    argv.insert(argv.end(), low.begin(), low.end());
    return run(argv);
  };
  Ran ran = with({"evaluate", "--checkpoint", work, "--output", path("a")});
  ASSERT_EQ(ran.code, 0) << ran.err;
  ran = with({"evaluate", "--checkpoint", path("weights.safetensors"), "--config", config_, "--output", path("b")});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "weights.safetensors (weights) on 2 images");
  EXPECT_EQ(get(folder_ / "a/detections.json"), get(folder_ / "b/detections.json"));

  // From detections alone: the same metrics, on images that the network of the configuration would be too small for.
  ran = with({"evaluate", "--detections", path("a/detections.json"), "--config", config_, "--output", path("c"),
              "--bootstrap", "20", "loader.height=32", "loader.width=32"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "mAP@0.5 over 20 samples of these images: standard deviation ");
  Json anew = Json::parse(get(folder_ / "c/metrics.json"));
  EXPECT_EQ(anew.at("bootstrap").at("samples"), 20);
  EXPECT_EQ(anew.at("evaluation").at("detector"), "detections.json");
  anew.erase("bootstrap");
  Json before = Json::parse(get(folder_ / "a/metrics.json"));
  for (Json* metrics : {&anew, &before}) metrics->at("evaluation").erase("detector");
  EXPECT_EQ(anew, before);
  ran = run({"detect", "--checkpoint", path("weights.safetensors"), "--config", config_, "--input",
             path("data/JPEGImages"), "--output", path("found")});
  EXPECT_EQ(ran.code, 0) << ran.err;
  ran = run({"inspect", "model", "--weights", path("weights.safetensors"), "--config", config_});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "matched: ");
  EXPECT_HAS(ran.out, "total, one 64x64 image");

  ran = run({"evaluate", "--checkpoint", path("weights.safetensors")});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "name one with --config");
  ran = run({"evaluate", "--checkpoint", path("weights.safetensors"), "--config", config_, "data.classes=[]"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "data.classes=[..]");
  ran = run({"inspect", "model", "--weights", path("weights.safetensors"), "--config", config_,
             "data.classes=[disc, square]"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.err, "bbox_head.reppoints_cls_out.weight: file (3, 16, 1, 1), model (2, 16, 1, 1)");
  put(folder_ / "resnet.pth", "PK\x03\x04 and so on, as torch.save writes it");
  ran = run({"train", "--config", config_, "--work-dir", path("other"), "train.pretrained=" + path("resnet.pth")});
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.err, "scripts/pth_to_safetensors.py");
}

// All that a picture holds may not fit into the detections that are kept of it.
TEST_F(Train, ReachedLimitsAreSaid) {
  const std::string work = path("work");
  ASSERT_EQ(run({"train", "--config", config_, "--work-dir", work, "--threads", "1", "--stop-after-step", "2"}).code,
            0);
  put_tiny_set(folder_ / "data", 3, "test", 4);
  const auto evaluate = [&](const std::string& kept) {
    return run({"evaluate", "--checkpoint", work, "--threads", "1", "--output", path("out"), "data.test=test",
                "model.test.score_threshold=0", "model.test.max_per_image=" + kept});
  };
  Ran ran = evaluate("2");
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "3 of 3 images reached model.test.max_per_image = 2");
  EXPECT_EQ(Json::parse(get(folder_ / "out/metrics.json")).at("images_at_max_per_image"), 3);
  for (const char* all : {"-1", "0"}) {
    ran = evaluate(all);
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_TRUE(ran.out.find("reached model.test") == std::string::npos) << ran.out;
    EXPECT_EQ(Json::parse(get(folder_ / "out/metrics.json")).at("images_at_max_per_image"), 0);
    EXPECT_HAS(ran.out, "maxDets=100 of an image and class");
  }
}

}  // namespace
}  // namespace gradlibra
