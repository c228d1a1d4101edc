// SPDX-License-Identifier: MIT
#include "engine/tables/table_report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace gradlibra {
namespace {

PaperTable small_table() {
  PaperTable table{.name = "table1", .title = "Table 1: a small one"};
  table.columns = {"SCC", "mAP"};
  table.rows = {{"CE", {"cross_entropy", {"model.loss.type=cross_entropy"}}, {{"mAP", 45.3}}},
                {"Focal", {"focal", {}}, {{"mAP", 49.0}}},
                {"Grad-Libra", {"grad_libra", {}}, {{"mAP", 53.1}}},
                {"new", {"new", {}}, {}}};
  table.note = "A note.";
  return table;
}

std::vector<RowResults> small_results() {
  std::vector<RowResults> rows(4);
  rows[0].by_seed = {{1, {{"mAP", 40}}}, {2, {{"mAP", 44}}}, {3, {{"mAP", 42}}}};
  rows[1].by_seed = {{1, {{"mAP", 46}}}};
  rows[1].missing = {{2, "failed: exit code 3: train: loss | of step 7\nis not a number"}, {3, "not run yet"}};
  rows[2].by_seed = {{1, {{"mAP", 43}, {"SCC", 10}}}, {2, {{"mAP", 45}}}, {3, {{"mAP", 47}}}};
  rows[3].missing = {{1, "not run yet"}};
  return rows;
}

TEST(TableReport, SpreadIsMeanAndSampleDeviationOverSeedsThatHaveTheValue) {
  const auto rows = small_results();
  EXPECT_EQ(spread_of(rows[0], "mAP").count, 3);
  EXPECT_DOUBLE_EQ(spread_of(rows[0], "mAP").mean, 42);
  EXPECT_DOUBLE_EQ(spread_of(rows[0], "mAP").deviation, 2);
  EXPECT_EQ(spread_of(rows[2], "SCC").count, 1);
  EXPECT_EQ(spread_of(rows[2], "SCC").deviation, 0);
  EXPECT_EQ(spread_of(rows[0], "SCC").count, 0);
}

TEST(TableReport, DifferencesArePairedBySeed) {
  const auto rows = small_results();
  // 3, 1, 5: mean 3, deviation 2, so half = 4.303 * 2 / sqrt(3).
  const PairedDifference d = paired_difference(rows[2], rows[0], "mAP");
  EXPECT_EQ(d.count, 3);
  EXPECT_DOUBLE_EQ(d.mean, 3);
  EXPECT_NEAR(d.half, 4.303 * 2 / std::sqrt(3.0), 1e-9);
  const PairedDifference one = paired_difference(rows[1], rows[0], "mAP");
  EXPECT_EQ(one.count, 1);
  EXPECT_DOUBLE_EQ(one.mean, 6);
  EXPECT_TRUE(std::isinf(one.half));
  EXPECT_EQ(paired_difference(rows[2], rows[0], "SCC").count, 0);
}

TEST(TableReport, RankCorrelationIsSpearmans) {
  EXPECT_DOUBLE_EQ(rank_correlation({1, 2, 3, 4}, {10, 20, 25, 90}), 1);
  EXPECT_DOUBLE_EQ(rank_correlation({1, 2, 3, 4}, {4, 3, 2, 1}), -1);
  EXPECT_NEAR(rank_correlation({1, 2, 3, 4}, {2, 1, 4, 3}), 0.6, 1e-12);
  EXPECT_NEAR(rank_correlation({1, 2, 2, 3}, {1, 2, 3, 4}), 3 / std::sqrt(10.0), 1e-12);  // tied: ranks 1, 2.5, 2.5, 4
  EXPECT_TRUE(std::isnan(rank_correlation({1, 2}, {1, 2})));
  EXPECT_TRUE(std::isnan(rank_correlation({1, 1, 1}, {1, 2, 3})));
  EXPECT_THROW(static_cast<void>(rank_correlation({1}, {1, 2})), std::invalid_argument);
}

TEST(TableReport, MarkdownHasOursThePapersAndWhatIsMissing) {
  const std::string text = table_markdown(small_table(), small_results(), {.lines = {"How it was run."}});
  const auto has = [&](const std::string& part) { return text.find(part) != std::string::npos; };
  EXPECT_TRUE(has("# Table 1: a small one\n\nHow it was run.\n"));
  EXPECT_TRUE(has("| CE | 3 | - | 42.0 ± 2.0 (45.3) |")) << text;
  EXPECT_TRUE(has("| Focal | 1 | - | 46.0 (49.0) |")) << text;
  EXPECT_TRUE(has("| new | 0 | - | - |")) << text;
  EXPECT_TRUE(has("| Grad-Libra | 3 | +3.0 (-2.0 to +8.0) |")) << text;
  EXPECT_FALSE(has("| Focal | 1 | +6.0")) << "one seed has no interval";
  EXPECT_TRUE(has("best first: Focal, Grad-Libra, CE. Rank correlation with the paper's order: 0.50.")) << text;
  EXPECT_TRUE(has("- Focal, seed 2: failed: exit code 3: train: loss   of step 7 is not a number\n")) << text;
  EXPECT_TRUE(has("- new, seed 1: not run yet\n"));
  EXPECT_TRUE(has("\nA note.\n"));
}

// On other data their classes stand where the paper's would; of what it printed, only what orders are compared by.
TEST(TableReport, ClassesOfOtherDataHaveColumns) {
  PaperTable papers = small_table();
  papers.rows[0].printed["SCC"] = papers.rows[0].printed["AP_f"] = 6.6;
  papers.columns = {"SCC", "AP_f", "mAP"};
  std::vector<RowResults> rows(4);
  rows[0].by_seed = {{1, {{"Teardrop", 12}, {"Burr cell", 3}, {"AP_f", 20}, {"mAP", 40}, {"detections", 900}}}};
  rows[1].by_seed = {{1, {{"Teardrop", 14}, {"mAP", 50}}}};
  rows[2].by_seed = {{1, {{"mAP", 45}}}};
  const PaperTable table = table_on_data(papers, rows);
  const std::string text = table_markdown(table, rows, {});
  EXPECT_NE(text.find("| method | seeds | Burr cell | Teardrop | AP_f | mAP |\n"), std::string::npos) << text;
  EXPECT_NE(text.find("| CE | 1 | 3.0 | 12.0 | 20.0 | 40.0 (45.3) |\n"), std::string::npos) << text;
  EXPECT_NE(text.find("| Focal | 1 | - | 14.0 | - | 50.0 (49.0) |\n"), std::string::npos) << text;
  EXPECT_NE(text.find("A note. The data's classes are others"), std::string::npos) << text;
  const auto json = nlohmann::json::parse(table_json(table, rows, {}));
  EXPECT_EQ(json["rows"][0]["mean"]["Teardrop"], 12);
  EXPECT_EQ(json["rows"][0]["printed"].size(), 1);
  EXPECT_NE(text.find("Rank correlation with the paper's order: 0.50."), std::string::npos) << text;
}

// A name in common is chance ("normal"): no class of the data may lose its column, nor be compared with the paper's.
TEST(TableReport, OneClassOfThePaperDoesNotMakeThePapersTable) {
  const PaperTable papers = paper_table("table1");
  std::vector<RowResults> rows(papers.rows.size());
  rows[0].by_seed = {{1, {{"normal", 30}, {"abnormal", 20}, {"AP_f", 30}, {"mAP", 25}}}};
  const PaperTable table = table_on_data(papers, rows);
  EXPECT_EQ(table.columns, (std::vector<std::string>{"abnormal", "normal", "AP_f", "AP_c", "AP_r", "mAP"}));
  EXPECT_EQ(classes_without_truth(table, rows), "");
  EXPECT_EQ(table.rows[0].printed, (Values{{"mAP", papers.rows[0].printed.at("mAP")}}));
  EXPECT_NE(table.note.find("The data's classes are others"), std::string::npos) << table.note;

  rows[0].by_seed = {{1, {{"normal", 30}, {"SCC", 20}, {"AP_f", 30}, {"mAP", 25}}}};
  const PaperTable some = table_on_data(papers, rows);
  EXPECT_EQ(some.columns, papers.columns) << "all of its classes are the paper's";
  EXPECT_EQ(some.rows[0].printed, papers.rows[0].printed);
  EXPECT_EQ(some.note, papers.note);
}

TEST(TableReport, AClassWithoutTruthIsNamed) {
  PaperTable table = small_table();
  table.columns = {"SCC", "ASC_H", "mAP"};
  const std::string text = table_markdown(table, small_results(), {});
  EXPECT_NE(text.find("\nWithout truth in the test split, and in no mean: ASC_H.\n"), std::string::npos) << text;
  EXPECT_EQ(table_markdown(table, std::vector<RowResults>(4), {}).find("Without truth"), std::string::npos);
}

TEST(TableReport, ARowMayHaveABaselineOfItsOwn) {
  PaperTable table = small_table();
  table.rows[2].against = 1;
  auto rows = small_results();
  rows[1].by_seed[2] = {{"mAP", 44}};
  const std::string text = table_markdown(table, rows, {});
  EXPECT_NE(text.find("| difference | seeds |"), std::string::npos) << text;
  EXPECT_NE(text.find("| Focal - CE | 2 | +3.0 "), std::string::npos) << text;
  EXPECT_NE(text.find("| Grad-Libra - Focal | 2 | -1.0 "), std::string::npos) << text;
  const auto json = nlohmann::json::parse(table_json(table, rows, {}));
  EXPECT_EQ(json["rows"][2]["baseline"], "Focal");
  EXPECT_NEAR(json["rows"][2]["minus_baseline"]["mAP"]["mean"].get<double>(), -1, 1e-12);
  EXPECT_FALSE(json["rows"][1].contains("baseline"));
}

TEST(TableReport, JsonHasEverySeedAndNullForWhatIsNotThere) {
  const auto json = nlohmann::json::parse(table_json(small_table(), small_results(), {}));
  EXPECT_EQ(json["baseline"], "CE");
  EXPECT_EQ(json["rows"][0]["mean"]["mAP"], 42);
  EXPECT_TRUE(json["rows"][0]["mean"]["SCC"].is_null());
  EXPECT_TRUE(json["rows"][1]["deviation"]["mAP"].is_null());
  EXPECT_EQ(json["rows"][1]["missing"].size(), 2);
  EXPECT_EQ(json["rows"][2]["seeds"][0]["values"]["SCC"], 10);
  EXPECT_NEAR(json["rows"][2]["minus_baseline"]["mAP"]["mean"].get<double>(), 3, 1e-12);
  EXPECT_EQ(json["rows"][2]["printed"]["mAP"], 53.1);
}

}  // namespace
}  // namespace gradlibra
