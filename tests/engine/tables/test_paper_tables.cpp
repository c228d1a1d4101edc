// SPDX-License-Identifier: MIT
// What the paper printed agrees with itself where it should, and each row's configuration file is the row.
#include "engine/tables/paper_tables.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "engine/experiment_config.h"

namespace gradlibra {
namespace {

const std::filesystem::path kConfigs = std::filesystem::path(GRADLIBRA_CONFIGS) / "paper";

std::string resolved(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  ExperimentConfig config;
  ConfigSource(file, overrides).read_into(config);
  return to_yaml(config);
}

TEST(PaperTables, EveryRowOfTable1AveragesToItsPrintedMean) {
  const PaperTable table = paper_table("table1");
  int rows = 0;
  for (const PaperRow& row : table.rows) {
    if (row.printed.empty()) continue;
    ++rows;
    double sum = 0;
    for (size_t c = 0; c < 10; ++c) sum += row.printed.at(table.columns[c]);
    EXPECT_NEAR(sum / 10, row.printed.at("mAP"), 0.051) << row.label;
  }
  EXPECT_EQ(rows, 9);
}

TEST(PaperTables, GroupsOfTable1GiveTheGainsOfTheText) {
  const PaperTable table = paper_table("table1");
  const Values& cross_entropy = table.rows[table.baseline].printed;
  const Values& grad_libra = table.rows[8].printed;
  EXPECT_EQ(table.rows[8].label, "Grad-Libra");
  EXPECT_NEAR(grad_libra.at("AP_f") - cross_entropy.at("AP_f"), 7.3, 0.051);
  EXPECT_NEAR(grad_libra.at("AP_c") - cross_entropy.at("AP_c"), 5.6, 0.051);
  EXPECT_NEAR(grad_libra.at("AP_r") - cross_entropy.at("AP_r"), 8.4, 0.051);
  EXPECT_NEAR(grad_libra.at("mAP") - cross_entropy.at("mAP"), 7.8, 0.051);
}

TEST(PaperTables, GroupsOfTables2And3AverageToTheirMeanButWhereTheNoteSaysOtherwise) {
  const std::set<std::string> contradict{"0.6 / 0.6", "FCOS"};
  for (const char* name : {"table2", "table3"}) {
    for (const PaperRow& row : paper_table(name).rows) {
      if (!row.printed.contains("AP_c") || contradict.contains(row.label)) continue;
      const double mean = (row.printed.at("AP_f") + 2 * row.printed.at("AP_c") + 7 * row.printed.at("AP_r")) / 10;
      EXPECT_NEAR(mean, row.printed.at("mAP"), 0.08) << name << ", " << row.label;
    }
  }
}

TEST(PaperTables, RunsOfOneNameAreTheSameEverywhere) {
  std::map<std::string, std::vector<std::string>> seen;
  for (const std::string& name : paper_table_names()) {
    const PaperTable table = paper_table(name);
    EXPECT_LT(table.baseline, table.rows.size());
    std::set<std::string> in_table;
    for (const PaperRow& row : table.rows) {
      EXPECT_TRUE(in_table.insert(row.run.name).second) << name << ": " << row.run.name << " twice";
      const auto [found, is_new] = seen.emplace(row.run.name, row.run.overrides);
      EXPECT_TRUE(is_new || found->second == row.run.overrides) << row.run.name;
    }
  }
  EXPECT_THROW(static_cast<void>(paper_table("table9")), std::invalid_argument);
}

TEST(PaperTables, EveryRowOfTables1And3HasItsConfigurationFile) {
  for (const char* name : {"table1", "table3"})
    for (const PaperRow& row : paper_table(name).rows) {
      const std::filesystem::path file = kConfigs / (row.run.name + ".yaml");
      ASSERT_TRUE(std::filesystem::exists(file)) << file;
      EXPECT_EQ(resolved(file, {}), resolved(kConfigs / "base.yaml", row.run.overrides)) << file;
    }
}

TEST(PaperTables, EveryRowCanBeReadAtEveryScale) {
  for (const char* scale : {"base.yaml", "small.yaml", "tiny.yaml"})
    for (const std::string& name : paper_table_names())
      for (const PaperRow& row : paper_table(name).rows)
        EXPECT_NO_THROW(resolved(kConfigs / scale, row.run.overrides)) << scale << ", " << row.run.name;
}

}  // namespace
}  // namespace gradlibra
