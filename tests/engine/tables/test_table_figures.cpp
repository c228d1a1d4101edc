// SPDX-License-Identifier: MIT
// Figures 3 and 4 from results and logs, and a table read again from its file.
#include "engine/tables/table_figures.h"

#include <gtest/gtest.h>

#include <regex>

#include <nlohmann/json.hpp>
#include <pugixml.hpp>

#include "engine/tables/table_json.h"
#include "tests/files.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

TEST(TableFigures, Figure4SweepsEachAlphaOverTheLevelOfCrossEntropy) {
  const PaperTable table = paper_table("fig4");
  std::vector<RowResults> rows(table.rows.size());
  for (size_t i = 0; i < rows.size(); ++i)
    rows[i].by_seed = {{1, {{"mAP", 40.0 + static_cast<double>(i)}}}, {2, {{"mAP", 42.0 + static_cast<double>(i)}}}};
  rows[2].by_seed.clear();  // alpha+ 0.4 has failed
  const std::vector<Panel> panels = figure_panels(table, rows, {});
  ASSERT_EQ(panels.size(), 2U);
  EXPECT_EQ(panels[0].series[0].x, (std::vector<double>{0.2, 0.6, 0.8}));
  EXPECT_EQ(panels[0].series[0].y, (std::vector<double>{42, 44, 45}));
  EXPECT_NEAR(panels[0].series[0].spread[0], std::sqrt(2.0), 1e-12);
  EXPECT_EQ(panels[1].series[0].x, (std::vector<double>{0.2, 0.4, 0.6, 0.8}));
  EXPECT_EQ(panels[1].series[1].y, (std::vector<double>{41, 41})) << "cross-entropy";
  EXPECT_TRUE(panels[1].series[1].reference);
  EXPECT_EQ(panels[0].axes.y_range->low, panels[1].axes.y_range->low) << "one axis for both";

  const std::string svg = figure_svg(table, panels);
  pugi::xml_document document;
  EXPECT_TRUE(document.load_string(svg.c_str()));
  for (const char* part : {"Figure 4", "(a) \u03b1\u207a varied alone", "(b) \u03b1\u207b varied alone"})
    EXPECT_HAS(svg, part);
  EXPECT_TRUE(figure_panels(table, std::vector<RowResults>(rows.size()), {}).empty()) << "nothing is there yet";
  EXPECT_EQ(figure_svg(table, {}), "");
  EXPECT_TRUE(figure_panels(paper_table("table1"), rows, {}).empty());
}

TEST(TableFigures, Figure3TakesTheLastRecordOfEachRun) {
  TemporaryFolder folder;
  const PaperTable table = paper_table("fig3");
  std::vector<RowResults> rows(2);
  for (const int64_t seed : {1, 2}) {
    for (size_t i = 0; i < 2; ++i) {
      rows[i].by_seed[seed] = {{"mAP", 40}};
      const double ratio = static_cast<double>(seed) + 10 * static_cast<double>(i);
      std::string text;
      for (const int step : {1, 2}) {
        nlohmann::ordered_json line{{"step", step}, {"loss", 1}};
        line["gradient_ratio"] = {{"a", step == 2 ? ratio : -1}, {"b & <c>", 0.1}};
        line["weight_norm"] = {{"a", 1.0}, {"b & <c>", 0.5}};
        text += line.dump() + "\n";
      }
      put(folder / ("runs/" + table.rows[i].run.name + "/seed_" + std::to_string(seed) + "/log.jsonl"), text);
    }
  }
  rows[0].by_seed[3] = {{"mAP", 40}};  // whose log is gone
  rows[0].by_seed[4] = {{"mAP", 40}};  // whose log is damaged
  put(folder / ("runs/" + table.rows[0].run.name + "/seed_4/log.jsonl"), "");
  const std::vector<RowRecords> records = read_records(folder.path(), table, rows);
  EXPECT_EQ(rows[0].by_seed.size(), 2U);
  EXPECT_HAS(rows[0].missing.at(3), "seed_3/log.jsonl: is not there");
  EXPECT_HAS(rows[0].missing.at(4), "seed_4/log.jsonl");
  EXPECT_TRUE(rows[1].missing.empty());
  const std::vector<Panel> panels = figure_panels(table, rows, records);
  ASSERT_EQ(panels.size(), 2U);
  EXPECT_EQ(panels[0].axes.x_names, (std::vector<std::string>{"a", "b & <c>"}));
  EXPECT_EQ(panels[0].series[0].y, (std::vector<double>{1.5, 0.1}));
  EXPECT_EQ(panels[0].series[1].y, (std::vector<double>{11.5, 0.1}));
  EXPECT_EQ(panels[1].series[0].y, (std::vector<double>{1, 0.5}));
  pugi::xml_document document;
  EXPECT_TRUE(document.load_string(figure_svg(table, panels).c_str()));
  EXPECT_TRUE(figure_panels(table, rows, std::vector<RowRecords>(2)).empty());
}

// Of runs whose logs are elsewhere, a table's file has what Figure 3 draws.
TEST(TableFigures, Figure3TakesFromTheTableWhatNoLogTells) {
  TemporaryFolder folder;
  const PaperTable table = paper_table("fig3");
  std::vector<RowResults> rows(2);
  rows[0].by_seed = {{1, {{"mAP", 40}}}, {2, {{"mAP", 41}}}, {3, {{"mAP", 42}}}, {4, {{"mAP", 43}}}};
  rows[0].of_classes[1] = {{"ratio", {{"ASC_H", 0.5}, {"mites", 2}, {"normal", 4}}}, {"norm", {{"normal", 1}}}};
  rows[0].of_classes[2] = {{"ratio", {{"ASC_H", 9}}}, {"norm", {{"ASC_H", 9}}}};  // and a newer log
  rows[0].of_classes[3] = {{"ratio", {{"HSIL", 3}}}};                             // and a damaged log
  const std::string run = "runs/" + table.rows[0].run.name;
  put(folder / (run + "/seed_2/log.jsonl"),
      "{\"step\": 1, \"loss\": 1, \"gradient_ratio\": {\"normal\": 2.0, \"ASC_H\": 1.5}}\n");
  put(folder / (run + "/seed_3/log.jsonl"), "");
  const std::vector<RowRecords> records = read_records(folder.path(), table, rows);
  EXPECT_EQ(rows[0].by_seed.size(), 3U);
  EXPECT_EQ(rows[0].missing.size(), 1U);
  EXPECT_HAS(rows[0].missing.at(4), "seed_4/log.jsonl: is not there");
  EXPECT_EQ(rows[0].of_classes.at(2), (std::map<std::string, Values>{{"ratio", {{"ASC_H", 1.5}, {"normal", 2}}}}))
      << "the log's alone";
  const std::vector<Panel> panels = figure_panels(table, rows, records);
  ASSERT_EQ(panels.size(), 2U);
  EXPECT_EQ(panels[0].axes.x_names, (std::vector<std::string>{"normal", "ASC_H", "mites", "HSIL"}))
      << "in the paper's order, then others; what only a later seed has comes last";
  EXPECT_EQ(panels[0].series[0].y, (std::vector<double>{3, 1, 2, 3}));
  ASSERT_EQ(panels[1].series.size(), 1U);
  EXPECT_EQ(panels[1].series[0].y, (std::vector<double>{1}));
}

TEST(TableJson, IsReadAsItWasWritten) {
  TemporaryFolder folder;
  const PaperTable table = paper_table("table2");
  std::vector<RowResults> rows(table.rows.size());
  rows[0].by_seed = {{1, {{"mAP", 40.25}}}, {2, {{"mAP", 44}}}};
  rows[1].missing = {{1, "failed: a"}, {2, "not run yet"}};
  const TableMaking made{.configurations = {{"cross_entropy", {{"model.loss.type", "cross_entropy"}, {"a", "1"}}},
                                            {"grad_libra", {{"model.loss.type", "grad_libra"}, {"a", "1"}}}},
                         .lines = {"how"}};
  const std::string text = table_json(table, rows, made);
  put(folder / "table2.json", text);
  const TableFile read = read_table(folder / "table2.json");
  EXPECT_EQ(table_json(read.table, read.rows, read.made), text);
  EXPECT_EQ(read.made.configurations, made.configurations);
  EXPECT_EQ(table_markdown(read.table, read.rows, read.made), table_markdown(table, rows, made));

  PaperTable others = paper_table("table3");
  ASSERT_EQ(others.rows[3].against, 2U);
  std::vector<RowResults> six(others.rows.size());
  six[2].by_seed = {{1, {{"mAP", 50}}}, {2, {{"mAP", 51}}}};
  six[3].by_seed = {{1, {{"mAP", 53}}}, {2, {{"mAP", 52}}}};
  const std::string own = table_json(others, six, made);
  put(folder / "table3.json", own);
  const TableFile again = read_table(folder / "table3.json");
  EXPECT_EQ(table_json(again.table, again.rows, again.made), own);
  EXPECT_HAS(table_markdown(again.table, again.rows, again.made), "| ATSS + Grad-Libra - ATSS | 2 | +2.0 ");
  put(folder / "table3.json", std::regex_replace(own, std::regex("\"baseline\": \"ATSS\""), "\"baseline\": \"SSD\""));
  EXPECT_HAS(message_of([&] { (void)read_table(folder / "table3.json"); }),
             "the baseline 'SSD' is the label of no row");

  const PaperTable figure = paper_table("fig3");
  std::vector<RowResults> two(figure.rows.size());
  two[0].by_seed = {{1, {{"mAP", 50}}}, {2, {{"mAP", 51}}}};
  two[0].of_classes[1] = {{"ratio", {{"SCC", 0.25}, {"normal", 2}}}, {"norm", {{"SCC", 0.75}}}};
  two[0].of_classes[2] = {{"norm", {{"SCC", 1}}}};
  const std::string drawn = table_json(figure, two, made);
  put(folder / "fig3.json", drawn);
  const TableFile of_figure = read_table(folder / "fig3.json");
  EXPECT_EQ(of_figure.rows[0].of_classes, two[0].of_classes);
  EXPECT_EQ(table_json(of_figure.table, of_figure.rows, of_figure.made), drawn);

  put(folder / "table2.json", "{\"table\": \"table2\", \"title\": 5}");
  EXPECT_HAS(message_of([&] { (void)read_table(folder / "table2.json"); }), "table2.json: title: is 5, not text");
  put(folder / "table2.json", "{\"table\": ");
  EXPECT_HAS(message_of([&] { (void)read_table(folder / "table2.json"); }), "table2.json: is no JSON: at line 1");
}

}  // namespace
}  // namespace gradlibra
