// SPDX-License-Identifier: MIT
#include "engine/tables/experiment_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <tuple>

#include "engine/checkpoint.h"
#include "engine/tables/experiment_weights.h"
#include "engine/tables/run_configuration.h"
#include "engine/work_dir.h"
#include "runtime/base/files.h"
#include "runtime/base/json_text.h"
#include "runtime/base/xxh64.h"

namespace gradlibra {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMaxTextBytes = int64_t{64} << 20;
// A table's row is the last checkpoint: validations on the way would cost a third of the time and decide nothing.
constexpr const char* kNoValidations = "train.evaluate_every=0";
constexpr const char* kStartFile = "start.safetensors";  // under the plan's folder
constexpr const char* kStartNote = "start_weights.txt";  // under a run's; not there in those of before

ExperimentConfig read_config(const fs::path& file, const std::vector<std::string>& overrides) {
  ExperimentConfig config;
  ConfigSource(file, overrides).read_into(config);
  return config;
}

// A second name or a copy of a file that is there. `from` stays: an interrupted finish() begins anew.
void keep(const fs::path& from, const fs::path& to) {
  if (!fs::exists(from)) return;
  fs::remove(to);
  std::error_code no_links_here;
  fs::create_hard_link(from, to, no_links_here);
  if (no_links_here) fs::copy_file(from, to);
}

std::vector<std::string> program(const TablePlan& plan, const std::string& name, std::vector<std::string> arguments,
                                 bool computes) {
  arguments.insert(arguments.begin(), (plan.programs / name).string());
  if (computes) arguments.insert(arguments.end(), {"--device", plan.device, "--threads", "{threads}"});
  return arguments;
}

struct SettingsFile {
  std::map<std::string, std::vector<std::string>> settings;
  void describe(ConfigVisitor& v) {
    v.field("settings", settings, "name of a run to overrides of its configuration, key.path=value");
  }
};

}  // namespace

std::map<std::string, std::vector<std::string>> read_settings(const fs::path& file) {
  SettingsFile read;
  ConfigSource(file, {}).read_into(read);
  // Each by itself first: among a run's other overrides an error would be said to be of the command line.
  for (const auto& [name, overrides] : read.settings)
    for (const std::string& text : overrides) {
      try {
        (void)read_config({}, {text});
      } catch (const ConfigError& error) {
        std::string_view message = error.what();
        constexpr std::string_view kPlace = "command line ";
        if (message.starts_with(kPlace)) message.remove_prefix(kPlace.size());
        throw ConfigError(file.string() + ": settings." + name + ": " + std::string(message));
      }
    }
  return read.settings;
}

ExperimentRun::ExperimentRun(const TablePlan& plan, const PaperRun& run, int64_t seed)
    : plan_(&plan), name_(run.name + "/seed_" + std::to_string(seed)), seed_(seed) {
  std::vector<std::string> overrides = {kNoValidations};
  overrides.insert(overrides.end(), run.overrides.begin(), run.overrides.end());
  if (const auto chosen = plan.settings.find(run.name); chosen != plan.settings.end())
    overrides.insert(overrides.end(), chosen->second.begin(), chosen->second.end());
  overrides.insert(overrides.end(), plan.overrides.begin(), plan.overrides.end());
  config_ = read_config(plan.config, overrides);
  const ExperimentConfig plain = read_config(plan.config, {});
  for (const auto& [chosen, key, option] :
       {std::tuple{config_.data.root != plain.data.root, "data.root", "--data"},
        std::tuple{config_.train.seed != plain.train.seed, "train.seed", "--first-seed"}})
    if (chosen)
      throw ConfigError(fmt::format("{}: {} is given by {}, not by --set or --settings", run.name, key, option));
  config_.train.seed = seed;
  // The programs run in the plan's folder; the file's path is the user's.
  if (!config_.train.pretrained.empty())
    config_.train.pretrained = fs::absolute(config_.train.pretrained).lexically_normal().string();
  config_.data.root = plan.data.empty() ? "data" : fs::absolute(plan.data).string();
  if (!plan.start.empty()) {
    config_.train.pretrained = kStartFile;
    config_.train.pretrained_scope = "backbone";
  }

  const fs::path file = folder() / "run.yaml";
  if (!fs::exists(file) && fs::exists(folder() / "metrics.json"))
    throw std::runtime_error(folder().string() + ": has a result, but no run.yaml that tells of which configuration; " +
                             "remove the folder to have the run repeated");
  if (!fs::exists(file)) return;
  // Read and written again, so that keys that have come to be since have their defaults on both sides.
  ExperimentConfig stored;
  ConfigSource::from_text(read_file(file, kMaxTextBytes), file.string()).read_into(stored);
  stored.data.root = config_.data.root;  // the same data may have moved
  const std::string was = to_yaml(stored), is = to_yaml(config_);
  if (was == is) return;
  throw std::runtime_error(file.string() + ": the folder has this run with another configuration (" +
                           difference(keys_of(was), keys_of(is)) + " differ); take another --output, or remove " +
                           folder().string());
}

ConfigKeys ExperimentRun::deciding_keys() const {
  ConfigKeys keys = gradlibra::deciding_keys(config_);
  if (plan_->start.empty()) return keys;
  const ConfigKeys plain = gradlibra::deciding_keys(ExperimentConfig{});
  std::string start;
  for (const auto& [key, value] : gradlibra::deciding_keys(read_config(plan_->start, {})))
    if (const auto found = plain.find(key); found == plain.end() || found->second != value)
      start += key + ": " + value + "\n";
  keys["start"] = xxh64_hex(std::as_bytes(std::span(start)));
  return keys;
}

std::optional<Values> ExperimentRun::result() const {
  const fs::path file = folder() / "metrics.json";
  if (!fs::exists(file)) return {};
  const std::string text = read_file(file, kMaxTextBytes);
  try {
    const auto json = parse_json(text);
    Values values;
    const auto take = [&values](const std::string& name, const nlohmann::json& value) {
      if (!value.is_null()) values[name] = 100 * value.get<double>();
    };
    take("mAP", json.at("mAP"));
    for (const auto& [name, value] : json.at("groups").items()) take(name, value);
    double detections = 0;
    for (const auto& one : json.at("classes")) detections += one.at("detections").get<double>();
    values["detections"] = detections;
    for (const auto& one : json.at("classes"))
      if (const auto name = one.at("name").get<std::string>(); !values.contains(name)) take(name, one.at("AP"));
    return values;
  } catch (const std::exception& error) {
    throw std::runtime_error(file.string() + ": not a result of evaluate (" + error.what() +
                             "); remove it to have the run repeated");
  }
}

bool ExperimentRun::has_begun() const {
  const fs::path checkpoints = folder() / "train/checkpoints";
  return fs::exists(folder() / "metrics.json") || is_training() ||
         (fs::is_directory(checkpoints) && !fs::is_empty(checkpoints));
}

std::string ExperimentRun::start_weights() const {
  if (config_.train.pretrained.empty()) return kNoWeights;
  const fs::path note = folder() / kStartNote;
  if (!has_begun() || !fs::exists(note)) return "";
  std::string hash = read_file(note, kMaxTextBytes);
  while (hash.ends_with('\n')) hash.pop_back();
  return hash;
}

std::string ExperimentRun::failure() const {
  const fs::path file = folder() / "failed.txt";
  return fs::exists(file) ? read_file(file, kMaxTextBytes) : "";
}

bool ExperimentRun::is_training() const { return is_in_use(folder() / "train"); }

Job ExperimentRun::job(const std::string& start_weights) const {
  fs::create_directories(folder());
  fs::remove(folder() / "failed.txt");
  write_file(folder() / "run.yaml", to_yaml(config_));
  if (!has_begun() && !config_.train.pretrained.empty() && !start_weights.empty())
    write_file(folder() / kStartNote, start_weights + "\n");
  const std::string at = "runs/" + name_;
  Job job{.name = name_, .folder = plan_->folder, .output = folder() / "output.txt"};
  job.commands = {
      // A training that somebody stopped has no result yet, however well it ended.
      program(*plan_, "train",
              {"--config", at + "/run.yaml", "--work-dir", at + "/train", "--resume", "--stopped-code", "75"}, true),
      program(*plan_, "evaluate", {"--checkpoint", at + "/train", "--output", at + "/evaluation"}, true)};
  return job;
}

void ExperimentRun::finish(const JobResult& result) const {
  if (result.end == JobResult::End::stopped) return;
  if (result.end == JobResult::End::failed) {
    write_file(folder() / "failed.txt", result.why);
    return;
  }
  keep(folder() / "train/log.jsonl", folder() / "log.jsonl");
  keep(folder() / "evaluation/detections.json", folder() / "detections.json");
  if (plan_->keep_checkpoints) keep(open_checkpoint(folder() / "train").name, folder() / "model.safetensors");
  // The result comes last: with it the run counts as done.
  fs::rename(folder() / "evaluation/metrics.json", folder() / "metrics.json");
  clean_up();
}

void ExperimentRun::clean_up() const {
  fs::remove_all(folder() / "train");
  fs::remove_all(folder() / "evaluation");
}

std::vector<Job> preparations(const TablePlan& plan) {
  std::vector<Job> jobs;
  fs::create_directories(plan.folder);
  const auto add = [&](const std::string& name, std::vector<std::vector<std::string>> commands) {
    jobs.push_back({.name = name,
                    .commands = std::move(commands),
                    .folder = plan.folder,
                    .output = plan.folder / (name + ".txt")});
  };
  // synthesize leaves a complete set alone.
  if (plan.data.empty()) {
    std::vector<std::string> draw{"--config", fs::absolute(plan.config).string(), "--output", "data"};
    for (const std::string& one : plan.overrides)
      if (one.starts_with("synthesize.")) draw.push_back(one);
    add("data", {program(plan, "synthesize", draw, false)});
  }
  if (!plan.start.empty() && !fs::exists(plan.folder / kStartFile)) {
    const std::string config = fs::absolute(plan.start).string();
    // Only its weights are wanted. How it is computed is said once for all of the table.
    std::vector<std::string> train{"--config",       config, "--work-dir",           "start/train", "--resume",
                                   "--stopped-code", "75",   "data.root=start/data", kNoValidations};
    for (const std::string& one : plan.overrides)
      if (one.starts_with("runtime.")) train.push_back(one);
    add("start", {program(plan, "synthesize", {"--config", config, "--output", "start/data"}, false),
                  program(plan, "train", train, true)});
  }
  return jobs;
}

std::string changed_start(const TablePlan& plan) {
  const fs::path file = plan.folder / kStartFile;
  if (plan.start.empty() || !fs::exists(file)) return "";
  try {
    const OpenedCheckpoint start = open_checkpoint(file);
    if (!is_checkpoint(start.file)) return "";
    const ExperimentConfig wanted = read_config(plan.start, {kNoValidations});
    return difference(gradlibra::deciding_keys(stored_config(start.file, start.name)),
                      gradlibra::deciding_keys(wanted));
  } catch (const std::runtime_error&) {
    return "";  // damaged, or of another program: the runs will tell
  }
}

void finish_preparations(const TablePlan& plan) {
  if (plan.start.empty() || fs::exists(plan.folder / kStartFile)) return;
  const std::string newest = open_checkpoint(plan.folder / "start/train").name;
  const fs::path partial = plan.folder / (std::string(kStartFile) + ".partial");
  fs::copy_file(newest, partial, fs::copy_options::overwrite_existing);
  fs::rename(partial, plan.folder / kStartFile);
}

}  // namespace gradlibra
