// SPDX-License-Identifier: MIT
// What every program shares: one place that catches errors, exit codes, common options.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/experiment_config.h"
#include "engine/option_checks.h"
#include "runtime/device/context.h"

namespace gradlibra {

// Exit codes, the same for every program.
enum ExitCode {
  kSuccess = 0,
  kFailure = 1,    // an error while running: files, memory, device
  kUsage = 2,      // the command line or the configuration is wrong
  kNonFinite = 3,  // training met a loss or gradient that is not a number
  kFindings = 4,   // inspect data: defects were found
  kLostRank = 5,   // another rank of the job was killed, hangs, or failed
  kInterrupted = 130,
};

// Of a program that a signal has stopped before it was done: what a shell says of one that died of it. 130 is Ctrl-C.
[[nodiscard]] constexpr int stopped_by(int signal) { return 128 + signal; }

// The code of an exception that ends a program.
[[nodiscard]] ExitCode exit_code_of(const std::exception& error);

// Parses and runs: prints errors to stderr as "program: message", never lets an exception out. No success, kFailure, if
// what was printed to stdout could not be written (a full disk); not if its reader has gone (`| head`).
int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

// --config and the trailing key.path=value overrides, --device, --threads.
struct CommonOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::string device = "auto";
  int threads = 0;
};
void add_config_options(CLI::App& app, CommonOptions& options, bool config_required);
void add_device_options(CLI::App& app, CommonOptions& options);

// The device of --device and --threads; says on stderr which one it is, and why not a GPU if `auto` found none. `place`
// is this rank's number on its host, for each to have a GPU of its own.
[[nodiscard]] std::unique_ptr<Context> open_device(const CommonOptions& options, bool quiet = false, int place = 0);

// Makes the folder where there is none, and tries to write in it: before the work, not after it. std::runtime_error
// names the folder and why. Nothing for an empty path.
void try_output_folder(const std::filesystem::path& folder);

[[nodiscard]] ExperimentConfig read_experiment(const CommonOptions& options);

// The detector of --checkpoint for `evaluate`, `detect` and `inspect`; names on stderr what was wrong with
// newer checkpoints than the one it takes.
[[nodiscard]] LoadedDetector open_detector(Context& context, const CLI::App& app, OpenedCheckpoint checkpoint,
                                           const CommonOptions& options);
// "FILE (step 9)", "FILE (step 9, averaged weights)" or "FILE (weights)".
[[nodiscard]] std::string describe(const LoadedDetector& loaded);

}  // namespace gradlibra
