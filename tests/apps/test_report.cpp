// SPDX-License-Identifier: MIT
// report: from a training and its evaluation to a page, as a user does it.
#include "tests/apps/run_programs.h"
#include "tests/engine/report/sound_page.h"

namespace gradlibra {
namespace {

TEST_F(ProgramTest, ReportOfATrainingThatWasEvaluated) {
  put_tiny_set(folder_ / "data", 4);
  put_tiny_set(folder_ / "data", 2, "val", 4);
  put_tiny_set(folder_ / "data", 4, "test", 6);
  const std::string config = write_config(folder_ / "data"), work = path("work");
  ASSERT_EQ(run({"train", "--config", config, "--work-dir", work, "--threads", "1", "data.val=val", "data.test=test",
                 "data.groups={frequent: [disc], rare: [square, bar]}", "train.log_every=2"})
                .code,
            0);
  // Before the evaluation the page says how to get one.
  ASSERT_EQ(run({"report", work}).code, 0);
  expect_sound_page(get(folder_ / "work/report.html"));
  EXPECT_HAS(section_text(get(folder_ / "work/report.html"), "result"), "evaluate --checkpoint " + work);

  ASSERT_EQ(run({"evaluate", "--checkpoint", work, "--output", work + "/test", "--threads", "1",
                 "model.test.score_threshold=0"})
                .code,
            0);
  const Ran ran = run({"report", work, "--output", path("page.html")});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "page.html (");
  const std::string html = get(folder_ / "page.html");
  expect_sound_page(html);
  EXPECT_HAS(section_text(html, "result"), "on 4 pictures of the test split, by checkpoint_6.safetensors (step 6)");
  EXPECT_HAS(section_text(html, "training"), "mAP in per cent on the validation split");
  EXPECT_HAS(section_text(html, "gradients"), "after step 6");
  EXPECT_HAS(section_text(html, "pictures"), "tiny_00");
  EXPECT_HAS(section_text(html, "configuration"), GRADLIBRA_VERSION);
  ASSERT_EQ(run({"report", work, "--output", path("again.html")}).code, 0);
  EXPECT_EQ(get(folder_ / "again.html"), html);
}

TEST_F(ProgramTest, ReportNamesWhatItCannotUse) {
  Ran ran = run({"report", path("nowhere")});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "nowhere: no such folder");
  put(folder_ / "run/log.jsonl", "{\"step\": 1, \"loss\": 2}\n");
  put(folder_ / "run/metrics.json", "{\"mAP\": tru");
  ran = run({"report", path("run")});
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.err, "run/metrics.json: is no JSON: at line 1, column 12");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run/report.html"));
  std::filesystem::remove(folder_ / "run/metrics.json");
  put(folder_ / "run/log.jsonl", "nothing of a log\n");
  ran = run({"report", path("run")});
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.err, "run/log.jsonl: holds no step");
}

}  // namespace
}  // namespace gradlibra
