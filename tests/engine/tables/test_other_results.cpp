// SPDX-License-Identifier: MIT
#include "engine/tables/other_results.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/tables/experiment_weights.h"
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
    for (const PaperRow& row : table_.rows) {
      here_.configurations[row.run.name] = deciding_keys(ExperimentConfig{});
      here_.configurations[row.run.name][kStartWeights] = "00000000000000aa";
    }
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

TEST_F(OtherResultsTest, ValuesAreThoseOfATable) {
  const auto message = [&](const std::string& name, const std::string& value) {
    rows_[1].by_seed[2] = {{name, 98765}};
    std::string text = table_json(table_, rows_, here_);
    for (size_t at = 0; (at = text.find("98765.0")) != text.npos;) text.replace(at, 7, value);
    put(folder_ / "t.json", text);
    return message_of([&] { (void)OtherResults({folder_ / "t.json"}, here_); });
  };
  for (const char* name : {"mAP", "AP_f", "mR_r", "a class"}) {
    EXPECT_EQ(message(name, "100"), "");
    EXPECT_EQ(message(name, "0"), "");
    EXPECT_EQ(message(name, "100.00000000000001"), "") << "rounded up";
    EXPECT_HAS(message(name, "100.5"), fmt::format("t.json: rows[1].seeds[1].values.{}: is 100.5, and per cent", name));
    EXPECT_HAS(message(name, "-1"), fmt::format("values.{}: is -1, and per cent are 0 to 100", name));
  }
  EXPECT_EQ(message("detections", "12345"), "");
  EXPECT_HAS(message("detections", "-1"), "values.detections: is -1, and a count is 0 or more");
  // No JSON of ours is named with its file as well.
  EXPECT_HAS(message("mAP", "1e400"), "t.json: is no JSON: ");
  EXPECT_HAS(message("mAP", std::string(200000, '[')), "t.json: is no JSON of this program: nests deeper");
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

TEST_F(OtherResultsTest, AnOlderTableSaysMoreThanDecides) {
  TableMaking older = here_;
  for (auto& [name, keys] : older.configurations) {
    keys["runtime.precision"] = "fp32";
    keys["train.seed"] = "1";
  }
  EXPECT_NE(OtherResults({write("a/table2.json", older)}, here_).find(run(0), 1), nullptr);
}

// Here they may be known only later: whoever takes the results compares them.
TEST_F(OtherResultsTest, TellsTheWeightsThatRunsBeganFrom) {
  TableMaking other = here_, silent = here_;
  other.configurations[run(1).name][kStartWeights] = "00000000000000bb";
  for (auto& [name, keys] : silent.configurations) keys.erase(kStartWeights);
  const auto a = write("a/table2.json", here_), b = write("b/table2.json", other), c = write("c/table2.json", silent);
  for (auto& [name, keys] : here_.configurations) keys.erase(kStartWeights);
  const OtherResults all({a, b, c}, here_);
  EXPECT_NE(all.find(run(1), 1), nullptr) << "no difference of the configuration";
  using Told = std::map<std::filesystem::path, std::string>;
  EXPECT_EQ(all.start_weights(run(0).name, 1), (Told{{a, "00000000000000aa"}, {b, "00000000000000aa"}}));
  EXPECT_EQ(all.start_weights(run(1).name, 1), (Told{{a, "00000000000000aa"}, {b, "00000000000000bb"}}));
  EXPECT_TRUE(all.start_weights(run(0).name, 3).empty()) << "nobody has it";
  EXPECT_TRUE(OtherResults({a}, here_).warnings({{run(0).name, 1}}).empty());
  const auto warnings = OtherResults({c}, here_).warnings({{run(0).name, 1}});
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_HAS(warnings[0], "c/table2.json: does not say from which weights its runs began");
}

TEST(StartWeights, AreThoseOfTheFileOrOfWhoBeganFirst) {
  const TemporaryFolder folder;
  put(folder / "start.safetensors", "abc");  // xxhsum -H64: 44bc2cf5ad770999
  StartWeights weights(folder.path(), true);
  EXPECT_EQ(weights.hash("start.safetensors"), "44bc2cf5ad770999");
  EXPECT_EQ(weights.hash(""), "none");
  EXPECT_EQ(weights.hash("missing.safetensors"), "");
  const auto refusal = [](StartWeights& of, const std::string& file, const std::string& hash) {
    return message_of([&] { of.require(file, hash, "runs/b", "remove it"); });
  };
  EXPECT_EQ(refusal(weights, "start.safetensors", ""), "") << "not known";
  EXPECT_EQ(refusal(weights, "start.safetensors", "44bc2cf5ad770999"), "");
  EXPECT_EQ(refusal(weights, "start.safetensors", "1111111111111111"),
            "runs/b began from other weights (XXH64 1111111111111111) than those of " +
                (folder / "start.safetensors").string() + " (XXH64 44bc2cf5ad770999): remove it");
  EXPECT_HAS(refusal(weights, "", "1111111111111111"), "than those of a run from random weights (XXH64 none)");

  StartWeights as_told(folder.path(), false);
  EXPECT_EQ(as_told.hash("start.safetensors"), "");
  as_told.require("start.safetensors", "1111111111111111", "runs/a", "");
  EXPECT_EQ(as_told.hash("start.safetensors"), "1111111111111111");
  EXPECT_HAS(refusal(as_told, "start.safetensors", "44bc2cf5ad770999"),
             "than those of runs/a (XXH64 1111111111111111)");
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
  for (const char* key : {"runtime", "runtime.precision", "distributed.timeout", "train.seed", "data.root"})
    EXPECT_FALSE(plain.contains(key)) << key;
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
