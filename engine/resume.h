// SPDX-License-Identifier: MIT
// What `train --resume` stands for: a flag or a folder, and a configuration where none is given.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "engine/experiment_config.h"

namespace gradlibra {

// `--resume key.path=value`: the value is an override and no folder. Moves the flag to the end of the arguments, where
// nothing follows that could be taken for its folder.
void keep_overrides_from_resume(int argc, char** argv);

// What the command line says of the folder: --resume with or without one, --work-dir, or both for the same.
struct ResumeFlags {
  bool given = false;           // --resume
  std::string folder;           // of --resume; empty: none
  std::string work_dir;         // of --work-dir; empty: none
  bool starts_as_well = false;  // there is a configuration to start with
};
// The folder of the training. std::invalid_argument if there is none, two, or nothing to continue.
[[nodiscard]] std::filesystem::path training_folder(const ResumeFlags& flags);

// The configuration of a training that is continued without one: the folder's, as its last start left it, or that of
// its newest checkpoint. std::invalid_argument if the folder holds no training.
[[nodiscard]] ExperimentConfig config_of_training(const std::filesystem::path& folder,
                                                  const std::vector<std::string>& overrides);

}  // namespace gradlibra
