// SPDX-License-Identifier: MIT
// A row of a table and a seed become a folder with a result; what has a result is not run again.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/experiment_config.h"
#include "engine/tables/job_pool.h"
#include "engine/tables/paper_tables.h"
#include "engine/tables/run_configuration.h"

namespace gradlibra {

// How the tables of one folder are run. Everything is under `folder`, and what is written there says nothing of where
// `folder` is: it can be moved between two calls.
struct TablePlan {
  std::filesystem::path folder, programs;  // programs: where train, evaluate and synthesize are
  std::filesystem::path config;            // below the overrides of the rows: data, network, schedule
  std::vector<std::string> overrides;      // for every run, on top of all else
  // Overrides by the name of a run, between the row's own and `overrides`: rates and weights that were chosen for each.
  std::map<std::string, std::vector<std::string>> settings;
  std::vector<std::filesystem::path> settings_files;  // that they were read from
  std::filesystem::path data;   // empty: drawn under `folder` as the configuration's section `synthesize` says
  std::filesystem::path start;  // configuration of a training whose backbone the runs start from; empty: as `config`
  std::vector<int64_t> seeds;
  std::string device = "auto";
  bool keep_checkpoints = false;
};

// A file of settings: `settings: {cross_entropy: [schedule.lr=0.02], ..}`. ConfigError names file, run and override.
[[nodiscard]] std::map<std::string, std::vector<std::string>> read_settings(const std::filesystem::path& file);

class ExperimentRun {
 public:
  // Reads the configuration. ConfigError for what a row's overrides, settings or the plan's get wrong;
  // std::runtime_error if the folder holds a run of another configuration: the message names the keys.
  ExperimentRun(const TablePlan& plan, const PaperRun& run, int64_t seed);

  [[nodiscard]] const std::string& name() const { return name_; }  // "cross_entropy/seed_1", its folder under runs/
  [[nodiscard]] int64_t seed() const { return seed_; }
  [[nodiscard]] const ExperimentConfig& config() const { return config_; }
  // gradlibra::deciding_keys of it, and "start": a hash of those of the training whose backbone it starts from.
  [[nodiscard]] ConfigKeys deciding_keys() const;
  // In per cent, by the names of PaperTable::columns, and "detections"; what has no ground truth is not there, nor is a
  // class that has the name of a mean.
  // Nothing: the run is not done. std::runtime_error for a result that cannot be read.
  [[nodiscard]] std::optional<Values> result() const;
  // Whether something of it is there: a result, a checkpoint to go on from, or a training that will leave one.
  [[nodiscard]] bool has_begun() const;
  // The hash of the weights it began from (experiment_weights.h). Empty: it has not begun, or began before hashes were
  // noted.
  [[nodiscard]] std::string start_weights() const;
  // Of the last attempt; empty: there was none, or it was interrupted.
  [[nodiscard]] std::string failure() const;

  // Whether a training holds the folder: of an experiment that was killed, until its last checkpoint is written.
  [[nodiscard]] bool is_training() const;

  // Writes run.yaml, notes the hash of the weights that the run begins from (empty: not known), and gives the commands
  // that train (going on where an interrupted attempt stopped) and evaluate.
  [[nodiscard]] Job job(const std::string& start_weights) const;
  // Keeps metrics.json and log.jsonl, and the last checkpoint if the plan says so; or notes why it failed.
  void finish(const JobResult& result) const;
  // Removes what a run with a result needs no more. finish() does; a kill may have come between.
  void clean_up() const;

 private:
  [[nodiscard]] std::filesystem::path folder() const { return plan_->folder / "runs" / name_; }

  const TablePlan* plan_;
  std::string name_;
  int64_t seed_;
  ExperimentConfig config_;
};

// What has to be there before the first run: the drawn set, the backbone to start from. In order, and only what is
// missing; empty if nothing is.
[[nodiscard]] std::vector<Job> preparations(const TablePlan& plan);
// The names of the keys in which the configuration that the folder's start was trained with differs from the plan's;
// empty: none, or nobody knows.
[[nodiscard]] std::string changed_start(const TablePlan& plan);
// After they have ended well: puts the backbone in its place.
void finish_preparations(const TablePlan& plan);

}  // namespace gradlibra
