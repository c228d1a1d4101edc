// SPDX-License-Identifier: MIT
// The programs as a user meets them: exit codes, messages, files; and the whole way from data to detections.
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/work_dir.h"
#include "runtime/base/safetensors.h"
#include "tests/apps/run_programs.h"
#include "tests/apps/start_weights.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

using Help = ProgramTest;

TEST_F(Help, ExplainsTheMainOptions) {
  const std::map<std::string, std::vector<std::string>> expected{
      {"train", {"--config", "--work-dir", "--resume", "--device", "key.path=value", "Exit codes", "Example"}},
      {"evaluate", {"--checkpoint", "--split", "--output", "--device", "Example"}},
      {"detect", {"--checkpoint", "--input", "--output", "--min-score", "detections.json", "Example"}},
      {"synthesize", {"--config", "--output", "PASCAL VOC", "Example"}},
      {"inspect", {"config", "data", "model", "step", "Example"}},
      {"benchmark", {"kernels", "step", "data", "Example"}},
  };
  for (const auto& [program, words] : expected) {
    const Ran help = run({program, "--help"});
    EXPECT_EQ(help.code, 0) << program;
    EXPECT_EQ(help.err, "") << program;
    for (const std::string& word : words) EXPECT_HAS(help.out, word);
    EXPECT_EQ(run({program, "--no-such-option"}).code, 2) << program;
    EXPECT_HAS(run({program, "--version"}).out, "gradlibra ");
  }
  for (const char* command : {"config", "data", "model", "step"}) {
    const Ran help = run({"inspect", command, "--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_HAS(help.out, "--config");
  }
  EXPECT_EQ(run({"inspect"}).code, 2);
}

using Mistakes = ProgramTest;

TEST_F(Mistakes, InTheConfiguration) {
  const std::string config = write_config(folder_ / "data");
  const auto train = [&](const std::string& override_) {
    return run({"train", "--config", config, "--work-dir", path("work"), override_});
  };
  Ran ran = train("schedule.lrr=1");
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "unknown key 'schedule.lrr'; did you mean 'schedule.lr'?");
  ran = train("model.los.type=focal");
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "model.loss");
  ran = train("schedule.lr=fast");
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "schedule.lr: found 'fast', expected a number");
  ran = train("schedule.lr");
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "key.path=value");
  ran = train("model.loss.type=libra");
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "grad_libra");
  put(folder_ / "bad.yaml", "base: tiny.yaml\nloader:\n  batchsize: 4\n");
  ran = run({"train", "--config", path("bad.yaml"), "--work-dir", path("work")});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "bad.yaml");
  EXPECT_HAS(ran.err, "loader.batch_size");
  ran = run({"train", "--config", config});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.out + ran.err, "--work-dir is required");
  EXPECT_EQ(run({"train", "--config", config, "--work-dir", path("work"), "--device", "tpu"}).code, 2);
  EXPECT_FALSE(fs::exists(folder_ / "work"));
}

TEST_F(Mistakes, InValuesThatDoNotFit) {
  put_tiny_set(folder_ / "data", 2);
  const std::string config = write_config(folder_ / "data");
  const auto train = [&](const std::string& override_) {
    return run({"train", "--config", config, "--work-dir", path("work"), override_});
  };
  for (const char* override_ :
       {"loader.width=65", "loader.batch_size=0", "model.pixel_std=[1]", "model.head.norm_groups=5"}) {
    const Ran ran = train(override_);
    EXPECT_EQ(ran.code, 2) << override_ << ": " << ran.err;
    const std::string key = std::string(override_).substr(0, std::string(override_).find('='));
    EXPECT_HAS(ran.err, key.substr(key.rfind('.') + 1));
  }
}

TEST_F(Mistakes, InRangesOfOptions) {
  const auto refused = [&](std::vector<std::string> argv, const std::string& message) {
    const Ran ran = run(std::move(argv));
    EXPECT_EQ(ran.code, 2) << ran.err;
    EXPECT_HAS(ran.err + ran.out, message);
  };
  const std::vector<std::string> detect{"detect", "--checkpoint", "none", "--input", "none", "--output", path("out")};
  for (const char* score : {"50", "nan", "-0.5", "high"}) {
    std::vector<std::string> argv = detect;
    argv.insert(argv.end(), {"--min-score", score});
    refused(argv, std::string("--min-score: ") + score + " is not a number from 0 to 1");
  }
  refused({"train", "--work-dir", path("work"), "--stop-after-step", "-1"},
          "--stop-after-step: -1 is not a number of 0 or more");
  refused({"inspect", "scaling", "--config", "none", "--step-ms", "0"}, "--step-ms: 0 is not a number above 0");
}

TEST_F(Mistakes, AnEmptyPathIsNoPath) {
  const std::string config = write_config(folder_ / "data");
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
           {"inspect", "split", "--config", config, "--val", "0.5", "--output", ""},
           {"evaluate", "--checkpoint", path("work"), "--output", ""},
           {"detect", "--checkpoint", path("work"), "--output", path("out"), "--input", ""},
           {"make-patches", "--slides", "", "--annotations", path("a.csv"), "--output", path("out")}}) {
    const Ran ran = run(command);
    EXPECT_EQ(ran.code, 2) << command[0];
    EXPECT_HAS(ran.err, ": is empty");
  }
}

// The limit's signal would end a program without a word.
TEST_F(Mistakes, AFileSizeLimitIsAnErrorOfEveryProgram) {
  const std::string command = "ulimit -f 1; '" + std::string(GRADLIBRA_PROGRAMS) + "/synthesize' --output '" +
                              path("drawn") + "' synthesize.train=1 synthesize.val=0 synthesize.test=0 2>'" +
                              path("err") + "' >/dev/null";
  const int status = std::system(("bash -c \"" + command + "\"").c_str());
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_HAS(get(folder_ / "err"), "ulimit -f");
}

TEST_F(Mistakes, MissingFilesAreNamed) {
  const auto expect = [&](std::vector<std::string> argv, int code, const std::string& name) {
    const Ran ran = run(std::move(argv));
    EXPECT_EQ(ran.code, code) << ran.err;
    EXPECT_HAS(ran.err, name);
  };
  expect({"train", "--config", path("none.yaml"), "--work-dir", path("work")}, 2, "none.yaml");
  expect({"train", "--config", write_config(folder_ / "none"), "--work-dir", path("work")}, 1, "/none");
  expect({"evaluate", "--checkpoint", path("none.safetensors")}, 1, "none.safetensors");
  expect({"evaluate", "--checkpoint", folder_.string()}, 1, "no checkpoint in this folder");
  put(folder_ / "text.safetensors", "this is no checkpoint at all");
  expect({"detect", "--checkpoint", path("text.safetensors"), "--input", folder_.string(), "--output", path("out")}, 1,
         "holds no .jpg");
  fs::create_directories(folder_ / "in");
  write_image(folder_ / "in/a.png", drawn(tiny_image(0)));
  expect({"detect", "--checkpoint", path("text.safetensors"), "--input", path("in"), "--output", path("out")}, 1,
         "text.safetensors");
  expect({"inspect", "step", "--config", write_config(folder_ / "none"), "--output", path("s")}, 1, "/none");
  EXPECT_FALSE(fs::exists(folder_ / "work"));
}

TEST_F(ProgramTest, FromDataToDetections) {
  put_tiny_set(folder_ / "data", 6);
  put_tiny_set(folder_ / "data", 3, "test", 6);
  const std::string config = write_config(folder_ / "data"), work = path("work");
  const std::vector<std::string> train{"train",    "--config", config,      "--work-dir", work,
                                       "--device", "cpu",      "--threads", "1",          "data.test=test"};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> all = train;
    all.insert(all.end(), more.begin(), more.end());
    return run(all);
  };
  Ran ran = with({"--stop-after-step", "4", "train.log_every=1"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  for (const char* text : {"6 training images", "epoch 1/3  step 1/9", "eta ", "lr ", "loss_cls ", "loss_pts_init ",
                           "grad ", "s/step (data ", "stopped after step 4; continue with --resume"})
    EXPECT_HAS(ran.out, text);
  ran = with({});
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.err, "--resume");
  ran = with({"--resume"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "checkpoint_4.safetensors at step 4");
  EXPECT_HAS(ran.out, "finished: 9 steps");
  EXPECT_TRUE(fs::exists(folder_ / "work/checkpoints/checkpoint_9.safetensors"));

  ran = run({"evaluate", "--checkpoint", work, "--output", path("eval"), "--pictures", "1", "--threads", "1",
             "model.test.score_threshold=0"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(ran.err.starts_with("device: ") && ran.err.find('\n') == ran.err.size() - 1) << ran.err;
  EXPECT_HAS(ran.out, "checkpoint_9.safetensors (step 9) on 3 images of the test split");
  for (const std::string& name : kTinyClasses) EXPECT_HAS(ran.out, name);
  EXPECT_TRUE(Json::parse(get(folder_ / "eval/metrics.json")).is_object());
  EXPECT_HAS(ran.out, get(folder_ / "eval/metrics.txt"));
  EXPECT_TRUE(fs::exists(folder_ / "eval/pictures/tiny_006.png"));
  EXPECT_FALSE(fs::exists(folder_ / "eval/pictures/tiny_007.png"));
  const Json evaluated = Json::parse(get(folder_ / "eval/detections.json"));
  ASSERT_GT(evaluated.size(), 0u);

  // detect on a copy of the test images: the same detections; a broken image is named and the others are done.
  for (int i = 6; i < 9; ++i) {
    const std::string name = tiny_image(i).id + ".png";
    fs::create_directories(folder_ / "images");
    fs::copy_file(folder_ / ("data/JPEGImages/" + name), folder_ / ("images/" + name));
  }
  const std::vector<std::string> detect{
      "detect",   "--checkpoint", work,        "--input", path("images"),
      "--output", path("found"),  "--threads", "1",       "model.test.score_threshold=0"};
  ran = run(detect);
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "3 images");
  EXPECT_EQ(Json::parse(get(folder_ / "found/detections.json")), evaluated);
  for (int i = 6; i < 9; ++i) EXPECT_TRUE(fs::exists(folder_ / ("found/" + tiny_image(i).id + ".png")));

  put(folder_ / "images/broken.jpg", "\xff\xd8\xff\xe0 not much of a picture");
  write_image(folder_ / "images/tiny_006.jpg", drawn(tiny_image(1)));  // of the same name but for the extension
  fs::remove_all(folder_ / "found");
  ran = run(detect);
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.err, "broken.jpg");
  EXPECT_HAS(ran.out, "4 images");
  for (const char* name : {"tiny_006.png.png", "tiny_006.jpg.png", "tiny_007.png", "tiny_008.png"})
    EXPECT_TRUE(fs::exists(folder_ / "found" / name)) << name;

  // One image; and never over the input.
  ran = run({"detect", "--checkpoint", work + "/checkpoints/checkpoint_9.safetensors", "--input",
             path("images/tiny_007.png"), "--output", path("one"), "--threads", "1"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  const std::string before = get(folder_ / "images/tiny_007.png");
  ran = run({"detect", "--checkpoint", work, "--input", path("images"), "--output", path("images")});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "--output");
  EXPECT_EQ(get(folder_ / "images/tiny_007.png"), before);

  ran = run({"evaluate", "--checkpoint", work, "data.root=" + path("elsewhere")});
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.err, "elsewhere");
}

// A full disk under stdout; a pipe that is closed is the reader's wish.
TEST_F(ProgramTest, WhatCannotBePrintedIsNoSuccess) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  put_tiny_set(folder_ / "data", 4);
  const std::string config = write_config(folder_ / "data"), programs = std::string(GRADLIBRA_PROGRAMS) + "/";
  const auto shell = [&](const std::string& line) { return run({"/bin/sh", "-c", programs + line}); };
  const std::vector<std::string> commands{
      "inspect device --device cpu", "inspect config", "inspect data --config " + config, "train --help",
      "train --config " + config + " --threads 1 --device cpu --work-dir " + path("work") + " schedule.epochs=1"};
  for (const std::string& command : commands) {
    const Ran ran = shell(command + " > /dev/full");
    EXPECT_NE(ran.code, 0) << command;
    EXPECT_HAS(ran.err, command.substr(0, command.find(' ')) + ": what was printed could not be written in full");
  }
  EXPECT_TRUE(fs::exists(folder_ / "work/finished")) << "the training itself is whole";
  EXPECT_EQ(shell("inspect device --device cpu > /dev/full 2> /dev/full").code, 1);
  EXPECT_EQ(shell("inspect device --device cpu").code, 0);
  const Ran piped = shell("inspect device --device cpu | true");
  EXPECT_EQ(piped.err.find("could not be written"), std::string::npos) << piped.err;
}

class DetectProgram : public ProgramTest {
 protected:
  DetectProgram() { put_start_weights(folder_, 0); }
  void put_image(const std::string& name, int size = 64) {
    fs::create_directories((folder_ / name).parent_path());
    write_image(folder_ / name, plain_image(size, size));
  }
  [[nodiscard]] std::vector<std::string> detect(std::vector<std::string> more = {}) const {
    std::vector<std::string> argv{"detect",     "--checkpoint",    path("weights.safetensors"),
                                  "--config",   path("tiny.yaml"), "--threads",
                                  "1",          "--device",        "cpu",
                                  "--input",    path("in"),        "--output",
                                  path("found")};
    argv.insert(argv.end(), more.begin(), more.end());
    return argv;
  }
  [[nodiscard]] std::set<std::string> found() const {
    std::set<std::string> ids;
    for (const Json& entry : Json::parse(get(folder_ / "found/detections.json")))
      ids.insert(entry.at("image_id").get<std::string>());
    return ids;
  }
};

TEST_F(DetectProgram, StoppedByASignalItSaysSo) {
  for (int i = 0; i < 600; ++i) put_image(fmt::format("in/picture_{:03}.png", i));
  for (const int number : {SIGTERM, SIGUSR1}) {
    fs::remove_all(folder_ / "found");
    Process process(folder_, detect());
    for (int i = 0; i < 6000 && !fs::exists(folder_ / "found/detections.json"); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    process.send(number);
    const Ran stopped = process.wait();
    EXPECT_EQ(stopped.code, 128 + number) << stopped.out << stopped.err;
    EXPECT_HAS(stopped.out, "of 600 images");
  }
}

TEST_F(DetectProgram, WhatCannotBeDoneIsNamedAndTheOthersAreDone) {
  const std::string longest(251, 'x');
  put_image("in/a.png");
  put_image("in/large.png", 128);
  put_image("in/x.png");
  fs::rename(folder_ / "in/x.png", folder_ / ("in/" + longest + ".png"));  // written, it has a longer one for a while
  put_image("in/z.png");
  fs::create_symlink("nowhere", folder_ / "in/link.png");
  const Ran ran = run(detect());
  EXPECT_EQ(ran.code, 1);
  for (const char* name : {"large.png: is 128 x 128 pixels", "link.png: is a link that leads nowhere",
                           "File name too long; its detections are in detections.json"})
    EXPECT_HAS(ran.err, name);
  EXPECT_HAS(ran.out, "3 images");
  EXPECT_EQ(found(), (std::set<std::string>{"a", longest, "z"}));
  for (const char* name : {"a.png", "z.png"}) EXPECT_TRUE(fs::exists(folder_ / "found" / name)) << name;
}

TEST_F(DetectProgram, ItsOwnDrawingsAreNoPicturesToLookAt) {
  put_image("in/a.png");
  put_image("in/sub/b.png");
  const std::vector<std::string> inside{"--recursive", "--output", path("in/found")};
  std::vector<std::string> argv = detect();
  argv.resize(argv.size() - 2);
  argv.insert(argv.end(), inside.begin(), inside.end());
  for (const char* note : {"", "left out: the folder of --output (found)"}) {
    const Ran ran = run(argv);
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_HAS(ran.out, "2 images");
    EXPECT_HAS(ran.err, note);
  }
  // Pictures of the input's own are none of those, and might be drawn over.
  argv.back() = path("in/sub");
  const Ran refused = run(argv);
  EXPECT_EQ(refused.code, 2);
  EXPECT_HAS(refused.err, "lies inside --input and holds pictures");
}

TEST_F(DetectProgram, PicturesOfOthersAreNotDrawnOver) {
  put_image("in/a.png");
  put_image("found/a.png", 32);
  const std::string there = get(folder_ / "found/a.png");
  const Ran refused = run(detect());
  EXPECT_EQ(refused.code, 2);
  EXPECT_HAS(refused.err, "found/a.png is there, not by an earlier detect");
  EXPECT_EQ(get(folder_ / "found/a.png"), there);
  EXPECT_FALSE(fs::exists(folder_ / "found/detections.json"));
  fs::remove(folder_ / "found/a.png");
  for (int i = 0; i < 2; ++i) EXPECT_EQ(run(detect()).code, 0) << "over its own";
}

TEST_F(DetectProgram, OneAtATimeWritesToAFolder) {
  put_image("in/picture.png");
  const auto owner = std::make_unique<WorkDir>(folder_ / "found");
  const Ran second = run(detect());
  EXPECT_EQ(second.code, 1);
  EXPECT_HAS(second.err, "--output " + path("found") + ": in use by process " + std::to_string(::getpid()));
  EXPECT_FALSE(fs::exists(folder_ / "found/detections.json"));
}

TEST_F(ProgramTest, NonFiniteLossHasItsOwnExitCode) {
  put_tiny_set(folder_ / "data", 4);
  const Ran ran = run({"train", "--config", write_config(folder_ / "data"), "--work-dir", path("work"), "--threads",
                       "1", "schedule.lr=1e25", "optimizer.clip_norm=0"});
  EXPECT_EQ(ran.code, 3);
  EXPECT_HAS(ran.err, "train: ");
  EXPECT_HAS(ran.err, "images: tiny_0");
  std::string dump;
  for (const auto& entry : fs::directory_iterator(folder_ / "work"))
    if (entry.path().extension() == ".safetensors") dump = entry.path().string();
  EXPECT_HAS(ran.err, dump);
  const Ran step = run({"inspect", "step", "--config", path("tiny.yaml"), "--batch", dump, "--threads", "1", "--output",
                        path("step.safetensors")});
  EXPECT_EQ(step.code, 0) << step.err;
  EXPECT_HAS(read_safetensors(folder_ / "step.safetensors").metadata.at("images"), "tiny_0");
}

TEST_F(ProgramTest, SignalsEndTrainingWithACheckpoint) {
  put_tiny_set(folder_ / "data", 4);
  const std::string config = write_config(folder_ / "data");
  for (const auto& [number, code] : {std::pair{SIGINT, 130}, {SIGTERM, 0}, {SIGUSR1, 0}}) {
    const std::string work = path("work" + std::to_string(number));
    Process train(folder_, {"train", "--config", config, "--work-dir", work, "--threads", "1",
                            "schedule.epochs=1000000", "train.checkpoint_every=1000000"});
    const fs::path log = fs::path(work) / "log.jsonl";
    for (int i = 0; i < 30000 && get(log).find('\n') == std::string::npos; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    ASSERT_NE(get(log).find("\n"), std::string::npos) << "no step within a minute";
    train.send(number);
    const Ran ran = train.wait(std::chrono::seconds(30));
    EXPECT_EQ(ran.code, code) << ran.err;
    EXPECT_HAS(ran.out, "continue with --resume");
    int checkpoints = 0;
    for (const auto& entry : fs::directory_iterator(fs::path(work) / "checkpoints"))
      checkpoints += entry.path().extension() == ".safetensors";
    EXPECT_EQ(checkpoints, 1);
    // Every line of the log is whole, and resuming goes on from there.
    std::ifstream lines(log);
    int64_t steps = 0;
    for (std::string line; std::getline(lines, line);) EXPECT_EQ(Json::parse(line).at("step"), ++steps);
    const Ran resumed = run({"train", "--config", config, "--work-dir", work, "--resume", "--stop-after-step",
                             std::to_string(steps), "--threads", "1", "schedule.epochs=1000000"});
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_HAS(resumed.out, "at step " + std::to_string(steps) + "\n");
  }
}

TEST_F(ProgramTest, SynthesizeDrawsTheSameBytes) {
  const std::vector<std::string> values{"synthesize.train=2", "synthesize.val=1", "synthesize.test=1",
                                        "synthesize.size=64", "synthesize.scale=0.5"};
  const auto synthesize = [&](const std::string& output) {
    std::vector<std::string> argv{"synthesize", "--output", path(output)};
    argv.insert(argv.end(), values.begin(), values.end());
    return run(argv);
  };
  EXPECT_EQ(synthesize("a").code, 0);
  EXPECT_EQ(synthesize("b").code, 0);
  EXPECT_EQ(synthesize("b").code, 0);  // there already
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / "a")) {
    if (!entry.is_regular_file()) continue;
    ++files;
    EXPECT_EQ(get(entry.path()), get(folder_ / "b" / fs::relative(entry.path(), folder_ / "a").string()))
        << entry.path();
  }
  EXPECT_GE(files, 2 * 4 + 3);
  const Ran ran = run({"synthesize", "--output", path("b"), "synthesize.train=3", "synthesize.size=64"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.err, "/b");
  const Ran data =
      run({"inspect", "data", "data.root=" + path("a"), "data.missing_class=allow",
           "data.classes=[inflammation, normal, HSIL, atrophy, bare_nucleus, SCC, trichomonad, LSIL, ASC_US, ASC_H]"});
  EXPECT_EQ(data.code, 0) << data.out;
}

}  // namespace
}  // namespace gradlibra
