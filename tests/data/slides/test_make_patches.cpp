// SPDX-License-Identifier: MIT
// From slides with cells at known places to patches and back.
#include "data/slides/make_patches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "tests/data/slides/make_patches_test.h"

namespace gradlibra {
namespace {

using PlacedBox = std::tuple<std::string, int, int, int, int>;  // class and corners on the slide

TEST_F(MakePatchesTest, EveryCellIsFoundAgainOnItsSlide) {
  put_slides(6);
  options_.background = 1;
  make("out");
  std::set<std::string> seen_slides;
  std::map<std::string, std::string> split_of;
  for (const std::string split : {"train", "val", "test"}) {
    const Json file = coco("out", split);
    std::map<int64_t, Json> images;
    std::map<int64_t, std::string> classes;
    std::map<std::string, std::set<PlacedBox>> whole;
    for (const Json& category : file["categories"]) classes[category["id"]] = category["name"];
    std::map<std::string, std::vector<int>> covered;
    for (const Json& image : file["images"]) {
      images[image["id"]] = image;
      const std::string name = image["file_name"];
      const auto place = patch_place(name);
      ASSERT_TRUE(place.has_value());
      EXPECT_EQ(place->slide, image["slide"]);
      EXPECT_EQ(place->x, image["x"]);
      // Pixels are those of the slide, white beyond it.
      const Image patch = read_image(folder_ / ("out/images/" + name));
      ASSERT_EQ(patch.width, 64);
      ASSERT_EQ(patch.height, 64);
      const Image& slide = images_.at(place->slide);
      auto& count = covered[place->slide];
      count.resize(static_cast<size_t>(slide.width) * slide.height);
      for (int y = 0; y < 64; ++y) {
        for (int x = 0; x < 64; ++x) {
          const bool inside = place->x + x < slide.width && place->y + y < slide.height;
          ASSERT_TRUE(inside || split == "test");
          if (inside) ++count[static_cast<size_t>(place->y + y) * slide.width + place->x + x];
          for (int c = 0; c < 3; ++c)
            ASSERT_EQ(patch.at(x, y)[c], inside ? slide.at(place->x + x, place->y + y)[c] : 255);
        }
      }
      split_of[place->slide] = split;
    }
    for (const auto& [slide, count] : covered) {
      EXPECT_TRUE(seen_slides.insert(slide).second) << slide << " is in two splits";
      for (const int n : count) ASSERT_TRUE(split == "test" ? n == 1 : n >= 1);
    }
    for (const Json& annotation : file["annotations"]) {
      const Json& image = images.at(annotation["image_id"]);
      const std::vector<double> box = annotation["bbox"];
      ASSERT_GE(box[0], 0);
      ASSERT_LE(box[0] + box[2], 64);
      if (annotation["iscrowd"] == 1) continue;
      const int x = image["x"], y = image["y"];
      const PlacedBox placed{classes.at(annotation["category_id"]), x + static_cast<int>(box[0]),
                             y + static_cast<int>(box[1]), x + static_cast<int>(box[0] + box[2]),
                             y + static_cast<int>(box[1] + box[3])};
      whole[image["slide"]].insert(placed);
    }
    for (const auto& [slide, boxes] : whole) {
      size_t found = 0;
      for (const Cell& cell : cells_.at(slide))
        found += boxes.contains({cell.name, cell.x1, cell.y1, cell.x2, cell.y2});
      // With an overlap as large as a cell each is whole somewhere; without, those that no border cuts.
      if (split != "test") {
        EXPECT_EQ(found, cells_.at(slide).size()) << slide;
      }
      // What is not a whole cell is most of one.
      for (const PlacedBox& box : boxes) {
        const bool known = std::any_of(cells_.at(slide).begin(), cells_.at(slide).end(), [&](const Cell& c) {
          const auto& [name, x1, y1, x2, y2] = box;
          const int area = (c.x2 - c.x1) * (c.y2 - c.y1);
          return c.name == name && c.x1 <= x1 && c.y1 <= y1 && c.x2 >= x2 && c.y2 >= y2 &&
                 2 * (x2 - x1) * (y2 - y1) >= area;
        });
        EXPECT_TRUE(known) << slide << " " << std::get<0>(box) << " " << std::get<1>(box) << " " << std::get<2>(box);
      }
    }
  }
  EXPECT_EQ(seen_slides.size(), 6u);
  const Json manifest = Json::parse(get(folder_ / "out/patches.json"));
  for (const Json& slide : manifest["slides"]) EXPECT_EQ(slide["split"], split_of.at(slide["name"]));
  EXPECT_FALSE(fs::exists(folder_ / "out.part"));
  EXPECT_FALSE(fs::exists(folder_ / "out/records"));
  EXPECT_EQ(tree("out").size(), 4 + coco("out", "train")["images"].size() + coco("out", "val")["images"].size() +
                                    coco("out", "test")["images"].size());
}

// The manifest's counts against the files themselves.
TEST_F(MakePatchesTest, TheManifestCountsWhatIsThere) {
  put_slides(6);
  options_.background = 0.4;
  make("out");
  const Json manifest = Json::parse(get(folder_ / "out/patches.json"));
  for (const std::string split : {"train", "val", "test"}) {
    const Json file = coco("out", split), &counts = manifest["splits"][split];
    EXPECT_EQ(counts["patches"], file["images"].size());
    std::map<std::string, int64_t> targets, ignored;
    std::map<int64_t, std::string> classes;
    std::map<int64_t, int> per_image;
    for (const Json& category : file["categories"]) classes[category["id"]] = category["name"];
    for (const Json& a : file["annotations"]) {
      const bool crowd = a["iscrowd"] == 1;
      ++(crowd ? ignored : targets)[classes.at(a["category_id"])];
      per_image[a["image_id"]] += !crowd;
    }
    for (const auto& [id, name] : classes) {
      const Json& boxes = counts["boxes"][name];
      EXPECT_EQ(boxes["whole"].get<int64_t>() + boxes["cut"].get<int64_t>(), targets[name]) << split << " " << name;
      EXPECT_EQ(boxes["ignored"], ignored[name]) << split << " " << name;
    }
    int64_t background = 0;
    for (const Json& image : file["images"]) background += per_image[image["id"]] == 0;
    EXPECT_EQ(counts["background"], background) << split;
    if (split == "train") {
      EXPECT_GT(counts["background_left_out"], 0);
    } else {
      EXPECT_EQ(counts["background_left_out"], 0) << split;
    }
  }
}

TEST_F(MakePatchesTest, BackgroundIsKeptByItsShare) {
  AnnotatedSlide slide{"s", "", 6400, 6400, {{.box = {10, 10, 30, 30}, .label = 0}}};
  PatchOptions options;
  options.size = 64;
  options.overlap = 0;
  const auto kept = [&](Split split, double share, int64_t seed = 1) {
    options.background = options.val_background = share;
    options.seed = seed;
    const SlidePlan plan = plan_slide(slide, split, 1, options);
    EXPECT_EQ(plan.background + plan.background_left_out, 100 * 100 - 1);
    EXPECT_EQ(plan.patches.size(), static_cast<size_t>(plan.background) + 1);
    return plan.background;
  };
  EXPECT_EQ(kept(Split::train, 0), 0);
  EXPECT_EQ(kept(Split::train, 1), 9999);
  EXPECT_EQ(kept(Split::test, 0), 9999);  // all of it, whatever the shares
  const int64_t some = kept(Split::train, 0.3);
  EXPECT_NEAR(static_cast<double>(some), 3000, 4 * 46);  // four standard deviations
  EXPECT_NE(kept(Split::train, 0.3, 2), some);
  EXPECT_EQ(kept(Split::val, 0.3), some);
}

TEST_F(MakePatchesTest, PatientsStayTogether) {
  put_slides(12);
  options_.group_by = "^(p[0-9]+)_";
  for (const int64_t seed : {1, 2, 3}) {
    options_.seed = seed;
    make(fmt("out", static_cast<int>(seed)));
    std::map<std::string, std::set<std::string>> splits;
    const Json manifest = Json::parse(get(folder_ / fmt("out", static_cast<int>(seed)) / "patches.json"));
    for (const Json& slide : manifest["slides"]) {
      const std::string name = slide["name"];
      EXPECT_EQ(slide["group"], name.substr(0, 2));
      splits[name.substr(0, 2)].insert(slide["split"]);
    }
    EXPECT_EQ(splits.size(), 6u);
    for (const auto& [patient, in] : splits) EXPECT_EQ(in.size(), 1u) << patient;
    for (const char* split : {"train", "val", "test"}) EXPECT_GE(manifest["splits"][split]["groups"], 1);
  }
}

TEST_F(MakePatchesTest, SplitsAsListed) {
  put_slides(4);
  const std::string a = can_decode(ImageFormat::tiff) ? "p0_a.tif" : "p0_a.png";
  options_.splits = (folder_ / "splits.txt").string();
  const auto with = [&](const std::string& lines) {
    put(folder_ / "splits.txt", lines);
    return refusal("out");
  };
  EXPECT_HAS(with(a + " test\np0_b train\n"), "splits.txt: does not list slide 'p1_a'");
  EXPECT_HAS(with("p0_a train\np0_a test\n"), "line 2: slide 'p0_a' is listed twice");
  EXPECT_HAS(with("p0_a train\n\np9 test\n"), "line 3: there is no slide 'p9'");
  EXPECT_HAS(with("p0_a\n"), "line 1: 'p0_a' is no slide with train, val or test behind it");
  options_.group_by = "^(p[0-9])";
  const std::string lines = a + ", test\r\np0_b,train\np1_a\ttrain\np1_b train";
  EXPECT_HAS(with(lines), "slides 'p0_a' and 'p0_b' are of one group ('p0', --group-by) and in two splits");
  options_.group_by = "";
  ASSERT_EQ(with(lines), "");
  const Json splits = Json::parse(get(folder_ / "out/patches.json"))["splits"];
  EXPECT_EQ(splits["test"]["slides"], Json({"p0_a"}));
  EXPECT_EQ(splits["train"]["slides"], Json({"p0_b", "p1_a", "p1_b"}));
  EXPECT_EQ(splits["val"]["patches"], 0);
}

TEST_F(MakePatchesTest, SevenToThreeBySlide) {
  put_slides(20);
  options_.val = 0;
  make("out");
  const Json splits = Json::parse(get(folder_ / "out/patches.json"))["splits"];
  EXPECT_NEAR(static_cast<double>(splits["test"]["slides"].size()), 6, 1);
  EXPECT_FALSE(fs::exists(folder_ / "out/annotations/val.json"));
}

TEST_F(MakePatchesTest, TooFewSlidesToDivideAreRefused) {
  put_slides(2);
  EXPECT_HAS(refusal("out"),
             "2 slides in 2 groups (p0_a, p0_b) cannot be divided into train 0.5, val 0.2 and test 0.3");
  options_.val = 0;
  EXPECT_EQ(refusal("out"), "");
  options_.group_by = "^(p)";
  EXPECT_HAS(refusal("out2"), "2 slides in 1 group (p)");
  EXPECT_FALSE(fs::exists(folder_ / "out2.part"));
}

TEST_F(MakePatchesTest, TheSameInputGivesTheSameBytes) {
  put_slides(5);
  options_.format = "voc";
  options_.background = 0.5;
  make("a");
  options_.jobs = 1;
  options_.memory_bytes = 1 << 20;
  make("b");
  EXPECT_EQ(tree("a"), tree("b"));
  EXPECT_EQ(get(folder_ / "a/classes.yaml"), "classes:\n  - \"disc\"\n  - \"square\"\n");
  // Again: nothing is done. With another option: refused.
  EXPECT_TRUE(make("a").were_there);
  options_.seed = 2;
  EXPECT_HAS(refusal("a"), "holds patches of other slides, annotations or options");
  make("c");
  EXPECT_NE(tree("a"), tree("c"));
  // Read by this program as it was written.
  DatasetConfig config;
  config.root = (folder_ / "a").string();
  config.classes = {"disc", "square"};
  std::vector<Finding> findings;
  const Dataset test = read_dataset(config, Split::test, findings, true);
  EXPECT_TRUE(of_kind(findings, Finding::Kind::outside_box).empty()) << spelled(findings);
  int64_t targets = 0;
  const Json manifest = Json::parse(get(folder_ / "a/patches.json"));
  for (const auto& [name, boxes] : manifest["splits"]["test"]["boxes"].items())
    targets += boxes["whole"].get<int64_t>() + boxes["cut"].get<int64_t>();
  EXPECT_EQ(test.summary.targets(), targets);
  // Each box is a cell's to the pixel, cut at the border of its patch, a pixel before the right and the lower one.
  ASSERT_FALSE(test.images.empty());
  for (const ImageRecord& image : test.images) {
    const auto place = patch_place(image.path.filename().string());
    ASSERT_TRUE(place.has_value());
    for (const Object& object : image.objects) {
      const auto is_of = [&](const Cell& cell) {
        return object.box.x1 == std::max(cell.x1 - place->x, 0) && object.box.y1 == std::max(cell.y1 - place->y, 0) &&
               object.box.x2 == std::min(cell.x2 - place->x, 63) && object.box.y2 == std::min(cell.y2 - place->y, 63);
      };
      const std::vector<Cell>& cells = cells_.at(std::string(place->slide));
      EXPECT_TRUE(std::any_of(cells.begin(), cells.end(), is_of)) << image.id;
    }
  }
}

TEST_F(MakePatchesTest, AnInterruptedRunGoesOn) {
  put_slides(5);
  make("whole");
  const auto want = tree("whole");
  // A slide that cannot be read to its end: the others are finished, and nothing looks like a data set.
  const fs::path victim = folder_ / "slides/p1_b.png";
  const std::string bytes = get(victim);
  const auto time = fs::last_write_time(victim);
  put(victim, bytes.substr(0, bytes.size() - 200));
  const std::string said = refusal("out");
  EXPECT_HAS(said, "1 of 5 slides could not be read");
  EXPECT_HAS(said, "p1_b.png: cannot be decoded from row");
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  EXPECT_FALSE(fs::exists(folder_ / "out.part/patches.json"));
  EXPECT_FALSE(fs::exists(folder_ / "out.part/annotations"));
  put(victim, bytes);
  fs::last_write_time(victim, time);
  // As a kill would leave it: half a file beside, a slide half done.
  put(folder_ / "out.part/images/p0_a_x00000_y00000.png.tmp.1.2", "half");
  put(folder_ / "out.part/images/nobody_x00000_y00000.png", "of another call");
  const std::string record = get(folder_ / "out.part/records/p0_b.json");
  const size_t at = record.find("true");
  ASSERT_NE(at, std::string::npos);
  put(folder_ / "out.part/records/p0_b.json", std::string(record).replace(at, 4, "false"));
  fs::path removed;
  for (const auto& entry : fs::directory_iterator(folder_ / "out.part/images"))
    if (entry.path().filename().string().starts_with("p0_b")) removed = entry.path();
  ASSERT_FALSE(removed.empty());
  fs::remove(removed);
  // And what a power cut may leave of a finished one.
  for (const auto& entry : fs::directory_iterator(folder_ / "out.part/images"))
    if (entry.path().filename().string().starts_with("p0_a")) put(entry.path(), "");
  make("out");
  EXPECT_HAS(said_, "p0_a (");
  EXPECT_HAS(said_, "finished before");
  EXPECT_HAS(said_, " were there");
  EXPECT_EQ(tree("out"), want);
}

// What was made of other input is never taken for that of this one.
TEST_F(MakePatchesTest, ChangedInputIsMadeAnew) {
  put_slides(5);
  const fs::path victim = folder_ / "slides/p1_b.png";
  const std::string bytes = get(victim);
  put(victim, bytes.substr(0, bytes.size() - 200));
  options_.fill = 0;
  EXPECT_NE(refusal("out"), "");
  put(victim, bytes);
  options_.fill = 255;
  make("out");
  EXPECT_HAS(said_, "anew: changed --fill");
  make("straight");
  EXPECT_EQ(tree("out"), tree("straight"));
}

TEST_F(MakePatchesTest, FoldersThatHoldSomethingElseAreLeftAlone) {
  put_slides(4);
  put(folder_ / "mine/thesis.txt", "ten years");
  EXPECT_HAS(refusal("mine"), "mine: is not empty");
  put(folder_ / "file", "x");
  EXPECT_HAS(refusal("file"), "file: is not empty");
  put(folder_ / "out.part/other.txt", "x");
  EXPECT_HAS(refusal("out"), "make-patches did not make it");
  EXPECT_EQ(get(folder_ / "mine/thesis.txt") + get(folder_ / "file"), "ten yearsx");
  fs::create_directories(folder_ / "empty");
  EXPECT_EQ(refusal("empty"), "");
  EXPECT_TRUE(fs::exists(folder_ / "empty/patches.json"));
}

TEST_F(MakePatchesTest, ASlideSmallerThanAPatchIsPadded) {
  put_slides(4);
  options_.size = 400;
  make("out");
  for (const std::string split : {"train", "test"})
    for (const Json& image : coco("out", split)["images"]) {
      EXPECT_EQ(image["x"], 0);
      EXPECT_EQ(image["y"], 0);
    }
  EXPECT_EQ(Json::parse(get(folder_ / "out/patches.json"))["warnings"].size(), 0u);
}

// As the header of a damaged picture may state it: refused before anything of that size is allocated.
TEST_F(MakePatchesTest, ASlideOfTooManyPatchesIsRefused) {
  const AnnotatedSlide slide{"a", "slides/a.png", 100'000, INT32_MAX, {}, 0};
  options_.background = 1;
  const std::string said =
      message_of<std::runtime_error>([&] { static_cast<void>(plan_slide(slide, Split::train, 1, options_)); });
  expect_mentions(said, {"slides/a.png: 100000 x 2147483647 pixels are 1459617705 patches of 512 x 512, more than "
                         "16777216: a larger --size or a smaller --overlap",
                         "the file is damaged"});
  // One of few patches, the last of which ends where int does.
  const AnnotatedSlide long_one{"b", "b.png", 40, INT32_MAX, {{{0, 2147483008, 40, 2147483520}, 0, false, false, 1}},
                                0};
  const SlidePlan plan = plan_slide(long_one, Split::train, 1, {.size = 8192});
  ASSERT_FALSE(plan.patches.empty());
  EXPECT_EQ(plan.patches.back().y, INT32_MAX - 8192);
}

// Those of a set that is not finished yet.
TEST_F(MakePatchesTest, DamagedRecordsAreNone) {
  put_slides(6);
  const fs::path victim = folder_ / "slides/p1_b.png";
  const std::string bytes = get(victim);
  const auto time = fs::last_write_time(victim);
  put(victim, bytes.substr(0, bytes.size() - 200));
  EXPECT_NE(refusal("out"), "");
  put(victim, bytes);
  fs::last_write_time(victim, time);
  const auto record = [&](const std::string& slide) { return folder_ / ("out.part/records/" + slide + ".json"); };
  Json text = Json::parse(get(record("p0_a")));
  text["finished"] = "x";
  put(record("p0_a"), text.dump());
  put(record("p0_b"), "{\"of\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}");
  put(record("p1_a"), "");
  make("out");
  make("straight");
  EXPECT_EQ(tree("out"), tree("straight"));
}

// What the disk or a copy has cut off, or somebody exchanged.
TEST_F(MakePatchesTest, DamagedPatchesOfAnUnfinishedSetAreMadeAnew) {
  for (const char* format : {"coco", "voc"}) {
    for (const char* image : {"png", "jpg"}) {
      options_.format = format;
      options_.image = image;
      put_slides(6);
      const fs::path victim = folder_ / "slides/p1_b.png";
      const std::string bytes = get(victim);
      const auto time = fs::last_write_time(victim);
      put(victim, bytes.substr(0, bytes.size() - 200));
      const std::string name = std::string("out_") + format + "_" + image;
      EXPECT_NE(refusal(name), "");
      put(victim, bytes);
      fs::last_write_time(victim, time);
      std::map<std::string, std::vector<fs::path>> patches;  // by slide
      const fs::path part = folder_ / (name + ".part"), pictures = part / picture_folder(options_);
      for (const auto& entry : fs::directory_iterator(pictures))
        patches[entry.path().filename().string().substr(0, 4)].push_back(entry.path());
      ASSERT_GE(std::min(patches["p0_a"].size(), patches["p0_b"].size()), 2u);
      const fs::path cut = patches["p0_a"][0], exchanged = patches["p0_b"][0];
      const std::string half = get(cut);
      put(cut, half.substr(0, half.size() / 2));
      // A whole picture, but another one.
      Image other = read_image(exchanged);
      std::fill(other.pixels.begin(), other.pixels.end(), static_cast<uint8_t>(9));
      write_image(exchanged, other);
      if (options_.format == "voc") {
        const fs::path xml = part / "Annotations" / patches["p0_a"][1].filename().replace_extension(".xml");
        put(xml, get(xml).substr(0, 40));
      }
      make(name);
      EXPECT_HAS(said_, "p0_a (");
      EXPECT_HAS(said_, "finished before");
      make("straight_" + name);
      EXPECT_EQ(tree(name), tree("straight_" + name));
    }
  }
}

TEST_F(MakePatchesTest, LossesAreSaid) {
  put_slides(4);
  const std::string extension = can_decode(ImageFormat::tiff) ? ".tif" : ".png";
  put(folder_ / "cells.csv", get(folder_ / "cells.csv") + "p0_a" + extension + ",square,0,0,140,120\n");
  const MadePatches made = make("out");
  EXPECT_HAS(made.table, "has 1 of its boxes, but for ignored or dropped remains");
}

}  // namespace
}  // namespace gradlibra
