// SPDX-License-Identifier: MIT
// make-patches: from annotated slides to a data set of patches, divided by slide.
#include "data/slides/make_patches.h"

#include <fmt/format.h>

#include <cstdio>
#include <map>

#include "data/slides/slide.h"
#include "engine/program.h"

using namespace gradlibra;

namespace {

struct Options {
  CommonOptions common;
  SlideInput input;
  PatchOptions patches;
  std::string slides, annotations, output, edge = "move", test_edge = "pad", cut_by = "area", rest = "ignore";
  int memory_mib = 2048;
};

void add_options(CLI::App& app, Options& o) {
  add_config_options(app, o.common, false);
  const auto option = [&](const char* name, auto& value, const std::string& text, const char* type) {
    return app.add_option(name, value, text)->capture_default_str()->type_name(type);
  };
  const auto choice = [&](const char* name, std::string& value, const std::string& text,
                          const std::vector<std::string>& values) {
    app.add_option(name, value, text)->check(CLI::IsMember(values))->capture_default_str();
  };
  app.add_option("--slides", o.slides, "folder of slides, or one slide")->required()->type_name("PATH");
  app.add_option("--annotations", o.annotations,
                 "COCO .json, a .csv table (image,class,xmin,ymin,xmax,ymax), or a folder of VOC .xml files named like "
                 "the slides; in pixels of the full resolution")
      ->required()
      ->type_name("PATH");
  app.add_option("--output", o.output, "folder to create; it grows in DIR.part, and the same command goes on there")
      ->required()
      ->type_name("DIR");
  choice("--format", o.patches.format, "annotations of the patches", {"coco", "voc"});
  choice("--image", o.patches.image, "pictures of the patches: png is exact, jpg takes a sixth of the space",
         {"png", "jpg"});
  option("--size", o.patches.size, "side of a patch in pixels", "N");
  option("--overlap", o.patches.overlap, "pixels that neighbours share in train and val; test has none", "N");
  choice("--edge", o.edge,
         "at the slide's right and lower edge, in train and val: move the last patch inwards, or pad it",
         {"move", "pad"});
  choice("--test-edge", o.test_edge, "the same in test, where moved patches would show some cells twice",
         {"move", "pad"});
  option("--fill", o.patches.fill, "grey value beyond the slide, 255 being white", "N");
  choice("--cut-by", o.cut_by, "a patch has a box by the area of it that lies inside, or if its centre does",
         {"area", "centre"});
  option("--keep", o.patches.cut.share, "share of a box's area that must lie inside, with --cut-by area", "SHARE");
  choice("--rest", o.rest,
         "what is left of other boxes: ignore it (VOC difficult, COCO iscrowd: neither hit nor miss), or drop it",
         {"ignore", "drop"});
  option("--background", o.patches.background, "share of the training patches without a box that is kept", "SHARE");
  option("--val-background", o.patches.val_background, "the same of validation; of test all are", "SHARE");
  option("--val", o.patches.val, "share of the slides for validation", "SHARE");
  option("--test", o.patches.test, "share of the slides for testing", "SHARE");
  app.add_option(
         "--splits", o.patches.splits,
         "file with a line `slide split` for each slide (train, val or test); not given: drawn by --val, --test "
         "and --seed")
      ->type_name("FILE");
  app.add_option("--group-by", o.patches.group_by,
                 "regular expression whose first group in a slide's name names its patient, whose slides then stay "
                 "together; not given: each slide for itself")
      ->type_name("REGEX");
  option("--seed", o.patches.seed, "another seed, another division and other background", "N");
  choice("--unannotated", o.input.unannotated,
         "slides that the annotations do not list: an error, left out, or without cells",
         {"error", "skip", "background"});
  option("--jobs", o.patches.jobs, "threads; 0: one per processor", "N")->check(CLI::Range(0, 1024));
  option("--memory", o.memory_mib, "MiB that slides may take while they are read, all together", "MIB")
      ->check(CLI::Range(16, 1 << 24));
}

// Of each kind the first few, all counted.
std::map<std::string, int64_t> show(const std::vector<Finding>& findings) {
  std::map<std::string, int64_t> counts;
  constexpr int64_t kShown = 3;
  for (const Finding& finding : findings) {
    const std::string kind = fmt::format("{}, {}", to_string(finding.kind), to_string(finding.action));
    if (++counts[kind] <= kShown) fmt::print(stderr, "{} [{}]\n", describe(finding), kind);
  }
  for (const auto& [kind, count] : counts)
    if (count > kShown) fmt::print(stderr, "{} of the kind [{}] in all\n", count, kind);
  return counts;
}

int run(Options& o) {
  PatchOptions& patches = o.patches;
  o.input.slides = o.slides;
  o.input.annotations = o.annotations;
  patches.edge = o.edge == "move" ? Edge::move : Edge::pad;
  patches.test_edge = o.test_edge == "move" ? Edge::move : Edge::pad;
  patches.cut.by = o.cut_by == "area" ? CutRule::By::area : CutRule::By::centre;
  patches.cut.rest = o.rest == "ignore" ? CutRule::Rest::ignore : CutRule::Rest::drop;
  patches.memory_bytes = o.input.memory_bytes = static_cast<int64_t>(o.memory_mib) << 20;
  check_options(patches);
  std::vector<Finding> findings;
  const SlideSet slides = read_slides(read_experiment(o.common).data, o.input, patches.size, findings);
  const Division division = divide_slides(slides, patches);
  const PatchSet set{slides, division, patches, show(findings)};
  const MadePatches made = make_patches(set, o.output, [](const std::string& line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
  });
  fmt::print("{}", made.table);
  if (made.were_there) fmt::print("all of this was there already\n");
  const char* classes = "";
  if (patches.format == "voc") classes = ", data.classes as classes.yaml has them";
  fmt::print("{}: data.format={} data.root={}{}\n", o.output, patches.format, o.output, classes);
  return kSuccess;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Cuts annotated slides, which may be far too large to decode whole, into patches for training: with overlap for "
      "train and val, without for test, divided by slide, never by patch. A patch is called SLIDE_xX_yY after its "
      "place on the slide, where its boxes are after X and Y are added; patches.json tells the rules and counts. The "
      "same input and seed give the same bytes.\n"
      "Reads " +
          (slide_libraries().empty() ? "pictures that can be decoded whole" : "slides by " + slide_libraries()) +
          ", by what was there when it was built.\n"
          "Exit codes: 0 made, 1 a slide or file could not be read or written (what is finished stays for the next "
          "call), 2 wrong command line or configuration.",
      "make-patches"};
  Options options;
  add_options(app, options);
  app.footer(
      "Example (the pictures of `synthesize --help` as small slides):\n"
      "  make-patches --slides out/smears/JPEGImages --annotations out/smears/Annotations --output out/patches "
      "--size 128 --overlap 32");
  return run_program(app, argc, argv, [&] { return run(options); });
}
