// SPDX-License-Identifier: MIT
// Figures 3 and 4 of the paper from the runs of their tables.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "engine/plots/svg_plot.h"
#include "engine/tables/table_report.h"
#include "engine/training_log.h"

namespace gradlibra {

// By seed, what the trainings of a row recorded last of each class.
struct RowRecords {
  std::map<int64_t, ClassRecord> ratio, norm;
};
// From the logs of the runs under an experiment's folder, in the order of the table's rows; only fig3 needs them, of
// other tables nothing is read. Where a log is not there, is damaged or holds nothing of the classes, RowResults::
// of_classes stands in; a run that has none either becomes one of the missing ones of its row, with the reason.
[[nodiscard]] std::vector<RowRecords> read_records(const std::filesystem::path& folder, const PaperTable& table,
                                                   std::vector<RowResults>& rows);

struct Panel {
  Axes axes;
  std::vector<Series> series;
};
// fig3: (a) the cumulative ratio of positive to negative gradients, (b) the normalised norm of the classifier's
// weights, class by class, cross-entropy beside Grad-Libra (arXiv:2208.03779, fig. 3). fig4: mAP by alpha+ (a) and by
// alpha- (b) alone, over the level of cross-entropy (fig. 4). Means over seeds; bars are a standard deviation long on
// both sides. Empty for a table that is no figure, and where nothing is there to be drawn.
[[nodiscard]] std::vector<Panel> figure_panels(const PaperTable& table, const std::vector<RowResults>& rows,
                                               const std::vector<RowRecords>& records);
// The panels side by side as a file of SVG; empty where there are none.
[[nodiscard]] std::string figure_svg(const PaperTable& table, const std::vector<Panel>& panels);

}  // namespace gradlibra
