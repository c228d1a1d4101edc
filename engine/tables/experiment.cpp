// SPDX-License-Identifier: MIT
#include "engine/tables/experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <set>
#include <stdexcept>
#include <thread>

#include "engine/checkpoint.h"
#include "engine/read_split.h"
#include "engine/tables/experiment_weights.h"
#include "engine/tables/other_results.h"
#include "engine/tables/table_figures.h"
#include "engine/tables/table_report.h"
#include "engine/work_dir.h"
#include "runtime/base/files.h"

namespace gradlibra {
namespace fs = std::filesystem;
namespace {

fs::path find_configs(const fs::path& given, const fs::path& programs) {
  std::vector<fs::path> places{given};
  if (given.empty())
    places = {"configs/paper", programs / "../../../configs/paper", programs / "../share/gradlibra/configs/paper"};
  std::string tried;
  for (const fs::path& place : places) {
    if (fs::exists(place / "base.yaml")) return place;
    tried += (tried.empty() ? "" : ", ") + place.string();
  }
  throw std::invalid_argument("--configs: no base.yaml in " + tried);
}

void complete(TableOptions& options) {
  TablePlan& plan = options.plan;
  plan.programs = fs::canonical("/proc/self/exe").parent_path();
  for (const char* name : {"train", "evaluate", "synthesize"})
    if (!fs::exists(plan.programs / name))
      throw std::runtime_error((plan.programs / name).string() + ": not there, and experiment runs it");
  const fs::path configs = find_configs(options.configs, plan.programs);
  plan.config = configs / (options.scale == "paper" ? "base.yaml" : options.scale + ".yaml");
  // At the paper's scale the start is weights from elsewhere: train.pretrained of the configuration.
  if (options.scale == "small") plan.start = configs / "../head_classes.yaml";
  if (!plan.data.empty() && !fs::exists(plan.data))
    throw std::runtime_error("--data: " + plan.data.string() + " is not there");
  // What single runs need at this scale, such as other edges between groups of classes on fewer boxes.
  if (const fs::path runs = configs / (options.scale + "_runs.yaml"); fs::exists(runs))
    plan.settings = read_settings(plan.settings_files.emplace_back(runs));
  if (!options.settings.empty())
    for (const auto& [name, more] : read_settings(plan.settings_files.emplace_back(options.settings)))
      plan.settings[name].insert(plan.settings[name].end(), more.begin(), more.end());
  for (const fs::path& file : options.results)
    if (fs::weakly_canonical(fs::absolute(file)).parent_path() == fs::weakly_canonical(fs::absolute(plan.folder)))
      throw std::invalid_argument("--results " + file.string() + ": is of --output itself, whose runs count anyway");
  for (int i = 0; i < options.seeds; ++i) plan.seeds.push_back(options.first_seed + i);
}

// Null: nobody made it, or Figure 3 wants its log, which a table's file does not hold.
const Values* made_elsewhere(const OtherResults& others, const PaperTable& table, const PaperRun& run, int64_t seed) {
  return table.name == "fig3" ? nullptr : others.find(run, seed);
}

// Tables that share a run share its folder: every run once, seeds outermost, so that an interrupted experiment has
// compared like with like. Those made elsewhere are left out.
std::vector<ExperimentRun> all_runs(const TablePlan& plan, const std::vector<PaperTable>& tables,
                                    const OtherResults& others, const fs::path& settings) {
  std::vector<ExperimentRun> runs;
  std::vector<std::string> names;
  std::map<std::string, std::vector<std::string>> named_by_user;
  if (!settings.empty()) named_by_user = read_settings(settings);
  for (const int64_t seed : plan.seeds)
    for (const PaperTable& table : tables)
      for (const PaperRow& row : table.rows) {
        ExperimentRun run(plan, row.run, seed);
        names.push_back(run.name());
        const auto is_it = [&](const ExperimentRun& other) { return other.name() == run.name(); };
        if (made_elsewhere(others, table, row.run, seed) != nullptr || std::any_of(runs.begin(), runs.end(), is_it))
          continue;
        runs.push_back(std::move(run));
      }
  for (const auto& [name, unused] : named_by_user) {
    const auto named = [&, wanted = name + "/"](const std::string& run) { return run.starts_with(wanted); };
    if (std::none_of(names.begin(), names.end(), named))
      fmt::print(stderr, "settings: '{}' is no run of these tables\n", name);
  }
  return runs;
}

// The result of a run; without one, why it is missing.
std::optional<Values> result_of(const ExperimentRun& run, std::string& missing) {
  try {
    if (auto values = run.result()) return values;
    missing = run.failure().empty() ? "not run yet" : "failed: " + run.failure();
  } catch (const std::runtime_error& damaged) {
    missing = damaged.what();
  }
  return {};
}

// Damaged ones are neither done again nor cleared away: it is for the user to say that nothing can be saved of them.
std::vector<const ExperimentRun*> runs_to_do(const std::vector<ExperimentRun>& runs) {
  std::vector<const ExperimentRun*> todo;
  for (const ExperimentRun& run : runs) {
    try {
      if (run.result())
        run.clean_up();
      else
        todo.push_back(&run);
    } catch (const std::runtime_error&) {
      continue;  // said in the table
    }
  }
  return todo;
}

// Every run once.
OtherResults::Taken taken_by(const TablePlan& plan, const std::vector<PaperTable>& tables, const OtherResults& others) {
  OtherResults::Taken taken;
  for (const PaperTable& table : tables)
    for (const PaperRow& row : table.rows)
      for (const int64_t seed : plan.seeds)
        if (made_elsewhere(others, table, row.run, seed) != nullptr) taken.emplace_back(row.run.name, seed);
  std::sort(taken.begin(), taken.end());
  taken.erase(std::unique(taken.begin(), taken.end()), taken.end());
  return taken;
}

struct TableResults {
  std::vector<RowResults> rows;
  OtherResults::Taken taken;                            // made elsewhere
  std::map<std::string, std::set<std::string>> starts;  // by run, hashes of weights; "": one does not tell
};

TableResults results_of(const TablePlan& plan, const PaperTable& table, const OtherResults& others) {
  TableResults results{std::vector<RowResults>(table.rows.size()), {}};
  for (size_t i = 0; i < table.rows.size(); ++i)
    for (const int64_t seed : plan.seeds) {
      const PaperRun& row = table.rows[i].run;
      const ExperimentRun run(plan, row, seed);
      std::string why;
      if (const Values* other = made_elsewhere(others, table, row, seed)) {
        if (const auto own = result_of(run, why); own && *own != *other)
          fmt::print(stderr, "experiment: warning: {}: the folder has another result than --results, which is taken\n",
                     run.name());
        results.rows[i].by_seed[seed] = *other;
        results.taken.emplace_back(row.name, seed);
        const auto told = others.start_weights(row.name, seed);
        results.starts[row.name].insert(told.empty() ? "" : told.begin()->second);
      } else if (const auto values = result_of(run, why)) {
        results.rows[i].by_seed[seed] = *values;
        results.starts[row.name].insert(run.start_weights());
      } else {
        results.rows[i].missing[seed] = why;
      }
    }
  return results;
}

bool is_complete(const std::vector<RowResults>& rows) {
  return std::all_of(rows.begin(), rows.end(), [](const RowResults& row) { return row.missing.empty(); });
}

// A table compares runs on the same data. Noted in the folder with the first of them.
void require_same_data(const TablePlan& plan, const ExperimentConfig& config) {
  if (plan.data.empty()) return;  // drawn: run.yaml has the recipe
  const Say quiet = [](const std::string&) {};
  const DataMark train = mark_of(read_training_split(config, quiet));
  const DataMark test = mark_of(read_evaluation_split(config, Split::test, quiet));
  const std::string is = fmt::format("training split: {} images, {} boxes, {}\ntest split: {} images, {} boxes, {}\n",
                                     train.images, train.boxes, train.hash, test.images, test.boxes, test.hash);
  const fs::path file = plan.folder / "data_mark.txt";
  constexpr int64_t kMost = 1 << 20;
  if (!fs::exists(file)) return write_file(file, is);
  if (const std::string was = read_file(file, kMost); was != is)
    throw std::runtime_error(
        fmt::format("--data {}: the folder has runs on other data ({}): take another --output.\n"
                    "There:\n{}Here:\n{}",
                    plan.data.string(), file.string(), was, is));
}

// What all runs of the tables began from, made here (`runs`) or elsewhere, and what those to come will.
// std::runtime_error where two began from different weights.
StartWeights require_same_start(const TableOptions& options, const std::vector<PaperTable>& tables,
                                const OtherResults& others, const std::vector<ExperimentRun>& runs) {
  const TablePlan& plan = options.plan;
  StartWeights weights(plan.folder, !options.only_tables);
  for (const ExperimentRun& run : runs) {
    const std::string folder = (plan.folder / "runs" / run.name()).string();
    weights.require(run.config().train.pretrained, run.start_weights(), folder,
                    fmt::format("put its weights back, take another --output, or remove {}", folder));
  }
  for (const PaperTable& table : tables)
    for (const PaperRow& row : table.rows)
      for (const int64_t seed : plan.seeds) {
        if (made_elsewhere(others, table, row.run, seed) == nullptr) continue;
        const std::string start = ExperimentRun(plan, row.run, seed).config().train.pretrained;
        for (const auto& [file, hash] : others.start_weights(row.run.name, seed))
          weights.require(start, hash, fmt::format("--results {}: its {}, seed {},", file.string(), row.run.name, seed),
                          start.empty() ? "leave that file out"
                                        : fmt::format("leave that file out, or take another --output where {} has its "
                                                      "weights before the first run",
                                                      start));
      }
  return weights;
}

void warn_of_starts(const TablePlan& plan, const std::vector<ExperimentRun>& runs) {
  if (const std::string keys = changed_start(plan); !keys.empty())
    fmt::print(stderr,
               "experiment: warning: the start in {} was trained with another configuration than {} ({} differ) and is "
               "taken as it is\n",
               plan.folder.string(), plan.start.lexically_normal().string(), keys);
  std::vector<std::string> names;
  for (const ExperimentRun& run : runs)
    if (run.has_begun() && run.start_weights().empty()) names.push_back(run.name());
  if (!names.empty())
    fmt::print(stderr,
               "experiment: warning: {}: no note of the weights that they began from; taken as those that the others "
               "begin from\n",
               fmt::join(names, ", "));
}

// False: one failed or was stopped. What is missing is then said.
bool prepare(const TablePlan& plan, const std::vector<Slot>& slots, const std::atomic<int>& signal) {
  for (const Job& job : preparations(plan)) {
    bool well = false;
    fmt::print("{} ..\n", job.name);
    std::fflush(stdout);
    // One slot with the whole machine's processors: nothing else runs yet.
    Slot all = slots.front();
    all.processors.clear();
    for (const Slot& slot : slots)
      for (const int processor : slot.processors)
        if (std::find(all.processors.begin(), all.processors.end(), processor) == all.processors.end())
          all.processors.push_back(processor);
    run_jobs({job}, {all}, signal, [&](size_t, const JobResult& result) {
      well = result.end == JobResult::End::done;
      if (result.end == JobResult::End::failed)
        throw std::runtime_error(job.name + ": " + result.why + " (all of it: " + job.output.string() + ")");
    });
    if (!well) return false;
  }
  finish_preparations(plan);
  return true;
}

// Those of an experiment that was killed were told to stop with it, and do so with a checkpoint.
void wait_for_trainings(const std::vector<const ExperimentRun*>& runs, const std::atomic<int>& signal) {
  constexpr auto kPoll = std::chrono::milliseconds(50);
  for (const ExperimentRun* run : runs) {
    if (!run->is_training()) continue;
    fmt::print("{}: waiting for a training that has its folder\n", run->name());
    std::fflush(stdout);
    while (signal == 0 && run->is_training()) std::this_thread::sleep_for(kPoll);
  }
}

void do_runs(const std::vector<ExperimentRun>& runs, StartWeights weights, const std::vector<Slot>& slots,
             const std::atomic<int>& signal) {
  const std::vector<const ExperimentRun*> todo = runs_to_do(runs);
  fmt::print("{} of {} runs to do, {} side by side\n", todo.size(), runs.size(), slots.size());
  std::fflush(stdout);
  wait_for_trainings(todo, signal);
  std::vector<Job> jobs;
  jobs.reserve(todo.size());
  for (const ExperimentRun* run : todo) jobs.push_back(run->job(weights.hash(run->config().train.pretrained)));
  size_t ended = 0;
  run_jobs(jobs, slots, signal, [&](size_t index, const JobResult& result) {
    if (result.end == JobResult::End::stopped) return;
    const ExperimentRun& run = *todo[index];
    run.finish(result);
    const std::string place = fmt::format("[{}/{}] {}", ++ended, todo.size(), run.name());
    if (result.end == JobResult::End::done) {
      const Values values = run.result().value_or(Values{});
      const auto map = values.find("mAP");
      fmt::print("{}: {} in {:.0f} s\n", place,
                 map == values.end() ? "no mAP, as no test image has a box" : fmt::format("mAP {:.1f}", map->second),
                 result.seconds);
    } else {
      fmt::print("{}: failed: {}\n", place, result.why);
    }
    std::fflush(stdout);
  });
}

TableMaking making_of(const TablePlan& plan, const std::vector<PaperTable>& tables) {
  TableMaking made;
  for (const PaperTable& table : tables)
    for (const PaperRow& row : table.rows)
      made.configurations[row.run.name] = ExperimentRun(plan, row.run, plan.seeds.front()).deciding_keys();
  return made;
}

std::vector<std::string> how(const TableOptions& options, bool all_made_here) {
  const TablePlan& plan = options.plan;
  std::string sets;
  for (const std::string& one : plan.overrides) sets += " " + one;
  std::vector<std::string> settings;
  for (const fs::path& file : plan.settings_files) settings.push_back(file.filename().string());
  const std::string seeds = plan.seeds.size() == 1
                                ? fmt::format("seed {}", plan.seeds.front())
                                : fmt::format("seeds {} to {}", plan.seeds.front(), plan.seeds.back());
  std::vector<std::string> lines{
      fmt::format("Scale {}, {}, data {}, settings {}.", options.scale, seeds,
                  plan.data.empty() ? "drawn by `synthesize`" : plan.data.filename().string(),
                  settings.empty() ? "the same for all" : fmt::format("{}", fmt::join(settings, ", ")))};
  if (!sets.empty()) lines.push_back((all_made_here ? "For every run:" : "For every run made here:") + sets + ".");
  return lines;
}

}  // namespace

TableOutcome run_tables(TableOptions options, const std::atomic<int>& signal) {
  complete(options);
  const TablePlan& plan = options.plan;
  std::vector<PaperTable> tables;
  for (const std::string& name : options.tables) tables.push_back(paper_table(name));
  const TableMaking making = making_of(plan, tables);
  const OtherResults others(options.results, making);
  const std::vector<ExperimentRun> runs = all_runs(plan, tables, others, options.settings);
  const OtherResults::Taken taken_in_all = taken_by(plan, tables, others);
  for (const std::string& warning : others.warnings(taken_in_all))
    fmt::print(stderr, "experiment: warning: {}\n", warning);
  if (options.only_tables && taken_in_all.empty() && !fs::is_directory(plan.folder))
    throw std::runtime_error("--output " + plan.folder.string() + ": no such folder, and --only-tables runs nothing");
  if (options.only_tables) fs::create_directories(plan.folder);
  StartWeights weights = require_same_start(options, tables, others, runs);
  warn_of_starts(plan, runs);
  if (!taken_in_all.empty()) fmt::print("{} runs made elsewhere\n", taken_in_all.size());
  std::optional<WorkDir> owned;  // what only writes tables reads results that do not change
  if (!options.only_tables) {
    owned.emplace(plan.folder, "--output");
    if (!owned->warning().empty()) fmt::print(stderr, "experiment: warning: {}\n", owned->warning());
  }
  if (!options.only_tables && !runs.empty()) {
    require_same_data(plan, runs.front().config());
    const std::vector<Slot> slots = divide_machine(options.jobs, options.gpus);
    if (prepare(plan, slots, signal)) {
      // Now the start is there, if it was to be made.
      if (!plan.start.empty()) weights = require_same_start(options, tables, others, runs);
      do_runs(runs, std::move(weights), slots, signal);
    }
  }
  bool all = true;
  for (const PaperTable& of_paper : tables) {
    auto [rows, taken, starts] = results_of(plan, of_paper, others);
    const PaperTable table = table_on_data(of_paper, rows);
    const std::vector<RowRecords> records = read_records(plan.folder, table, rows);
    all = all && is_complete(rows);
    TableMaking made = making;
    made.lines = how(options, taken.empty());
    for (const auto& [run, seed] : taken)
      if (!others.is_known(run, seed)) made.configurations.erase(run);
    for (const auto& [run, hashes] : starts)
      if (const auto keys = made.configurations.find(run); keys != made.configurations.end() && !hashes.contains(""))
        keys->second[kStartWeights] = *hashes.begin();
    for (std::string& line : others.how(taken)) made.lines.push_back(std::move(line));
    const std::string text = table_markdown(table, rows, made);
    write_file(plan.folder / (table.name + ".md"), text);
    write_file(plan.folder / (table.name + ".json"), table_json(table, rows, made));
    const std::vector<Panel> panels = figure_panels(table, rows, records);
    if (!panels.empty()) write_file(plan.folder / (table.name + ".svg"), figure_svg(table, panels));
    fmt::print("\n{}", text);
  }
  if (signal != 0) {
    fmt::print("\ninterrupted; the same command goes on from here\n");
    return TableOutcome::interrupted;
  }
  return all ? TableOutcome::complete : TableOutcome::incomplete;
}

}  // namespace gradlibra
