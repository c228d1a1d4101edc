// SPDX-License-Identifier: MIT
#include "engine/report/experiment_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

#include "engine/report/run_sections.h"
#include "engine/tables/table_figures.h"
#include "engine/tables/table_json.h"

namespace gradlibra {
namespace fs = std::filesystem;
namespace {

// AP_f as the paper sets it.
std::string column_name(const std::string& name) {
  const size_t at = name.find('_');
  if (name.starts_with("AP_") || name.starts_with("mR_"))
    return html::text(name.substr(0, at)) + "<sub>" + html::text(name.substr(at + 1)) + "</sub>";
  return html::text(name);
}

std::string cell(const Spread& here, const Values& printed, const std::string& name, bool best) {
  std::string html = "\u2013";
  if (here.count > 0) html = fmt::format("<span{}>{:.1f}</span>", best ? " class=\"best\"" : "", here.mean);
  if (here.count > 1) html += fmt::format("<span class=\"spread\">\u00b1{:.1f}</span>", here.deviation);
  if (const auto found = printed.find(name); found != printed.end())
    html += fmt::format("<span class=\"paper\">({:.1f})</span>", found->second);
  return html;
}

std::string paper_layout(const TableFile& file) {
  html::Table table{.caption =
                        "Per cent, mean \u00b1 standard deviation over seeds. In brackets what the paper printed. "
                        "The best mean of a column is bold.",
                    .label = file.table.title,
                    .head = {"method", "seeds"},
                    .classes = "results"};
  std::vector<double> best;
  for (const std::string& column : file.table.columns) {
    table.head.push_back(column_name(column));
    double most = -1;
    for (const RowResults& row : file.rows)
      if (const Spread spread = spread_of(row, column); spread.count > 0) most = std::max(most, spread.mean);
    best.push_back(most);
  }
  const bool tall = std::any_of(file.table.columns.begin(), file.table.columns.end(),
                                [](const std::string& name) { return name.size() > 8; });
  if (tall) table.classes += " tall";
  table.bodies.emplace_back();
  for (size_t i = 0; i < file.rows.size(); ++i) {
    html::Table::Row row{.cells = {html::text(file.table.rows[i].label), std::to_string(file.rows[i].by_seed.size())},
                         .classes = i == file.table.baseline ? "base" : ""};
    for (size_t c = 0; c < file.table.columns.size(); ++c) {
      const std::string& column = file.table.columns[c];
      const Spread spread = spread_of(file.rows[i], column);
      row.cells.push_back(
          cell(spread, file.table.rows[i].printed, column, spread.count > 0 && spread.mean == best[c] && best[c] > 0));
    }
    table.bodies.front().push_back(row);
  }
  return html::table(table);
}

std::string differences(const TableFile& file) {
  const std::vector<std::string> names{"mAP", "AP_f", "AP_c", "AP_r", "mR_r"};
  const std::vector<PaperRow>& of = file.table.rows;
  const bool one_baseline =
      std::none_of(of.begin(), of.end(), [](const PaperRow& row) { return row.against.has_value(); });
  const std::string base = one_baseline ? of[file.table.baseline].label : "its baseline";
  html::Table table{.caption = "Minus " + html::text(base) +
                               ", paired by seed, with 95 % intervals (Student's t). Bold: the interval leaves out 0.",
                    .label = "Differences to " + base,
                    .head = {one_baseline ? "method" : "difference", "seeds"}};
  for (const std::string& name : names) table.head.push_back(column_name(name));
  table.bodies.emplace_back();
  for (size_t i = 0; i < file.rows.size(); ++i) {
    const size_t with = compared_with(file.table, i);
    const RowResults& baseline = file.rows[with];
    const int seeds = paired_difference(file.rows[i], baseline, "mAP").count;
    if (i == with || seeds < 2) continue;
    const std::string label = one_baseline ? of[i].label : of[i].label + " \u2212 " + of[with].label;
    html::Table::Row row{.cells = {html::text(label), std::to_string(seeds)}};
    for (const std::string& name : names) {
      const PairedDifference d = paired_difference(file.rows[i], baseline, name);
      const bool sure = d.count > 1 && std::abs(d.mean) > d.half;
      row.cells.push_back(d.count < 2
                              ? "\u2013"
                              : fmt::format("<span{}>{:+.1f}</span> <span class=\"range\">{:+.1f} to {:+.1f}</span>",
                                            sure ? " class=\"best\"" : "", d.mean, d.mean - d.half, d.mean + d.half));
    }
    table.bodies.front().push_back(row);
  }
  return table.bodies.front().empty() ? "" : html::table(table);
}

std::string order(const TableFile& file) {
  std::vector<double> here, paper;
  for (size_t i = 0; i < file.rows.size(); ++i) {
    const Spread spread = spread_of(file.rows[i], "mAP");
    const auto printed = file.table.rows[i].printed.find("mAP");
    if (spread.count == 0 || printed == file.table.rows[i].printed.end()) continue;
    here.push_back(spread.mean);
    paper.push_back(printed->second);
  }
  const double correlation = rank_correlation(here, paper);
  if (!std::isfinite(correlation)) return "";
  return html::paragraph(
      fmt::format("Rank correlation of the rows' order by mAP with the paper's: {:.2f} (1: the same order, 0: "
                  "unrelated).",
                  correlation));
}

// Empty without items.
std::string noted(const std::string& why, const std::string& items) {
  return items.empty() ? "" : "<p>" + why + "</p>\n<ul class=\"plain note\">\n" + items + "</ul>\n";
}

std::string missing_runs(const TableFile& file) {
  std::string html;
  for (size_t i = 0; i < file.rows.size(); ++i)
    for (const auto& [seed, why] : file.rows[i].missing)
      html += fmt::format("<li>{}, seed {}: {}</li>\n", html::text(file.table.rows[i].label), seed, html::text(why));
  return noted("Missing, and in no mean above:", html);
}

std::string panels_html(const TableFile& file, const std::vector<RowRecords>& records) {
  std::vector<std::string> figures;
  for (Panel panel : figure_panels(file.table, file.rows, records)) {
    panel.axes.id = fmt::format("{}-{}", file.table.name, figures.size() + 1);
    figures.push_back(
        html::figure(svg_curves(panel.axes, panel.series), "<b>" + html::text(panel.axes.title) + "</b>"));
  }
  return figures.empty() ? "" : html::figures(figures);
}

html::Section table_section(const fs::path& folder, TableFile file) {
  html::Section section{.id = file.table.name,
                        .title = file.table.title,
                        .short_title = file.table.title.substr(0, file.table.title.find(':'))};
  for (const std::string& line : file.made.lines) section.html += html::paragraph(html::with_code(line), "note");
  const std::vector<RowRecords> records = read_records(folder, file.table, file.rows);
  const std::string figures = panels_html(file, records);
  section.html += figures;
  if (figures.empty() && file.table.name == "fig3")
    section.html += html::missing("No log of these runs has values of the classes. Runs record them with",
                                  "experiment fig3 .. --set train.class_gradients=true");
  section.html += paper_layout(file);
  if (const std::string without = classes_without_truth(file.table, file.rows); !without.empty())
    section.html +=
        html::paragraph("Without truth in the test split, and in no mean: " + html::text(without) + ".", "note");
  section.html += differences(file) + order(file) + missing_runs(file);
  if (!file.table.note.empty()) section.html += html::paragraph(html::text(file.table.note), "note");
  return section;
}

// A run over its seeds, gathered from all tables that name it.
struct SeededRun {
  std::string name, label;
  std::vector<std::string> overrides;
  RowResults results;
};

std::vector<SeededRun> runs_of(const std::vector<TableFile>& files) {
  std::vector<SeededRun> runs;
  for (const TableFile& file : files)
    for (size_t i = 0; i < file.rows.size(); ++i) {
      const PaperRow& row = file.table.rows[i];
      auto run = std::find_if(runs.begin(), runs.end(), [&](const SeededRun& one) { return one.name == row.run.name; });
      if (run == runs.end()) run = runs.insert(runs.end(), {row.run.name, row.label, row.run.overrides, {}});
      run->results.by_seed.insert(file.rows[i].by_seed.begin(), file.rows[i].by_seed.end());
    }
  return runs;
}

std::string seeds_table(const fs::path& folder, const SeededRun& run) {
  html::Table table{.label = "Results of " + run.label + " by seed", .head = {"per cent"}, .classes = "seeds"};
  std::vector<std::string> names{"mAP", "AP_f", "AP_c", "AP_r", "mR_f", "mR_c", "mR_r"};
  std::vector<std::string> classes = paper_table("table1").columns;  // the paper's order; others come behind
  std::erase_if(classes, [&](const auto& name) { return std::find(names.begin(), names.end(), name) != names.end(); });
  for (const auto& [seed, values] : run.results.by_seed) {
    const std::string page = fmt::format("runs/{}/seed_{}/report.html", run.name, seed);
    const std::string head = fmt::format("seed {}", seed);
    table.head.push_back(fs::exists(folder / page) ? "<a href=\"" + html::text(page) + "\">" + head + "</a>" : head);
    for (const auto& [name, value] : values)
      if (name != "detections" && std::find(names.begin(), names.end(), name) == names.end() &&
          std::find(classes.begin(), classes.end(), name) == classes.end())
        classes.push_back(name);
  }
  table.head.emplace_back("mean");
  const auto rows = [&](const std::vector<std::string>& of, bool symbols) {
    std::vector<html::Table::Row>& body = table.bodies.emplace_back();
    for (const std::string& name : of) {
      const Spread spread = spread_of(run.results, name);
      if (spread.count == 0) continue;
      html::Table::Row row{.cells = {symbols ? column_name(name) : html::text(name)}};
      for (const auto& [seed, values] : run.results.by_seed) {
        const auto found = values.find(name);
        row.cells.push_back(found == values.end() ? "\u2013" : fmt::format("{:.1f}", found->second));
      }
      row.cells.push_back(cell(spread, {}, name, true));
      body.push_back(row);
    }
  };
  rows(names, true);
  rows(classes, false);
  return html::table(table);
}

std::vector<Series> losses_in(const fs::path& log) {
  return series_of(read_training_log(log).steps, [](const std::string& name) { return name == "loss"; });
}

// The sum of the losses of every seed, where the logs are there. One that cannot be read is added to `damaged`.
std::string loss_figure(const fs::path& folder, const SeededRun& run, std::set<std::string>& damaged) {
  std::vector<Series> losses;
  for (const auto& [seed, unused] : run.results.by_seed) {
    const fs::path log = folder / "runs" / run.name / fmt::format("seed_{}", seed) / "log.jsonl";
    try {
      if (!fs::exists(log)) continue;
      for (Series& s : losses_in(log)) {
        smooth(s);
        s.name = fmt::format("seed {}", seed);
        losses.push_back(std::move(s));
      }
    } catch (const std::runtime_error& error) {
      damaged.insert(error.what());
    }
  }
  if (losses.empty()) return "";
  return html::figure(svg_curves({.title = "Loss of " + run.label + " by seed",
                                  .x_label = "step",
                                  .log_y = true,
                                  .description = fmt::format("{} seeds.", losses.size()),
                                  .id = "loss-" + run.name},
                                 losses),
                      "<b>Sum of the losses</b>, means of a fiftieth of the steps.");
}

std::string damaged_files(const std::set<std::string>& damaged) {
  std::string html;
  for (const std::string& what : damaged) html += "<li>" + html::text(what) + "</li>\n";
  return noted("Damaged, and left out of the pages of runs and of the losses here:", html);
}

html::Section runs_section(const fs::path& folder, const std::vector<TableFile>& files,
                           std::set<std::string>& damaged) {
  html::Section section{.id = "runs", .title = "The runs"};
  bool linked = false;
  for (const fs::path& run : finished_runs(folder)) linked = linked || fs::exists(run / "report.html");
  section.html =
      html::paragraph(linked ? "Each training by seed; the seed's number leads to its own page."
                             : "Each training by seed. <code>report " + html::text(folder.string()) +
                                   " --runs</code> also writes a page for every single run and links it here.",
                      "note");
  std::string runs;
  for (const SeededRun& run : runs_of(files)) {
    if (run.results.by_seed.empty()) continue;
    const Spread map = spread_of(run.results, "mAP");
    std::string overrides;
    for (const std::string& one : run.overrides) overrides += (overrides.empty() ? "" : " ") + html::code(one);
    std::string inside = overrides.empty() ? "" : html::paragraph(overrides);
    inside += html::figures({"<div>" + seeds_table(folder, run) + "</div>\n", loss_figure(folder, run, damaged)});
    runs += html::details(fmt::format("{} ({}): mAP {:.1f}{}", run.label, run.name, map.mean,
                                      map.count > 1 ? fmt::format(" \u00b1 {:.1f}", map.deviation) : ""),
                          inside);
  }
  section.html += damaged_files(damaged) + runs;
  return section;
}

}  // namespace

bool is_experiment(const fs::path& folder) {
  if (fs::is_directory(folder / "runs")) return true;
  const std::vector<std::string> names = paper_table_names();
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return fs::exists(folder / (name + ".json")); });
}

std::vector<fs::path> finished_runs(const fs::path& folder) {
  std::vector<fs::path> runs;
  if (!fs::is_directory(folder / "runs")) return runs;
  for (const auto& run : fs::directory_iterator(folder / "runs")) {
    if (!run.is_directory()) continue;
    for (const auto& seed : fs::directory_iterator(run.path()))
      if (fs::exists(seed.path() / "metrics.json")) runs.push_back(seed.path());
  }
  std::sort(runs.begin(), runs.end());
  return runs;
}

std::string experiment_page(const fs::path& folder, std::set<std::string>& damaged) {
  std::vector<TableFile> files;
  for (const std::string& name : paper_table_names())
    if (const fs::path file = folder / (name + ".json"); fs::exists(file)) {
      files.push_back(read_table(file));
      files.back().table.name = name;  // which becomes an id, whatever the file says
    }
  if (files.empty())
    throw std::runtime_error(folder.string() +
                             ": has runs and no table of them yet; `experiment TABLE --only-tables --output " +
                             folder.string() + "` (with the options of the experiment) writes it");
  html::Page page{.kind = "An experiment", .title = fs::weakly_canonical(folder).filename().string()};
  std::string names;
  for (const TableFile& file : files) {
    page.sections.push_back(table_section(folder, file));
    names += (names.empty() ? "" : ", ") + page.sections.back().short_title;
  }
  page.lead = html::paragraph(html::text(names) +
                              " of Grad-Libra (arXiv:2208.03779), run again and set beside what the paper printed.");
  page.sections.push_back(runs_section(folder, files, damaged));
  page.foot = html::paragraph("Written by <code>report</code> of gradlibra " GRADLIBRA_VERSION
                              ". This file needs nothing beside it.");
  return html::page(page);
}

}  // namespace gradlibra
