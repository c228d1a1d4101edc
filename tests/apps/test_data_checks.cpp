// SPDX-License-Identifier: MIT
// What the programs say about data before they compute anything, and that they mean the same by a policy.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tests/apps/run_programs.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using DataChecks = ProgramTest;

TEST_F(DataChecks, TrainingOnNothingEndsBeforeItBegins) {
  const fs::path root = folder_ / "data";
  put_tiny_set(root, 3);
  for (int i = 0; i < 3; ++i) {
    const TinyImage tiny = tiny_image(i);
    put(root / "Annotations" / (tiny.id + ".xml"),
        voc_xml(tiny.id + ".png", 64, 64, {{"disc", "5,5", "5", "20", "20"}}));
  }
  const std::string config = write_config(root);
  const Ran nothing = run({"train", "--config", config, "--work-dir", path("work")});
  EXPECT_EQ(nothing.code, 1);
  EXPECT_HAS(nothing.out,
             "data: train split: 0 of 3 images (dropped: 3 no_objects), 0 of 3 boxes (dropped: 3 not_finite)");
  EXPECT_HAS(nothing.err, "no box to train on");
  EXPECT_HAS(nothing.err, "a decimal comma?");
  EXPECT_FALSE(fs::exists(folder_ / "work/checkpoints"));
  // One class of three has a box: the configuration's list is what must be there.
  put_tiny(root, tiny_image(6));
  const Ran some = run({"train", "--config", config, "--work-dir", path("work"), "data.missing_class=error"});
  EXPECT_EQ(some.code, 1);
  EXPECT_HAS(some.err, "no usable box of [square, bar]");
  const Ran inspected = run({"inspect", "data", "--config", config, "data.missing_class=error"});
  EXPECT_EQ(inspected.code, 4);
  EXPECT_HAS(inspected.out, "[missing_class, fatal]");
}

TEST_F(DataChecks, EverythingIsCheckedBeforeTheFirstStep) {
  const fs::path root = folder_ / "data";
  put_tiny_set(root, 3);
  put_tiny_set(root, 2, "val", 3);
  put_tiny(root, {"wide", 96, 64, {{"disc", "5", "5", "20", "20"}}}, "val");
  const std::string config = write_config(root);
  const auto train = [&](const std::string& override_) {
    return run(
        {"train", "--config", config, "--work-dir", path("work"), "data.val=val", "train.evaluate_every=1", override_});
  };
  const Ran wide = train("schedule.epochs=1");
  EXPECT_EQ(wide.code, 1);
  EXPECT_HAS(wide.err, "wide.png: is 96 x 64 pixels");
  EXPECT_EQ(wide.out.find("step 1/"), std::string::npos);
  EXPECT_HAS(run({"inspect", "data", "--config", config, "data.val=val"}).out, "[too_large_image, fatal]");
  write_image(root / "JPEGImages/wide.png", plain_image(64, 64));
  put(root / "Annotations/wide.xml", voc_xml("wide.png", 64, 64, {{"disc", "5", "5", "20", "20"}}));

  // A picture that is cut off: found before the first step, and dropped under that policy.
  const std::string whole = get(root / "JPEGImages/tiny_001.png");
  put(root / "JPEGImages/tiny_001.png", whole.substr(0, whole.size() / 2));
  const Ran cut = train("schedule.epochs=1");
  EXPECT_EQ(cut.code, 1);
  EXPECT_HAS(cut.err, "tiny_001.png: is truncated");
  const Ran dropped = train("data.bad_image=drop");
  EXPECT_EQ(dropped.code, 0) << dropped.err;
  EXPECT_HAS(dropped.out, "2 of 3 images (dropped: 1 unreadable_image)");
}

TEST_F(DataChecks, AnEvaluationSaysWhatItIsOver) {
  const fs::path root = folder_ / "data";
  put_tiny_set(root, 3);
  put_tiny_set(root, 2, "test", 3);
  const std::string config = write_config(root);
  ASSERT_EQ(run({"train", "--config", config, "--work-dir", path("work"), "schedule.epochs=1"}).code, 0);
  put(root / "Annotations/tiny_003.xml",
      voc_xml("tiny_003.png", 64, 64, {{"disc", "5,5", "5", "20", "20"}, {"disc", "9", "5", "9", "20"}}));
  const auto evaluate = [&](const std::string& override_) {
    return run({"evaluate", "--checkpoint", path("work"), "--output", path("out"), "data.test=test", override_});
  };
  const Ran refused = evaluate("data.test=test");
  EXPECT_EQ(refused.code, 1);
  EXPECT_HAS(refused.err, "data.bad_truth");
  const Ran missed = evaluate("data.bad_truth=miss");
  EXPECT_EQ(missed.code, 0) << missed.err;
  EXPECT_HAS(missed.out,
             "data: test split: 2 of 2 images, 3 of 3 truths (counted as missed: 1 empty_box, 1 not_finite)");
  EXPECT_EQ(Json::parse(get(folder_ / "out/metrics.json"))["data"]["truths"]["counted_as_missed"]["not_finite"], 1);
  const Ran left_out = evaluate("data.bad_truth=drop");
  EXPECT_HAS(left_out.out, "1 of 3 truths (dropped: 1 empty_box, 1 not_finite)");
  EXPECT_EQ(Json::parse(get(folder_ / "out/metrics.json"))["data"]["truths"]["dropped"]["empty_box"], 1);

  // A folder with pictures of one stem, and what is passed over.
  for (const char* name : {"in/x.png", "in/x.jpg.png", "in/sub/y.png"})
    write_image(folder_ / name, plain_image(64, 64));
  write_image(folder_ / "in/x.jpg", plain_image(64, 64));
  const Ran detected = run({"detect", "--checkpoint", path("work"), "--input", path("in"), "--output", path("found"),
                            "model.test.score_threshold=0"});
  EXPECT_EQ(detected.code, 0) << detected.err;
  EXPECT_HAS(detected.err, "1 picture in subfolders (--recursive takes them)");
  std::set<std::string> ids;
  for (const Json& entry : Json::parse(get(folder_ / "found/detections.json"))) ids.insert(entry["image_id"]);
  EXPECT_EQ(ids, (std::set<std::string>{"x.png", "x.jpg", "x.jpg.png"}));
}

TEST_F(DataChecks, NamesThatAreNotTextAreRefusedWithTheirLine) {
  put_tiny_set(folder_ / "data", 3);
  std::string yaml = get(write_config(folder_ / "data"));
  const size_t at = yaml.find("disc");
  ASSERT_NE(at, std::string::npos);
  yaml.replace(at, 4, "Zelle\xe9");
  put(folder_ / "latin.yaml", yaml);
  const Ran ran = run({"train", "--config", path("latin.yaml"), "--work-dir", path("work")});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "is not UTF-8");
  EXPECT_HAS(ran.err, "line ");
}

TEST_F(DataChecks, SplitsAreMadeAndRead) {
  const fs::path root = folder_ / "data";
  put_tiny_set(root, 12);
  fs::remove_all(root / "ImageSets");
  const std::string config = write_config(root);
  const Ran split = run({"inspect", "split", "--config", config, "--output", root.string(), "--val", "0.25", "--test",
                         "0.25", "data.train=all"});
  ASSERT_EQ(split.code, 0) << split.err;
  EXPECT_HAS(split.out, "ImageSets/Main/val.txt");
  const Ran inspected = run({"inspect", "data", "--config", config, "data.val=val", "data.test=test"});
  EXPECT_EQ(inspected.code, 0) << inspected.out;
  // Also what training would leave out: an evaluation takes it.
  std::string annotation = get(root / "Annotations/tiny_000.xml");
  put(root / "Annotations/tiny_000.xml", annotation.erase(annotation.find("<object>")) + "</annotation>");
  fs::remove_all(root / "ImageSets");
  const Ran whole = run({"inspect", "split", "--config", config, "--output", root.string(), "data.train=all"});
  EXPECT_HAS(whole.out, "12 of 12 images");
  EXPECT_EQ(
      run({"inspect", "split", "--config", config, "--output", root.string(), "--val", "1", "data.train=all"}).code, 2);
}

}  // namespace
}  // namespace gradlibra
