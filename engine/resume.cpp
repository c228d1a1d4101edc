// SPDX-License-Identifier: MIT
#include "engine/resume.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "engine/checkpoint.h"

namespace gradlibra {

namespace {

// What a training can go on from is a folder: that of its config.yaml, which those who name a checkpoint may mean.
void require_folder(const std::filesystem::path& folder) {
  if (std::filesystem::is_directory(folder)) return;
  if (!std::filesystem::exists(folder))
    throw std::invalid_argument(folder.string() + ": no such folder; nothing to resume");
  const std::filesystem::path training = std::filesystem::absolute(folder).parent_path().parent_path();
  const std::string hint =
      std::filesystem::exists(training / "config.yaml") ? "; name that of the training: " + training.string() : "";
  throw std::invalid_argument(folder.string() + ": is no folder" + hint);
}

}  // namespace

void keep_overrides_from_resume(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--resume") != 0) continue;
    if (std::strchr(argv[i + 1], '=') == nullptr || argv[i + 1][0] == '-' || std::filesystem::exists(argv[i + 1]))
      return;
    std::rotate(argv + i, argv + i + 1, argv + argc);
    return;
  }
}

std::filesystem::path training_folder(const ResumeFlags& flags) {
  const auto& [given, folder, work_dir, starts_as_well] = flags;
  if (!folder.empty() && !work_dir.empty() &&
      std::filesystem::weakly_canonical(folder) != std::filesystem::weakly_canonical(work_dir))
    throw std::invalid_argument("--resume " + folder + " and --work-dir " + work_dir + " are two folders; name one");
  if (folder.empty() && work_dir.empty())
    throw std::invalid_argument("--work-dir is required, or --resume with a folder");
  if (!starts_as_well && !given)
    throw std::invalid_argument("--config is required to start a training (--resume continues one without)");
  if (!folder.empty()) require_folder(folder);
  return work_dir.empty() ? folder : work_dir;
}

ExperimentConfig config_of_training(const std::filesystem::path& folder, const std::vector<std::string>& overrides) {
  require_folder(folder);
  ExperimentConfig config;
  if (std::filesystem::exists(folder / "config.yaml")) {
    // A training makes the folder before its first step: it has been taken away.
    if (!std::filesystem::exists(folder / "checkpoints"))
      throw std::invalid_argument(
          folder.string() + ": holds config.yaml but no checkpoints; nothing to resume. train " + "--config " +
          (folder / "config.yaml").string() + " --work-dir " + folder.string() + " starts it anew");
    ConfigSource(folder / "config.yaml", overrides).read_into(config);
    return config;
  }
  if (!std::filesystem::exists(folder / "checkpoints"))
    throw std::invalid_argument(folder.string() +
                                ": holds no training (neither config.yaml nor checkpoints); nothing to resume");
  const OpenedCheckpoint newest = open_checkpoint(folder);
  return stored_config(newest.file, newest.name, overrides);
}

}  // namespace gradlibra
