// SPDX-License-Identifier: MIT
// synthesize: draws a data set of stained cervical cells with a long-tailed class distribution.
#include <fmt/format.h>

#include "data/synthetic/synthesize.h"
#include "engine/program.h"

using namespace gradlibra;

int main(int argc, char** argv) {
  CLI::App app{
      "Draws synthetic cervical smears in PASCAL VOC layout (JPEGImages, Annotations, ImageSets) with train, val and "
      "test splits. The same seed gives the same bytes. The `synthesize` section of the configuration says how many "
      "and how large.",
      "synthesize"};
  CommonOptions common;
  std::string output;
  add_config_options(app, common, false);
  app.add_option("--output", output, "folder to create")->required()->type_name("DIR");
  app.footer(
      "Example:\n  synthesize --output out/smears synthesize.train=40 synthesize.val=8 synthesize.test=8 "
      "synthesize.size=256");
  return run_program(app, argc, argv, [&] {
    const ExperimentConfig config = read_experiment(common);
    synthesize(config.synthesize, output);
    const auto& s = config.synthesize;
    fmt::print("{}: {} train, {} val, {} test patches of {}x{}\n", output, s.train, s.val, s.test, s.size, s.size);
    return kSuccess;
  });
}
