// SPDX-License-Identifier: MIT
// The sections of a run's page. Each says, where its data are missing, what has to be run to get them.
#pragma once

#include <string>

#include "engine/report/html.h"
#include "engine/report/run_files.h"

namespace gradlibra {

// A colour of the plots (engine/plots/svg.h) for a group of classes, the same everywhere on a page.
[[nodiscard]] int group_color(const std::string& group);
// A class's name with the mark of its group before it, as markup.
[[nodiscard]] std::string marked(const std::string& name, const std::string& group);
// "RepPoints", "Grad-Libra": what a configuration calls reppoints and grad_libra.
[[nodiscard]] std::string method_name(const std::string& key);

[[nodiscard]] html::Section result_section(const RunFiles& run);
[[nodiscard]] html::Section precision_recall_section(const RunFiles& run);
[[nodiscard]] html::Section confusion_section(const RunFiles& run);
[[nodiscard]] html::Section calibration_section(const RunFiles& run);
[[nodiscard]] html::Section training_section(const RunFiles& run);
[[nodiscard]] html::Section gradient_section(const RunFiles& run);
[[nodiscard]] html::Section configuration_section(const RunFiles& run);

// `count` best and as many worst pictures of `split` (empty: that of the evaluation). 0: a line that there are none.
[[nodiscard]] html::Section pictures_section(const RunFiles& run, const std::string& split, int count);

// The command that writes what a page of this run lacks.
[[nodiscard]] std::string evaluate_command(const RunFiles& run);

}  // namespace gradlibra
