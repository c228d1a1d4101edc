// SPDX-License-Identifier: MIT
// Pages of a training and of an experiment: whole, partly there, and damaged.
#include "engine/report/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/evaluation.h"
#include "engine/read_split.h"
#include "engine/report/experiment_page.h"
#include "engine/report/gallery.h"
#include "engine/report/html.h"
#include "engine/report/run_files.h"
#include "engine/tables/table_report.h"
#include "tests/engine/report/sound_page.h"
#include "tests/engine/tiny_experiment.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

const std::string kNasty = "<b>&\"x\"";

TEST(Html, Base64OfEveryRemainder) {  // RFC 4648, section 10
  EXPECT_EQ(html::base64(""), "");
  EXPECT_EQ(html::base64("f"), "Zg==");
  EXPECT_EQ(html::base64("fo"), "Zm8=");
  EXPECT_EQ(html::base64("foo"), "Zm9v");
  EXPECT_EQ(html::base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(html::base64("\xff\xfe\xfd"), "//79");
}

TEST(Html, NothingOfAUserIsMarkup) {
  EXPECT_EQ(html::text(kNasty), "&lt;b&gt;&amp;&quot;x&quot;");
  EXPECT_EQ(html::with_code("a `b<` c & `d"), "a <code>b&lt;</code> c &amp; d");
  html::Page page{.kind = kNasty, .title = kNasty, .lead = "", .sections = {{.id = "a", .title = kNasty}}, .foot = ""};
  expect_sound_page(html::page(page));
}

Detection found(float x1, float y1, float x2, float y2, int label, double score) {
  return {{x1, y1, x2, y2}, label, score};
}

TEST(Gallery, JudgesByThePairsOfTheConfusionMatrix) {
  const std::vector<Object> truths{{.box = {0, 0, 10, 10}, .label = 0},
                                   {.box = {20, 0, 30, 10}, .label = 1},
                                   {.box = {40, 0, 50, 10}, .label = 1},
                                   {.box = {60, 0, 70, 10}, .label = 1, .difficult = true}};
  const std::vector<Detection> detections{found(0, 0, 10, 10, 0, 0.9),     // right
                                          found(20, 0, 30, 9, 0, 0.8),     // another class
                                          found(0, 0, 10, 9, 0, 0.7),      // found already
                                          found(60, 0, 70, 10, 1, 0.9),    // on what does not count
                                          found(40, 0, 50, 10, 1, 0.29)};  // not sure enough
  const Judgement judged = judge(3, truths, detections, {});
  EXPECT_EQ(judged.right, 1);
  EXPECT_EQ(judged.other, 1);
  EXPECT_EQ(judged.nothing, 1);
  EXPECT_EQ(judged.missed, 1);
  EXPECT_DOUBLE_EQ(judged.quality(), 0.25);
  EXPECT_DOUBLE_EQ(judge(0, {}, {}, {}).quality(), 1);
}

TEST(Gallery, NoPictureIsAmongBothAndNoneWithoutErrorAmongTheWorst) {
  Dataset dataset;
  dataset.classes = {"a"};
  Detections detections;
  for (int i = 0; i < 6; ++i) {  // i truths, of which two are found at most; nothing else
    ImageRecord& image = dataset.images.emplace_back();
    std::vector<Detection>& here = detections.emplace_back();
    for (int k = 0; k < i; ++k) {
      const auto x = static_cast<float>(20 * k);
      image.objects.push_back({.box = {x, 0, x + 10, 10}});
      if (k < 2) here.push_back(found(x, 0, x + 10, 10, 0, 0.9));
    }
  }
  const Choice few = choose_pictures(dataset, detections, {}, 2);
  EXPECT_EQ(few.best, (std::vector<size_t>{2, 1})) << "both without error, more right ones first";
  EXPECT_EQ(few.worst, (std::vector<size_t>{5, 4}));
  const Choice all = choose_pictures(dataset, detections, {}, 100);
  EXPECT_EQ(all.best, (std::vector<size_t>{2, 1, 3})) << "half of them at most, none without anything right";
  EXPECT_EQ(all.worst, (std::vector<size_t>{5, 4}));
}

// A training's folder and its evaluation, put there by hand.
class RunReport : public ::testing::Test {
 protected:
  RunReport() : config_(tiny_config(folder_ / "data")) {
    config_.data.classes = {kNasty, "square", "bar"};
    config_.data.groups = {{"frequent", {kNasty}}, {"rare", {"square", "bar"}}};
    config_.data.test = "test";
    for (int i = 0; i < 6; ++i) {
      TinyImage image = tiny_image(i);
      if (image.objects[0].name == kTinyClasses[0]) image.objects[0].name = "&lt;b&gt;&amp;&quot;x&quot;";
      put_tiny(folder_ / "data", image, "test");
    }
  }
  void put_config() { put(folder_ / "run/config.yaml", to_yaml(config_)); }
  void put_log(bool classes = true) {
    std::string text;
    for (int step = 1; step <= 60; ++step) {
      Json line{{"step", step}, {"lr", 0.01}, {"loss", 2.0 / step}, {"loss_cls", 1.0 / step}, {"grad_norm", 3}};
      line["step_seconds"] = 0.5;
      if (classes && step % 20 == 0)
        for (const char* key :
             {"gradient_ratio", "gradient_ratio_ce", "gradient_hard_positive", "gradient_hard_negative", "weight_norm"})
          line[key] = {{kNasty, 0.5}, {"square", 0.01}, {"bar", 1.0}};
      text += line.dump() + "\n";
      if (step % 20 == 0) text += Json{{"epoch", step / 20}, {"step", step}, {"val_map50", 0.3}}.dump() + "\n";
    }
    put(folder_ / "run/log.jsonl", text + "{\"step\": 61, \"lo");
  }
  // Every second object found; detections.json and metrics.json as `evaluate` writes them.
  void put_evaluation() {
    const Dataset dataset = read_evaluation_split(config_, Split::test, [](const std::string&) {});
    Detections detections(dataset.images.size());
    for (size_t i = 0; i < detections.size(); i += 2)
      for (const Object& object : dataset.images[i].objects) detections[i].push_back({object.box, object.label, 0.9});
    put(folder_ / "run/test/detections.json", coco_results_json(dataset, detections));
    Json json = Json::parse(metrics_json(dataset, voc_metrics(dataset, detections), coco_metrics(dataset, detections)));
    json["evaluation"] = {{"split", "test"}, {"images", 6}, {"detector", kNasty}, {"version", "0.1"}};
    put(folder_ / "run/test/metrics.json", json.dump(1));
  }
  [[nodiscard]] std::string page(int pictures = 2) const {
    return run_page({.folder = folder_ / "run", .evaluation = {}, .split = "", .pictures = pictures, .overrides = {}});
  }
  // What the page says once `from` in metrics.json has become `to`.
  std::string damaged(const std::string& from, const std::string& to) {
    put_evaluation();
    std::string text = get(folder_ / "run/test/metrics.json");
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    put(folder_ / "run/test/metrics.json", text.replace(at, from.size(), to));
    return message_of([&] { (void)page(); });
  }

  TemporaryFolder folder_;
  ExperimentConfig config_;
};

TEST_F(RunReport, OfEverythingIsSoundAndTheSameBytesEachTime) {
  put_config();
  put_log();
  put_evaluation();
  const std::string html = page();
  expect_sound_page(html);
  EXPECT_EQ(html, page());
  EXPECT_EQ(html.find("class=\"missing\""), std::string::npos) << "nothing is missing";
  EXPECT_EQ(html.find(kNasty), std::string::npos);
  EXPECT_HAS(section_text(html, "result"), "In per cent, on 6 pictures of the test split, by " + kNasty);
  EXPECT_HAS(section_text(html, "result"), "mean, frequent");
  EXPECT_HAS(section_text(html, "precision"), kNasty);
  EXPECT_HAS(section_text(html, "confusion"), "nothing there");
  EXPECT_HAS(section_text(html, "calibration"), "frequent");
  EXPECT_HAS(section_text(html, "pictures"), "1 right");
  EXPECT_HAS(section_text(html, "pictures"), "1 missed");
  EXPECT_HAS(section_text(html, "pictures"), kNasty + " 0.90: right");
  EXPECT_HAS(section_text(html, "training"), "the first of them line 64");
  EXPECT_HAS(section_text(html, "gradients"), "after step 60");
  EXPECT_HAS(section_text(html, "configuration"), "schedule.epochs");
  EXPECT_HAS(section_text(html, "configuration"), "0.1");
  size_t pictures = 0;
  for (size_t at = 0; (at = html.find("data:image/jpeg;base64,", at)) != std::string::npos; ++at) ++pictures;
  EXPECT_EQ(pictures, 4U);
  EXPECT_HAS(section_text(page(0), "pictures"), "--pictures 0");
}

TEST_F(RunReport, SaysWhatToRunForWhatIsMissing) {
  put_config();
  std::string html = page();
  expect_sound_page(html);
  EXPECT_HAS(section_text(html, "result"), "evaluate --checkpoint " + (folder_ / "run").string());
  EXPECT_HAS(section_text(html, "training"), "train --config");
  put_log(/*classes=*/false);
  html = page();
  expect_sound_page(html);
  EXPECT_HAS(section_text(html, "gradients"), "train.class_gradients=true");
  // Pictures that have moved, then no detections.
  put_evaluation();
  fs::rename(folder_ / "data", folder_ / "elsewhere");
  EXPECT_HAS(section_text(page(), "pictures"), "data.root=PATH");
  fs::rename(folder_ / "elsewhere", folder_ / "data");
  // A picture whose pixels are damaged, then one that is gone.
  const fs::path picture = folder_ / "data/JPEGImages/tiny_000.png";
  const std::string whole = get(picture);
  put(picture, whole.substr(0, whole.size() / 2));
  html = page(100);
  expect_sound_page(html);
  EXPECT_HAS(section_text(html, "pictures"), "tiny_000.png");
  EXPECT_HAS(section_text(html, "pictures"), "tiny_002");
  fs::remove(picture);
  html = page();
  expect_sound_page(html);
  EXPECT_HAS(section_text(html, "pictures"), "The test split cannot be read: ");
  EXPECT_HAS(section_text(html, "pictures"), "no image for id 'tiny_000'");
  put(picture, whole);
  fs::remove(folder_ / "run/test/detections.json");
  EXPECT_HAS(section_text(page(), "pictures"), "no detections.json");
  // metrics.json of an older version stays readable.
  Json old = Json::parse(get(folder_ / "run/test/metrics.json"));
  for (const char* key : {"confusion", "calibration", "evaluation"}) old.erase(key);
  for (auto& one : old["classes"]) one.erase("precision_recall");
  put(folder_ / "run/test/metrics.json", old.dump());
  html = page();
  expect_sound_page(html);
  for (const char* id : {"precision", "confusion", "calibration"})
    EXPECT_HAS(section_text(html, id), "evaluate --detections");
}

TEST_F(RunReport, NamesFileAndPlaceOfWhatIsDamaged) {
  put_config();
  put_log();
  expect_mentions(damaged("\"mAP\"", "\"map\""), {"metrics.json: mAP: is not there"});
  expect_mentions(damaged("\"recall\": 0", "\"recall\": \"x"), {"metrics.json: is no JSON: at line"});
  expect_mentions(damaged("\"ground_truths\": 2", "\"ground_truths\": -2"),
                  {"metrics.json: classes[0].ground_truths: is -2"});
  expect_mentions(damaged("\"min_score\": 0.3", "\"min_score\": \"<0.3>\""),
                  {"metrics.json: confusion.min_score: is text, not a number"});
  expect_mentions(damaged("\"background\"", "\"background\", \"more\""),
                  {"metrics.json: confusion.counts: has 4 rows for 5 names"});
  put_evaluation();
  put(folder_ / "run/test/detections.json", "[{\"image_id\": \"other\", \"category\": \"bar\"}]");
  expect_mentions(message_of([&] { (void)page(); }),
                  {"detections.json", "entry 0", "other", "--split", "--pictures 0"});
  put(folder_ / "run/config.yaml", "schedule:\n  epochz: 3\n");
  expect_mentions(message_of([&] { (void)page(); }), {"config.yaml", "epochz"});
}

TEST_F(RunReport, FindsTheEvaluationOrAsksWhich) {
  put_config();
  put_evaluation();
  EXPECT_EQ(read_run(folder_ / "run", {}, {}).evaluation, folder_ / "run/test");
  fs::copy(folder_ / "run/test", folder_ / "run/val");
  expect_mentions(message_of<std::invalid_argument>([&] { (void)read_run(folder_ / "run", {}, {}); }),
                  {"--evaluation", "run/test", "run/val"});
  EXPECT_EQ(read_run(folder_ / "run", folder_ / "run/val", {}).evaluation, folder_ / "run/val");
  expect_mentions(message_of([&] { (void)read_run(folder_ / "run", folder_ / "none", {}); }), {"none", "metrics.json"});
}

TEST_F(RunReport, RefusesWhatIsNeitherATrainingNorAnExperiment) {
  const auto nothing = [](const std::string&) {};
  ReportOptions options;
  options.run.folder = folder_ / "nowhere";
  EXPECT_HAS(message_of<std::invalid_argument>([&] { write_report(options, nothing, nothing); }), "no such folder");
  options.run.folder = folder_ / "data";
  EXPECT_HAS(message_of<std::invalid_argument>([&] { write_report(options, nothing, nothing); }), "neither a training");
  put_config();
  options.run.folder = folder_ / "run";
  options.runs = true;
  EXPECT_HAS(message_of<std::invalid_argument>([&] { write_report(options, nothing, nothing); }), "--runs");
}

PaperTable nasty_table() {
  PaperTable table{
      .name = "table1", .title = "Table 1: " + kNasty, .columns = {"SCC", "AP_f", "mAP"}, .note = "A note."};
  table.rows = {{"CE", {"ce", {"a=" + kNasty}}, {{"mAP", 45.3}}}, {kNasty, {"nasty", {}}, {{"mAP", 49}}}};
  return table;
}

TEST_F(RunReport, OfAnExperimentHasItsTablesAndRuns) {
  std::vector<RowResults> rows(2);
  rows[0].by_seed = {{1, {{"mAP", 40}, {"AP_f", 60}}}, {2, {{"mAP", 44}, {"AP_f", 61}}}};
  rows[1].by_seed = {{1, {{"mAP", 46}, {"SCC", 3}}}};
  rows[1].missing = {{2, "failed: " + kNasty}};
  const fs::path out = folder_ / "out";
  put(out / "table1.json", table_json(nasty_table(), rows, {.lines = {"How `it` was run."}}));
  put_log();
  put_config();
  put_evaluation();
  put(out / "runs/ce/seed_1/log.jsonl", get(folder_ / "run/log.jsonl"));
  put(out / "runs/ce/seed_1/metrics.json", get(folder_ / "run/test/metrics.json"));
  put(out / "runs/ce/seed_1/run.yaml", get(folder_ / "run/config.yaml"));
  std::vector<std::string> said;
  ReportOptions options;
  options.run.folder = out;
  options.runs = true;
  const auto say = [&](const std::string& line) { said.push_back(line); };
  write_report(options, say, say);
  ASSERT_EQ(said.size(), 2U);
  expect_sound_page(get(out / "runs/ce/seed_1/report.html"));
  const std::string html = get(out / "report.html");
  expect_sound_page(html);
  EXPECT_EQ(html.find(kNasty), std::string::npos);
  const std::string table = section_text(html, "table1");
  for (const char* part : {"How it was run.", "42.0", "±2.8", "(45.3)", "46.0", "seed 2: failed: <b>", "A note."})
    EXPECT_HAS(table, part);
  EXPECT_HAS(section_text(html, "runs"), "a=" + kNasty);
  EXPECT_HAS(html, "<a href=\"runs/ce/seed_1/report.html\">seed 1</a>");

  std::set<std::string> damaged;
  std::string text = get(out / "table1.json");
  put(out / "table1.json", text.replace(text.find("\"CE\""), 4, "\"C\""));
  expect_mentions(message_of([&] { (void)experiment_page(out, damaged); }),
                  {"table1.json: baseline: 'C' is the label of no row"});
  fs::remove(out / "table1.json");
  EXPECT_HAS(message_of([&] { (void)experiment_page(out, damaged); }), "--only-tables");
}

// Tables without the runs behind them, as they are kept or sent.
TEST_F(RunReport, OfTablesAloneDrawsFigure3) {
  std::vector<RowResults> rows(2);
  for (const int64_t seed : {1, 2}) {
    rows[0].by_seed[seed] = {{"mAP", 40.0 + static_cast<double>(seed)}, {"AP_f", 60}};
    rows[0].of_classes[seed] = {{"ratio", {{"SCC", 0.25}, {"normal", 2}}}, {"norm", {{"SCC", 0.75}, {"normal", 1}}}};
  }
  rows[1].by_seed = {{1, {{"mAP", 50}}}};
  const fs::path out = folder_ / "out";
  put(out / "fig3.json", table_json(paper_table("fig3"), rows, {}));
  ReportOptions options;
  options.run.folder = out;
  const auto nothing = [](const std::string&) {};
  write_report(options, nothing, nothing);
  const std::string html = get(out / "report.html");
  expect_sound_page(html);
  const std::string section = section_text(html, "fig3");
  for (const char* part : {"(a) cumulative gradient ratio", "normal 2, SCC 0.25", "41.5", "\u00b10.7"})
    EXPECT_HAS(section, part);
  EXPECT_EQ(section.find("seed 2: "), std::string::npos) << "nothing of the first row is missing";
  EXPECT_HAS(section, "Grad-Libra, seed 1: " + (out / "runs").string());
}

}  // namespace
}  // namespace gradlibra
