// SPDX-License-Identifier: MIT
// report: from a training and its evaluation to a page, as a user does it.
#include <filesystem>

#include "engine/tables/table_report.h"
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
  // Its own input is not written over.
  ran = run({"report", path("run"), "--output", path("run/log.jsonl")});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "run/log.jsonl: is there and is no page (.html)");
  EXPECT_EQ(get(folder_ / "run/log.jsonl"), "{\"step\": 1, \"loss\": 2}\n");
  put(folder_ / "run/log.jsonl", "nothing of a log\n");
  ran = run({"report", path("run")});
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.err, "run/log.jsonl: holds no step");
}

TEST_F(ProgramTest, ReportOfAnExperimentLosesOneDamagedRunAlone) {
  const PaperTable table{.name = "table1",
                         .title = "Table 1: a small one",
                         .columns = {"mAP"},
                         .rows = {{"CE", {"cross_entropy", {}}, {{"mAP", 45.3}}}}};
  std::vector<RowResults> rows(1);
  const std::filesystem::path out = folder_ / "out", runs = out / "runs/cross_entropy";
  const std::string log = "{\"step\": 1, \"loss\": 2}\n{\"step\": 2, \"loss\": 1}\n";
  const std::string metrics =
      R"({"mAP": 0.5, "mAP_11_point": 0.5, "mean_recall": 0.5, "groups": {}, "coco": {}, "classes": [{"name": "bar",
          "group": null, "AP": 0.5, "AP_11_point": 0.5, "recall": 0.5, "ground_truths": 2, "detections": 2}]})";
  for (const int64_t seed : {1, 2, 3}) {
    rows[0].by_seed[seed] = {{"mAP", 40.0 + static_cast<double>(seed)}};
    const std::string name = "seed_" + std::to_string(seed);
    put(runs / name / "log.jsonl", seed == 2 ? "<nothing> of a log\n" : log);
    put(runs / name / "metrics.json", seed == 3 ? "{\"mAP\": tru" : metrics);
  }
  put(out / "table1.json", table_json(table, rows, {}));
  const std::string bad_log = "seed_2/log.jsonl: holds no step",
                    bad_metrics = "seed_3/metrics.json: is no JSON: at line";

  Ran ran = run({"report", out.string(), "--runs"});
  EXPECT_EQ(ran.code, 1);
  for (const std::string& bad : {bad_log, bad_metrics}) EXPECT_HAS(ran.err, bad);
  EXPECT_EQ(ran.err.find(bad_log), ran.err.rfind(bad_log)) << "said once: " << ran.err;
  EXPECT_TRUE(std::filesystem::exists(runs / "seed_1/report.html"));
  EXPECT_FALSE(std::filesystem::exists(runs / "seed_2/report.html"));
  EXPECT_FALSE(std::filesystem::exists(runs / "seed_3/report.html"));
  ASSERT_TRUE(std::filesystem::exists(out / "report.html")) << ran.err;
  std::string html = get(out / "report.html");
  expect_sound_page(html);
  EXPECT_HAS(html, "<a href=\"runs/cross_entropy/seed_1/report.html\">seed 1</a>");
  for (const std::string& part : {bad_log, bad_metrics, std::string("Loss of CE by seed"), std::string("2 seeds.")})
    EXPECT_HAS(section_text(html, "runs"), part);
  EXPECT_HAS(section_text(html, "table1"), "42.0");

  ran = run({"report", out.string()});
  EXPECT_EQ(ran.code, 1) << "a log is read for the page itself";
  EXPECT_HAS(ran.err, bad_log);
  EXPECT_HAS(section_text(get(out / "report.html"), "runs"), bad_log);
  put(runs / "seed_2/log.jsonl", log);
  ran = run({"report", out.string()});
  EXPECT_EQ(ran.code, 0) << ran.err;
  html = get(out / "report.html");
  EXPECT_EQ(section_text(html, "runs").find("Damaged"), std::string::npos);

  // What is wrong on the command line is no run's damage.
  ran = run({"report", out.string(), "--runs", "data.roots=/other"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "data.roots");
  EXPECT_EQ(get(out / "report.html"), html);
}

}  // namespace
}  // namespace gradlibra
