// SPDX-License-Identifier: MIT
#include "engine/tables/other_results.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/files.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

using Files = std::vector<std::filesystem::path>;

// Table 2 of three runs with the seeds 1 and 2.
class OtherResultsTest : public ::testing::Test {
 protected:
  OtherResultsTest() {
    for (size_t i = 0; i < 3; ++i)
      for (const int64_t seed : {1, 2})
        rows_[i].by_seed[seed] = {{"mAP", 10.0 * static_cast<double>(i) + static_cast<double>(seed)}};
    rows_[3].missing = {{1, "not run yet"}};
    for (const PaperRow& row : table_.rows) here_.configurations[row.run.name] = deciding_keys(ExperimentConfig{});
  }
  std::filesystem::path write(const std::string& name, const TableMaking& made) {
    std::filesystem::create_directories((folder_ / name).parent_path());
    put(folder_ / name, table_json(table_, rows_, made));
    return folder_ / name;
  }
  [[nodiscard]] const PaperRun& run(size_t row) const { return table_.rows[row].run; }

  TemporaryFolder folder_;
  PaperTable table_ = paper_table("table2");
  std::vector<RowResults> rows_ = std::vector<RowResults>(4);
  TableMaking here_{.configurations = {}, .lines = {"Scale small."}};
};

TEST_F(OtherResultsTest, AreFoundByRunAndSeed) {
  const OtherResults others({write("a/table2.json", here_)}, here_);
  EXPECT_EQ(others.find(run(0), 2)->at("mAP"), 2);
  EXPECT_EQ(others.find(run(2), 1)->at("mAP"), 21);
  EXPECT_EQ(others.find(run(0), 3), nullptr);
  EXPECT_EQ(others.find(run(3), 1), nullptr) << "missing there as well";
  EXPECT_EQ(
      others.how({{run(0).name, 1}, {run(0).name, 2}, {run(2).name, 1}}),
      (std::vector<std::string>{"Made elsewhere (a/table2.json): 2 rows of seed 1, 1 row of seed 2. Scale small."}));
  EXPECT_TRUE(others.warnings({{run(0).name, 1}}).empty());
}

TEST_F(OtherResultsTest, ARunThatTwoFilesHaveCountsOnce) {
  const Files files{write("a/table2.json", here_), write("b/table2.json", here_)};
  const OtherResults others(files, here_);
  EXPECT_EQ(others.find(run(1), 1)->at("mAP"), 11);
  EXPECT_EQ(others.how({{run(1).name, 1}}).size(), 1U);
  EXPECT_TRUE(others.warnings({{run(1).name, 1}}).empty());
}

// What nobody asks for is no reason to stop.
TEST_F(OtherResultsTest, TwoThatDifferAreAnErrorWhereTheyAreAskedFor) {
  const auto first = write("a/table2.json", here_);
  rows_[1].by_seed[2]["mAP"] = 99;
  const OtherResults others({first, write("b/table2.json", here_)}, here_);
  EXPECT_EQ(others.find(run(1), 1)->at("mAP"), 11);
  const std::string message = message_of([&] { (void)others.find(run(1), 2); });
  EXPECT_HAS(message, "b/table2.json differ in the result of " + run(1).name + ", seed 2");
}

TEST_F(OtherResultsTest, RunsMadeDifferentlyAreRefused) {
  TableMaking slower = here_;
  slower.configurations[run(0).name]["schedule.lr"] = "0.01";
  const OtherResults others({write("slower/table2.json", slower)}, here_);
  EXPECT_EQ(others.find(run(1), 1)->at("mAP"), 11) << "a run of the same configuration";
  EXPECT_HAS(message_of([&] { (void)others.find(run(0), 1); }),
             "its cross_entropy was run with another configuration (schedule.lr differ)");

  PaperRun changed = run(1);
  changed.overrides.emplace_back("model.loss.gamma=1");
  EXPECT_HAS(message_of([&] { (void)others.find(changed, 1); }), "model.loss.gamma=1' here");
}

// A key that another version did not have is at its default there, and so it must be here.
TEST_F(OtherResultsTest, KeysThatHaveComeToBeSinceAreAtTheirDefaults) {
  TableMaking older = here_;
  for (auto& [name, keys] : older.configurations) keys.erase("train.average_decay");
  const auto file = write("older/table2.json", older);
  EXPECT_NE(OtherResults({file}, here_).find(run(0), 1), nullptr);
  here_.configurations[run(0).name]["train.average_decay"] = "0.999";
  const OtherResults others({file}, here_);
  EXPECT_HAS(message_of([&] { (void)others.find(run(0), 1); }), "(train.average_decay differ)");
}

TEST_F(OtherResultsTest, WhatAFileCannotSayIsWarnedOf) {
  const OtherResults others({write("old/table2.json", {}), write("new/table2.json", here_)}, here_);
  EXPECT_EQ(others.find(run(0), 1)->at("mAP"), 1) << "taken as made like here";
  EXPECT_FALSE(others.is_known(run(0).name, 1));
  const auto warnings = others.warnings({{run(0).name, 1}});
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_HAS(warnings[0], "old/table2.json: does not say with which configuration");
  const auto unused = others.warnings({});
  ASSERT_EQ(unused.size(), 2U);
  EXPECT_HAS(unused[1], "new/table2.json: has nothing to take");
}

TEST(RunConfiguration, LeavesOutWhatDecidesNothing) {
  ExperimentConfig config;
  const ConfigKeys plain = deciding_keys(config);
  EXPECT_EQ(plain.at("schedule.steps").find('#'), std::string::npos) << plain.at("schedule.steps");
  config.train.seed = 7;
  config.train.pretrained = "/elsewhere/resnet50.safetensors";
  config.data.root = "/elsewhere";
  config.runtime.precision = "bf16";
  config.loader.workers = 9;
  EXPECT_EQ(difference(plain, deciding_keys(config)), "");
  config.schedule.lr = 0.5;
  config.loader.batch_size = 3;
  EXPECT_EQ(difference(plain, deciding_keys(config)), "loader.batch_size, schedule.lr");
}

TEST_F(OtherResultsTest, FilesThatAreNoTablesAreNamed) {
  put(folder_ / "metrics.json", R"({"mAP": 0.3})");
  EXPECT_HAS(message_of([&] { OtherResults({folder_ / "metrics.json"}, here_); }),
             "--results: not a table that experiment wrote: " + (folder_ / "metrics.json").string());
  put(folder_ / "table2.md", "# Table 2");
  EXPECT_HAS(message_of([&] { OtherResults({folder_ / "table2.md"}, here_); }), "table2.md: is no JSON");
}

}  // namespace
}  // namespace gradlibra
