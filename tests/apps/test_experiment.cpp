// SPDX-License-Identifier: MIT
// experiment: whole tables at the tiny scale, interrupted, failing, moved, and asked for twice.
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/work_dir.h"
#include "tests/apps/run_programs.h"
#include "tests/engine/report/sound_page.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

class ExperimentProgram : public ProgramTest {
 protected:
  [[nodiscard]] std::vector<std::string> command(const std::string& table, std::vector<std::string> more = {}) const {
    std::vector<std::string> argv{
        "experiment", table,      "--scale", "tiny",      "--seeds",
        "1",          "--device", "cpu",     "--configs", std::string(GRADLIBRA_CONFIGS) + "/paper",
        "--output",   path("out")};
    argv.insert(argv.end(), more.begin(), more.end());
    return argv;
  }
  [[nodiscard]] nlohmann::json table(const std::string& name) const {
    return nlohmann::json::parse(get(folder_ / ("out/" + name + ".json")));
  }
};

TEST_F(ExperimentProgram, RunsATableAndNothingTwiceAlsoWhereTheFolderHasMoved) {
  const Ran first = run(command("table2", {"--jobs", "2"}));
  ASSERT_EQ(first.code, 0) << first.out << first.err;
  EXPECT_NE(first.out.find("4 of 4 runs to do, 2 side by side"), std::string::npos) << first.out;
  EXPECT_EQ(get(folder_ / "out/table2.md").find("# Table 2"), 0U);
  for (const auto& row : table("table2")["rows"]) {
    EXPECT_EQ(row["seeds"].size(), 1U) << row;
    EXPECT_TRUE(row["missing"].empty()) << row;
  }
  EXPECT_TRUE(fs::exists(folder_ / "out/runs/cross_entropy/seed_1/log.jsonl"));
  EXPECT_FALSE(fs::exists(folder_ / "out/runs/cross_entropy/seed_1/train")) << "checkpoints are kept on request only";

  fs::rename(folder_ / "out", folder_ / "elsewhere");
  auto again = command("fig3");
  again.back() = path("elsewhere");
  const Ran shared = run(again);
  ASSERT_EQ(shared.code, 0) << shared.err;
  EXPECT_NE(shared.out.find("0 of 2 runs to do"), std::string::npos) << "both are rows of Table 2: " << shared.out;
  EXPECT_NE(get(folder_ / "elsewhere/fig3.svg").find("(a) cumulative gradient ratio"), std::string::npos);

  const Ran report = run({"report", path("elsewhere"), "--runs"});
  ASSERT_EQ(report.code, 0) << report.err;
  expect_sound_page(get(folder_ / "elsewhere/report.html"));
  const std::string one = get(folder_ / "elsewhere/runs/grad_libra/seed_1/report.html");
  expect_sound_page(one);
  EXPECT_NE(section_text(one, "pictures").find("test_000"), std::string::npos) << section_text(one, "pictures");
}

TEST_F(ExperimentProgram, EveryOtherTableRunsAsWell) {
  auto argv = command("table1", {"--jobs", "2"});
  argv.insert(argv.begin() + 2, {"table3", "fig4"});
  const Ran ran = run(argv);
  ASSERT_EQ(ran.code, 0) << ran.out << ran.err;
  for (const char* name : {"table1", "table3", "fig4"}) {
    const auto rows = table(name)["rows"];
    EXPECT_GE(rows.size(), 6U) << name;
    for (const auto& row : rows) EXPECT_EQ(row["seeds"].size(), 1U) << name << " " << row;
    EXPECT_EQ(get(folder_ / "out" / (std::string(name) + ".md")).find(name[0] == 't' ? "# Table " : "# Figure 4"), 0U);
  }
  EXPECT_NE(get(folder_ / "out/fig4.svg").find("</svg>"), std::string::npos);
}

TEST_F(ExperimentProgram, ResultsMadeElsewhereAreTakenAndNotRunHere) {
  const auto table2 = [&](const std::string& seeds, const std::string& output, std::vector<std::string> more = {}) {
    auto argv = command("table2", std::move(more));
    *(std::find(argv.begin(), argv.end(), "--seeds") + 1) = seeds;
    *std::find(argv.begin(), argv.end(), path("out")) = path(output);
    return argv;
  };
  ASSERT_EQ(run(table2("1", "one")).code, 0);
  auto one = nlohmann::json::parse(get(folder_ / "one/table2.json"));
  for (size_t i = 0; i < one["rows"].size(); ++i) one["rows"][i]["seeds"][0]["values"]["mAP"] = 10.0 + i;  // was 0
  put(folder_ / "one/table2.json", one.dump());
  const Ran both = run(table2("2", "out", {"--results", path("one/table2.json")}));
  ASSERT_EQ(both.code, 0) << both.err;
  EXPECT_HAS(both.out, "4 runs made elsewhere\n");
  EXPECT_HAS(both.out, "4 of 4 runs to do");
  EXPECT_HAS(both.out, "Made elsewhere (one/table2.json): 4 rows of seed 1. Scale tiny, seed 1");
  const auto rows = table("table2")["rows"];
  for (size_t i = 0; i < rows.size(); ++i) {
    ASSERT_EQ(rows[i]["seeds"].size(), 2U);
    EXPECT_EQ(rows[i]["seeds"][0], one["rows"][i]["seeds"][0]);
    EXPECT_EQ(rows[i]["seeds"][1]["seed"], 2);
  }

  // All of it made elsewhere; Figure 3 shares two of the runs, but its curves are in logs.
  auto figure = table2("1", "figure", {"--results", path("out/table2.json")});
  figure.insert(figure.begin() + 1, "fig3");
  const Ran shared = run(figure);
  ASSERT_EQ(shared.code, 0) << shared.err;
  EXPECT_HAS(shared.out, "2 of 2 runs to do");
  const auto beside = nlohmann::json::parse(get(folder_ / "figure/table2.json"))["rows"];
  EXPECT_EQ(beside[0]["seeds"], one["rows"][0]["seeds"]) << "the table keeps to one machine";
  const Ran nothing = run(table2("2", "nothing", {"--results", path("out/table2.json")}));
  EXPECT_EQ(nothing.code, 0) << nothing.err;
  EXPECT_EQ(nothing.out.find("runs to do"), std::string::npos) << nothing.out;
  EXPECT_FALSE(fs::exists(folder_ / "nothing/data"));
  EXPECT_EQ(nlohmann::json::parse(get(folder_ / "nothing/table2.json"))["rows"], rows);
  EXPECT_EQ(run({"report", path("nothing"), "--runs"}).code, 0);
  const Ran faster = run(table2("1", "x", {"--results", path("one/table2.json"), "--set", "schedule.lr=0.5"}));
  EXPECT_EQ(faster.code, 1);
  EXPECT_HAS(faster.err, "its cross_entropy was run with another configuration (schedule.lr differ)");
  const Ran threads = run(table2("1", "y",
                                 {"--results", path("one/table2.json"), "--set", "runtime.keep_columns=false", "--set",
                                  "loader.workers=2", "--only-tables"}));
  EXPECT_EQ(threads.code, 0) << threads.err;
  const auto table_y = nlohmann::json::parse(get(folder_ / "y/table2.json"));
  EXPECT_EQ(table_y["configuration"]["loader.height"], "96");
  EXPECT_EQ(table_y["rows"][0]["configuration"]["model.loss.type"], "cross_entropy");
  const Ran nowhere = run(table2("1", "x", {"--only-tables"}));
  EXPECT_EQ(nowhere.code, 1);
  EXPECT_HAS(nowhere.err, "no such folder");
  const Ran itself = run(table2("2", "out", {"--results", path("out/table2.json")}));
  EXPECT_EQ(itself.code, 2);
  EXPECT_HAS(itself.err, "table2.json: is of --output itself");

  auto changed = one;
  changed["rows"][0]["seeds"][0]["values"]["mAP"] = 99;
  put(folder_ / "changed.json", changed.dump());
  const Ran differ = run(table2("1", "x", {"--results", path("one/table2.json"), path("changed.json")}));
  EXPECT_EQ(differ.code, 1);
  EXPECT_HAS(differ.err, "changed.json differ in the result of cross_entropy, seed 1");
  EXPECT_FALSE(fs::exists(folder_ / "x"));
}

TEST_F(ExperimentProgram, AnotherConfigurationInTheSameFolderIsRefusedByItsKeys) {
  ASSERT_EQ(run(command("fig3")).code, 0);
  const Ran other = run(command("fig3", {"--set", "schedule.lr=0.02", "--set", "model.loss.weight=2"}));
  EXPECT_EQ(other.code, 1);
  EXPECT_NE(other.err.find("another configuration (model.loss.weight, schedule.lr differ)"), std::string::npos)
      << other.err;
  const Ran typing_error = run(command("fig3", {"--set", "schedule.lrr=0.02"}));
  EXPECT_EQ(typing_error.code, 2);
  EXPECT_NE(typing_error.err.find("schedule.lr"), std::string::npos) << typing_error.err;
  put(folder_ / "settings.yaml", "settings: {grad_libra: [model.loss.weight=3, schedule.lr=fast]}\n");
  const Ran settings = run(command("fig3", {"--settings", path("settings.yaml")}));
  EXPECT_EQ(settings.code, 2);
  EXPECT_HAS(settings.err, "settings.yaml: settings.grad_libra: 'schedule.lr=fast'");
}

TEST_F(ExperimentProgram, ARunThatFailsCostsNoOtherAndIsTriedAgain) {
  put(folder_ / "settings.yaml", "settings: {grad_libra: [train.pretrained=missing.safetensors]}\n");
  const Ran ran = run(command("fig3", {"--settings", path("settings.yaml")}));
  EXPECT_EQ(ran.code, 1);
  const auto rows = table("fig3")["rows"];
  EXPECT_EQ(rows[0]["seeds"].size(), 1U);
  ASSERT_EQ(rows[1]["missing"].size(), 1U);
  EXPECT_NE(rows[1]["missing"][0]["why"].get<std::string>().find("missing.safetensors"), std::string::npos) << rows[1];
  EXPECT_HAS(get(folder_ / "out/fig3.md"), "- Grad-Libra, seed 1: failed: exit code 1: train: /");

  // The cause mended: the settings file names weights that are there by now.
  fs::remove_all(folder_ / "out/runs/grad_libra");
  EXPECT_EQ(run(command("fig3")).code, 0);
  EXPECT_EQ(table("fig3")["rows"][1]["seeds"].size(), 1U);
}

TEST_F(ExperimentProgram, AnInterruptionLeavesCheckpointsAndTheSameCommandGoesOn) {
  const auto longer = command("fig3", {"--set", "schedule.epochs=8", "--set", "train.keep_checkpoints=1"});
  Process process(folder_, longer);
  const fs::path log = folder_ / "out/runs/cross_entropy/seed_1/train/log.jsonl";
  for (int i = 0; i < 6000 && !(fs::exists(log) && fs::file_size(log) > 0); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  process.send(SIGTERM);
  const Ran stopped = process.wait();
  EXPECT_EQ(stopped.code, 128 + SIGTERM) << stopped.out << stopped.err;
  EXPECT_NE(stopped.out.find("the same command goes on from here"), std::string::npos) << stopped.out;
  EXPECT_NE(get(folder_ / "out/fig3.md").find("seed 1: not run yet"), std::string::npos);
  ASSERT_TRUE(fs::exists(folder_ / "out/runs/cross_entropy/seed_1/train/checkpoints"));

  EXPECT_EQ(run(longer).code, 0);
  EXPECT_NE(get(folder_ / "out/runs/cross_entropy/seed_1/output.txt").find("resum"), std::string::npos)
      << get(folder_ / "out/runs/cross_entropy/seed_1/output.txt");
}

// Killed again and again, each time a little later, and started again at once, as a scheduler does: nothing is computed
// wrongly, and nothing is left behind.
TEST_F(ExperimentProgram, KilledAnywhereTheSameCommandGoesOn) {
  const auto in = [&](const std::string& folder) {
    auto argv = command("fig3", {"--set", "schedule.epochs=4"});
    argv[11] = path(folder);
    return argv;
  };
  ASSERT_EQ(run(in("whole")).code, 0);
  int kills = 0;
  Ran last;
  do {
    Process process(folder_, in("killed"));
    const Ran early = process.wait(std::chrono::milliseconds(60 + 90 * kills));
    if (early.code != -1) {
      last = early;
      break;
    }
    process.send(SIGKILL);
    ++kills;
    last = process.wait();
  } while (last.code == -1 && kills < 60);
  EXPECT_EQ(last.code, 0) << last.out << last.err;
  EXPECT_GE(kills, 3);
  EXPECT_EQ(get(folder_ / "killed/fig3.json"), get(folder_ / "whole/fig3.json")) << "after " << kills << " kills";
  for (const char* left : {"train", "evaluation", "failed.txt"})
    for (const char* name : {"cross_entropy", "grad_libra"})
      EXPECT_FALSE(fs::exists(folder_ / "killed/runs" / name / "seed_1" / left)) << name << " " << left;
}

// Large ones take their time over the last checkpoint.
TEST_F(ExperimentProgram, WaitsForATrainingThatAKilledExperimentLeft) {
  std::optional<WorkDir> left(folder_ / "out/runs/cross_entropy/seed_1/train");
  Process process(folder_, command("fig3"));
  const auto waits = [&] { return get(folder_ / "stdout").find("waiting for a training") != std::string::npos; };
  for (int i = 0; i < 6000 && !waits(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_TRUE(waits());
  left.reset();
  const Ran ran = process.wait();
  EXPECT_EQ(ran.code, 0) << ran.out << ran.err;
  EXPECT_HAS(ran.out, "cross_entropy/seed_1: waiting for a training that has its folder");
}

// By whoever sends the signal: a time limit, say.
TEST_F(ExperimentProgram, ATrainingThatWasStoppedIsNoResult) {
  const auto longer = command("fig3", {"--set", "schedule.epochs=8"});
  Process process(folder_, longer);
  const fs::path log = folder_ / "out/runs/cross_entropy/seed_1/train/log.jsonl";
  for (int i = 0; i < 6000 && !(fs::exists(log) && fs::file_size(log) > 0); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string arguments = get(entry.path() / "cmdline");
    std::error_code error;
    if (arguments.find("runs/cross_entropy/seed_1/train") != std::string::npos &&
        fs::equivalent(entry.path() / "cwd", folder_ / "out", error))
      ::kill(std::stoi(entry.path().filename().string()), SIGTERM);
  }
  EXPECT_EQ(process.wait().code, 1);
  const auto rows = table("fig3")["rows"];
  EXPECT_TRUE(rows[0]["seeds"].empty());
  EXPECT_EQ(rows[1]["seeds"].size(), 1U);
  EXPECT_HAS(rows[0]["missing"][0]["why"].get<std::string>(), "failed: exit code 75: stopped after step");
  EXPECT_EQ(run(longer).code, 0);
  EXPECT_EQ(table("fig3")["rows"][0]["seeds"].size(), 1U);
}

TEST_F(ExperimentProgram, OtherDataInTheSameFolderAreRefused) {
  ASSERT_EQ(run(command("fig3")).code, 0);
  const auto on_data = [&](const std::string& data) {
    auto argv = command("fig3", {"--data", data});
    argv[11] = path("given");
    return run(argv);
  };
  fs::copy(folder_ / "out/data", folder_ / "moved", fs::copy_options::recursive);
  ASSERT_EQ(on_data(path("out/data")).code, 0);
  EXPECT_HAS(on_data(path("moved")).out, "0 of 2 runs to do");
  std::string first;
  for (const auto& entry : fs::directory_iterator(folder_ / "moved/Annotations"))
    if (const std::string name = entry.path().filename().string();
        name.starts_with("test") && get(entry.path()).find("<object>") != std::string::npos)
      first = name;
  const std::string text = get(folder_ / "moved/Annotations" / first);
  const size_t begin = text.find("  <object>"), end = text.find("</object>") + 10;
  put(folder_ / "moved/Annotations" / first, std::string(text).erase(begin, end - begin));
  const Ran other = on_data(path("moved"));
  EXPECT_EQ(other.code, 1);
  EXPECT_HAS(other.err, "the folder has runs on other data");
}

// The small scale trains its own start; here in the time of the tiny one.
class ExperimentStarts : public ExperimentProgram {
 protected:
  ExperimentStarts() {
    fs::copy(GRADLIBRA_CONFIGS, folder_ / "configs", fs::copy_options::recursive);
    for (const char* name : {"", "_runs"})
      fs::copy_file(folder_ / ("configs/paper/tiny" + std::string(name) + ".yaml"),
                    folder_ / ("configs/paper/small" + std::string(name) + ".yaml"),
                    fs::copy_options::overwrite_existing);
    start_with_seed(1);
  }
  void start_with_seed(int seed) const {
    put(folder_ / "configs/head_classes.yaml", "base: paper/tiny.yaml\ntrain: {seed: " + std::to_string(seed) + "}\n");
  }
  [[nodiscard]] std::vector<std::string> in(const std::string& folder, const std::string& seeds = "1",
                                            std::vector<std::string> more = {}) const {
    auto argv = command("table2", std::move(more));
    argv[3] = "small";
    argv[5] = seeds;
    argv[9] = path("configs/paper");
    argv[11] = path(folder);
    return argv;
  }
  [[nodiscard]] std::string note(const std::string& run) const {
    std::string hash = get(folder_ / run / "start_weights.txt");
    if (hash.ends_with('\n')) hash.pop_back();
    return hash;
  }
};

TEST_F(ExperimentStarts, RunsFromAnotherStartAreNotMixed) {
  ASSERT_EQ(run(in("one")).code, 0) << get(folder_ / "stderr");
  const std::string first = note("one/runs/cross_entropy/seed_1");
  EXPECT_EQ(first.size(), 16U) << first;
  const auto start_of = [&](const std::string& folder) {
    return nlohmann::json::parse(get(folder_ / folder / "table2.json"))["configuration"].value("start_weights", "");
  };
  EXPECT_EQ(start_of("one"), first);

  // Another start of the same configuration: with --results it shows when the start is there.
  start_with_seed(2);
  const Ran merged = run(in("two", "2", {"--results", path("one/table2.json")}));
  EXPECT_EQ(merged.code, 1) << merged.out;
  EXPECT_HAS(merged.err, path("one/table2.json") + ": its cross_entropy, seed 1, began from other weights (XXH64 " +
                             first + ") than those of " + path("two/start.safetensors") + " (XXH64 ");
  EXPECT_HAS(merged.err, "leave that file out, or take another --output where start.safetensors has its weights");
  EXPECT_FALSE(fs::exists(folder_ / "two/runs")) << "refused before the first run";
  fs::create_directories(folder_ / "three");
  fs::copy_file(folder_ / "one/start.safetensors", folder_ / "three/start.safetensors");
  const Ran same = run(in("three", "2", {"--results", path("one/table2.json")}));
  EXPECT_EQ(same.code, 0) << same.err;
  EXPECT_EQ(same.err, "");
  EXPECT_EQ(start_of("three"), first);

  // Put in the place of the first, where one run is still to do.
  fs::copy_file(folder_ / "two/start.safetensors", folder_ / "one/start.safetensors",
                fs::copy_options::overwrite_existing);
  const fs::path again = folder_ / "one/runs/grad_libra/seed_1";
  fs::remove_all(again);
  const Ran mixed = run(in("one"));
  EXPECT_EQ(mixed.code, 1) << mixed.out;
  EXPECT_HAS(mixed.err, "runs/cross_entropy/seed_1 began from other weights (XXH64 " + first + ") than those of " +
                            path("one/start.safetensors") + " (XXH64 ");
  EXPECT_HAS(mixed.err, "put its weights back, take another --output, or remove " + path("one/runs/cross_entropy"));
  EXPECT_FALSE(fs::exists(again));
  EXPECT_EQ(run(in("one", "1", {"--only-tables"})).code, 1) << "one is missing";
  EXPECT_EQ(get(folder_ / "stderr"), "") << "what is there has one start";

  // Runs of before notes were taken are taken, and named.
  fs::copy_file(folder_ / "three/start.safetensors", folder_ / "one/start.safetensors",
                fs::copy_options::overwrite_existing);
  fs::remove(folder_ / "one/runs/cross_entropy/seed_1/start_weights.txt");
  const Ran older = run(in("one"));
  EXPECT_EQ(older.code, 0) << older.err;
  EXPECT_HAS(older.err, "warning: cross_entropy/seed_1: no note of the weights");
  EXPECT_EQ(start_of("one"), "") << "of one row nobody knows";
  EXPECT_EQ(note("one/runs/grad_libra/seed_1"), first);

  put(folder_ / "configs/head_classes.yaml", "base: paper/tiny.yaml\nschedule: {lr: 0.02}\n");
  EXPECT_HAS(run(in("one")).err, "warning: the start in " + path("one") +
                                     " was trained with another configuration than " +
                                     path("configs/head_classes.yaml") + " (schedule.lr differ)");
}

TEST_F(ExperimentProgram, WeightsOfTheConfigurationAreNotedToo) {
  ASSERT_EQ(run(command("fig3", {"--keep-checkpoints"})).code, 0);
  const std::string file = path("start.safetensors");
  fs::copy_file(folder_ / "out/runs/cross_entropy/seed_1/model.safetensors", file);
  auto from_it = command("table2", {"--set", "train.pretrained=" + file, "train.pretrained_scope=backbone"});
  from_it[11] = path("from_it");
  ASSERT_EQ(run(from_it).code, 0) << get(folder_ / "stderr");
  const auto made = nlohmann::json::parse(get(folder_ / "from_it/table2.json"));
  EXPECT_EQ(made["configuration"].value("start_weights", "").size(), 16U);
  put(file, get(file) + " ");
  const Ran other = run(from_it);
  EXPECT_EQ(other.code, 1);
  EXPECT_HAS(other.err, "began from other weights");
}

TEST_F(ExperimentProgram, DamagedResultsAreNamedAndCostNoOther) {
  ASSERT_EQ(run(command("fig3")).code, 0);
  const fs::path damaged = folder_ / "out/runs/cross_entropy/seed_1";
  const std::string metrics = get(damaged / "metrics.json");
  put(damaged / "metrics.json", metrics.substr(0, 100));
  EXPECT_EQ(run(command("fig3")).code, 1);
  const auto rows = table("fig3")["rows"];
  EXPECT_HAS(rows[0]["missing"][0]["why"].get<std::string>(), "metrics.json: not a result of evaluate");
  EXPECT_EQ(rows[1]["seeds"].size(), 1U);
  put(damaged / "metrics.json", metrics);
  EXPECT_EQ(run(command("fig3")).code, 0);
  fs::remove(damaged / "run.yaml");
  EXPECT_HAS(run(command("fig3")).err, "seed_1: has a result, but no run.yaml");
}

TEST_F(ExperimentProgram, OneAtATimeWritesToAFolder) {
  const WorkDir held(folder_ / "out");
  const Ran second = run(command("fig3"));
  EXPECT_EQ(second.code, 1);
  EXPECT_NE(second.err.find("in use by process " + std::to_string(::getpid())), std::string::npos) << second.err;
  EXPECT_FALSE(fs::exists(folder_ / "out/data"));
  // Reading what is there disturbs nobody; nothing is there yet.
  EXPECT_NE(run(command("fig3", {"--only-tables"})).out.find("seed 1: not run yet"), std::string::npos);
}

TEST_F(ExperimentProgram, NamesWhatIsWrongBeforeItRunsAnything) {
  EXPECT_EQ(run({"experiment", "table7", "--output", path("out")}).code, 2);
  const Ran no_data = run(command("table2", {"--data", path("nowhere")}));
  EXPECT_EQ(no_data.code, 1);
  EXPECT_NE(no_data.err.find("nowhere is not there"), std::string::npos) << no_data.err;
  const Ran no_configs = run({"experiment", "table2", "--configs", path("nowhere"), "--output", path("out")});
  EXPECT_EQ(no_configs.code, 2);
  EXPECT_NE(no_configs.err.find("--configs: no base.yaml in"), std::string::npos) << no_configs.err;
  // What has options of its own is not passed over in silence.
  const Ran seed = run(command("table2", {"--set", "train.seed=77"}));
  EXPECT_EQ(seed.code, 2);
  EXPECT_HAS(seed.err, "train.seed is given by --first-seed, not by --set");
  put(folder_ / "settings.yaml", "settings: {cross_entropy: [data.root=/elsewhere]}\n");
  const Ran root = run(command("table2", {"--settings", path("settings.yaml")}));
  EXPECT_EQ(root.code, 2);
  EXPECT_HAS(root.err, "cross_entropy: data.root is given by --data");
  EXPECT_EQ(run(command("table2", {"--first-seed", "9223372036854775806"})).code, 2);
}

}  // namespace
}  // namespace gradlibra
