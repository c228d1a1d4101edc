// SPDX-License-Identifier: MIT
// benchmark: how fast kernels, training steps, the loader and sums over ranks are on this machine.
#include <fmt/format.h>

#include <array>

#include "benchmarks/commands.h"
#include "engine/program.h"

using namespace gradlibra;

int main(int argc, char** argv) {
  CLI::App app{
      "Measures how fast this machine is: single kernels, whole training steps, the reading of images, or sums over "
      "ranks. Only the reading needs a data set.",
      "benchmark"};
  app.require_subcommand(1);
  const std::array commands{add_kernels_command(app), add_step_command(app), add_data_command(app),
                            add_comm_command(app)};
  bool json = false;
  std::string examples;
  for (const BenchmarkCommand& command : commands) {
    command.parser->add_flag("--json", json, "also print all numbers as one JSON object on the last line");
    examples += "  " + command.example + "\n";
  }
  app.footer("Examples (`data` with that of `synthesize --help`; `benchmark COMMAND --help` has the options):\n" +
             examples);
  return run_program(app, argc, argv, [&] {
    int code = kSuccess;
    for (const BenchmarkCommand& command : commands) {
      if (!*command.parser) continue;
      const nlohmann::ordered_json result = command.run(code);
      if (json && !result.is_null()) fmt::print("{}\n", result.dump());
    }
    return code;
  });
}
