// SPDX-License-Identifier: MIT
// A scan finds what the detector finds in the tiles alone, passes over what is empty, and goes on after any stop with
// the same result.
#include "engine/scan/scan_slide.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <span>

#include "data/metrics/box_overlap.h"
#include "engine/evaluation.h"
#include "runtime/base/xxh64.h"
#include "tests/engine/tiny_experiment.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

class ScanSlide : public ::testing::Test {
 protected:
  ScanSlide() {
    loaded_.config = tiny_config("");
    loaded_.config.model.test.score_threshold = 0.001;  // start values find nothing surely
    loaded_.classes = kTinyClasses;
    loaded_.detector = std::make_unique<Detector>(context_, loaded_.config.model, 3);
    loaded_.detector->parameters().initialize(3);
    options_ = {.tile_width = 64, .tile_height = 64, .overlap = 16, .min_score = 0};
    slide_ = folder_ / "slide.png";
    write_image(slide_, picture(150, 110));
  }

  // A part of it, the upper left, is of one colour.
  static Image picture(int width, int height) {
    Image image = gradient_image(width, height);
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x)
        for (int c = 0; c < 3; ++c)
          image.at(x, y)[c] =
              x < 70 && y < 66 ? 240 : static_cast<uint8_t>(image.at(x, y)[c] * 5 + (x / 9 * (y / 7)) * 13);
    return image;
  }

  SlideScan scan(int64_t stop_after = -1) {
    signal_ = 0;
    said_.clear();
    return scan_slide(
        loaded_, slide_, options_, scan_fingerprint(slide_, loaded_, options_), journal_, signal_,
        [&](const std::string& line) { said_ += line + "\n"; },
        [&](int64_t done, int64_t) {
          if (stop_after >= 0 && done >= stop_after) signal_ = 15;
        });
  }

  static void expect_same(const std::vector<Detection>& a, const std::vector<Detection>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].box, b[i].box) << i;
      EXPECT_EQ(a[i].label, b[i].label) << i;
      EXPECT_EQ(a[i].score, b[i].score) << i;
    }
  }

  TemporaryFolder folder_;
  Context context_{1};
  LoadedDetector loaded_;
  ScanOptions options_;
  fs::path slide_, journal_ = folder_ / "slide.part";
  std::atomic<int> signal_ = 0;
  std::string said_;
};

TEST_F(ScanSlide, FindsWhatTheTilesHold) {
  const SlideScan whole = scan();
  EXPECT_EQ(whole.width, 150);
  EXPECT_EQ(whole.tiles, 6);  // 3 x 2: 0, 48, 86 and 0, 46
  EXPECT_EQ(whole.done, 6);
  EXPECT_EQ(whole.empty, 1);
  ASSERT_GT(whole.found.size(), 20u);
  // Each tile as a picture of its own, through the loader.
  const std::vector<Tile> tiles = plan_tiles(150, 110, 64, 64, 16);
  const Image image = read_image(slide_);
  Dataset dataset;
  dataset.classes = kTinyClasses;
  for (size_t i = 1; i < tiles.size(); ++i) {  // the first is empty
    Image part{64, 64, std::vector<uint8_t>(64 * 64 * 3)};
    for (int y = 0; y < 64; ++y) std::copy_n(image.at(tiles[i].x, tiles[i].y + y), 64 * 3, part.at(0, y));
    const std::string name = fmt::format("part{}", i);
    write_image(folder_ / (name + ".png"), part);
    dataset.images.push_back({name, folder_ / (name + ".png"), 64, 64, {}});
  }
  const Detections alone = detect_dataset(*loaded_.detector, dataset, loaded_.config);
  size_t owned = 0;
  const auto is_there = [&](const Detection& wanted) {
    return std::any_of(whole.found.begin(), whole.found.end(), [&](const Detection& d) {
      return d.label == wanted.label && d.score >= wanted.score &&
             (d.box == wanted.box || box_overlap(d.box, wanted.box) > loaded_.config.model.test.nms_iou);
    });
  };
  for (size_t i = 0; i < alone.size(); ++i) {
    const auto x = static_cast<float>(tiles[i + 1].x), y = static_cast<float>(tiles[i + 1].y);
    for (Detection d : alone[i]) {
      d.box = {d.box.x1 + x, d.box.y1 + y, d.box.x2 + x, d.box.y2 + y};
      if (!tiles[i + 1].owns(d.box)) continue;
      ++owned;
      EXPECT_TRUE(is_there(d));
    }
  }
  EXPECT_LT(whole.found.size(), owned) << "some were seen by two tiles";
  for (size_t i = 1; i < whole.found.size(); ++i) {
    EXPECT_GE(whole.found[i - 1].score, whole.found[i].score);
    for (size_t j = 0; j < i; ++j)
      EXPECT_TRUE(whole.found[i].label != whole.found[j].label ||
                  box_overlap(whole.found[i].box, whole.found[j].box) <= loaded_.config.model.test.nms_iou);
  }
  // The least score in the middle of what there is leaves the surer half, and nothing else.
  options_.min_score = whole.found[whole.found.size() / 2].score;
  fs::remove(journal_);
  const SlideScan sure = scan();
  ASSERT_FALSE(sure.found.empty());
  EXPECT_LT(sure.found.size(), whole.found.size());
  for (const Detection& d : sure.found) EXPECT_GE(d.score, options_.min_score);
}

// A tile is seen as a patch of its size would be: enlarged to the network's input, and white beyond a small slide.
TEST_F(ScanSlide, TilesOfAnotherSizeThanTheInput) {
  loaded_.config.loader.resize = "stretch";
  options_.tile_width = options_.tile_height = 128;
  for (const auto& [width, height] : {std::pair(128, 128), std::pair(100, 70)}) {
    const Image image = picture(width, height);
    write_image(slide_, image);
    Image patch{128, 128, std::vector<uint8_t>(128 * 128 * 3, 255)};
    for (int y = 0; y < height; ++y) std::copy_n(image.at(0, y), width * 3, patch.at(0, y));
    write_image(folder_ / "patch.png", patch);
    Dataset dataset;
    dataset.classes = kTinyClasses;
    dataset.images.push_back({"patch", folder_ / "patch.png", 128, 128, {}});
    std::vector<Detection> alone = detect_dataset(*loaded_.detector, dataset, loaded_.config)[0];
    std::erase_if(alone, [&, w = width, h = height](const Detection& d) {
      return (d.box.x1 + d.box.x2) / 2 >= static_cast<float>(w) || (d.box.y1 + d.box.y2) / 2 >= static_cast<float>(h);
    });
    ASSERT_FALSE(alone.empty());
    fs::remove(journal_);
    const SlideScan found = scan();
    EXPECT_EQ(found.tiles, 1);
    EXPECT_LE(found.found.size(), alone.size());
    EXPECT_GT(found.found.size(), alone.size() * 3 / 4) << "but for those that come to overlap where they are cut";
    for (const Detection& d : found.found) {
      EXPECT_LE(d.box.x2, static_cast<float>(width)) << "boxes end with the slide";
      EXPECT_LE(d.box.y2, static_cast<float>(height));
    }
  }
}

TEST_F(ScanSlide, TilesAtTheLimitOfDetectionsAreCounted) {
  for (const auto& [most, full] : {std::pair(-1, 0), std::pair(2, 5)}) {  // all but the empty one
    loaded_.config.model.test.max_per_image = most;
    loaded_.detector = std::make_unique<Detector>(context_, loaded_.config.model, 3);
    loaded_.detector->parameters().initialize(3);
    EXPECT_EQ(scan().full, full);
  }
}

TEST_F(ScanSlide, GoesOnAfterAnyStopWithTheSameResult) {
  const SlideScan whole = scan();
  for (const int64_t stop : {1, 3, 5}) {
    fs::remove(journal_);
    const SlideScan begun = scan(stop);
    ASSERT_FALSE(begun.finished());
    const SlideScan rest = scan();
    EXPECT_EQ(rest.continued, begun.done);
    EXPECT_EQ(rest.done, 6);
    EXPECT_EQ(rest.empty, whole.empty);
    expect_same(rest.found, whole.found);
    EXPECT_EQ(said_, "");
  }
  // A journal that holds all of it: nothing is left to do.
  const SlideScan again = scan();
  EXPECT_EQ(again.continued, 6);
  expect_same(again.found, whole.found);
}

// A line of a journal with the hash that it should have.
std::string summed(std::string object) {
  object.pop_back();
  return object + ",\"xxh64\":\"" + xxh64_hex(std::as_bytes(std::span(object))) + "\"}\n";
}

TEST_F(ScanSlide, ADamagedJournalIsGoodAsFarAsItFollows) {
  const SlideScan whole = scan();
  const std::string journal = get(journal_);
  const size_t second = journal.find('\n', journal.find('\n') + 1) + 1;  // behind the first batch
  const std::string kept = journal.substr(0, second), rest = journal.substr(second);
  const std::vector<std::string> damaged{
      kept + rest.substr(0, 30),
      kept + summed(R"({"from": 3, "next": 99, "empty": 0, "full": 0, "found": []})"),
      kept + summed(R"({"from": 3, "next": 1, "empty": 0, "full": 0, "found": []})"),
      kept + summed(R"({"from": 4, "next": 6, "empty": 0, "full": 0, "found": []})"),  // a gap
      kept + summed(R"({"from": 3, "next": 4, "empty": 2, "full": 0, "found": []})"),
      kept + summed(R"({"from": 3, "next": 4, "empty": 0, "full": 0, "found": [[7, 1, 0, 0, 1, 1]]})"),
      kept + summed(R"({"from": 3, "next": 4, "empty": 0, "full": 0, "found": [[0, 1, 0, 0, 1e18, 1]]})"),
      kept + summed(R"({"from": 3, "next": 4, "empty": 0, "full": 0, "found": [[0, 1, 0, 0, 1, -1]]})"),
      kept + summed(R"({"from": 3, "next": 4, "empty": 0, "full": 0, "found": )" + std::string(100'000, '[') +
                    std::string(100'000, ']') + "}")};
  for (const std::string& text : damaged) {
    put(journal_, text);
    const SlideScan again = scan();
    EXPECT_EQ(again.continued, 3) << "two tiles and the empty one";
    expect_same(again.found, whole.found);
    const SlideScan after = scan();
    EXPECT_EQ(after.continued, 6) << "what was damaged is in nobody's way";
    expect_same(after.found, whole.found);
  }
  // A broken line costs nothing where the next one follows.
  put(journal_, kept + "[]\n" + rest);
  EXPECT_EQ(scan().continued, 6);
  put(journal_, "what is this?\n" + journal);
  EXPECT_EQ(scan().continued, 0);
  EXPECT_HAS(said_, "slide.part.kept_1");
  EXPECT_EQ(get(folder_ / "slide.part.kept_1"), "what is this?\n" + journal);
  put(journal_, "and this?\n");
  EXPECT_EQ(scan().continued, 0);
  EXPECT_EQ(get(folder_ / "slide.part.kept_1"), "what is this?\n" + journal) << "somebody's work";
  EXPECT_EQ(get(folder_ / "slide.part.kept_2"), "and this?\n");
}

// A digit that is another one still gives a number: without a hash it would go into the results.
TEST_F(ScanSlide, EachLineOfAJournalIsVouchedFor) {
  const SlideScan whole = scan();
  const std::string journal = get(journal_);
  const size_t second = journal.find('\n', journal.find('\n') + 1) + 1;  // behind the first batch
  const size_t score = journal.find('.', journal.find("\"found\":[[", second)) + 1,
               sum = journal.find(",\"xxh64\"", second);
  ASSERT_LT(score, sum);
  std::string edited = journal, hashless = journal;
  edited[score] = edited[score] == '0' ? '1' : '0';
  hashless.replace(sum, hashless.find('\n', sum) - sum, "}");  // as earlier versions wrote it
  for (const std::string& text : {edited, hashless}) {
    put(journal_, text);
    const SlideScan again = scan();
    EXPECT_EQ(again.continued, 3);
    EXPECT_HAS(said_, "slide.part: is damaged, or of an earlier version, behind tile 3 of 6");
    expect_same(again.found, whole.found);
    EXPECT_EQ(scan().continued, 6);
    EXPECT_EQ(said_, "") << "said once";
  }
}

TEST_F(ScanSlide, AJournalThatIsDeletedIsWrittenAnew) {
  const SlideScan whole = scan();
  fs::remove(journal_);
  signal_ = 0;
  const Json of = scan_fingerprint(slide_, loaded_, options_);
  std::string said;
  const SlideScan stopped = scan_slide(
      loaded_, slide_, options_, of, journal_, signal_, [&](const std::string& line) { said += line; },
      [&](int64_t done, int64_t) {
        if (done == 3) fs::remove(journal_);
        if (done == 5) signal_ = 15;
      });
  EXPECT_HAS(said, "was deleted or moved; it is written anew");
  EXPECT_EQ(stopped.done, 5);
  EXPECT_EQ(stopped.not_kept, 0);
  const SlideScan rest = scan();
  EXPECT_EQ(rest.continued, 5);
  expect_same(rest.found, whole.found);
}

TEST_F(ScanSlide, WhatIsNotWrittenDownIsCounted) {
  ScanProgress progress;
  progress.tiles = 6;
  std::string said;
  ScanJournal file(journal_, {{"some", 1}}, {3, 100, 100}, progress, [&](const std::string& line) { said += line; });
  file.add({.next = 2, .found = {}}, progress);
  fs::remove(journal_);
  fs::create_directories(journal_ / "in the way");
  file.add({.next = 4, .found = {}}, progress);
  EXPECT_HAS(said, "was deleted or moved");
  EXPECT_EQ(progress.done, 4);
  EXPECT_EQ(file.close(progress), 4);
  fs::remove_all(journal_);
  file.add({.next = 5, .found = {}}, progress);
  EXPECT_HAS(said, "can be written again");
  EXPECT_EQ(file.close(progress), 0);
  ScanProgress again;
  again.tiles = 6;
  const ScanJournal read(journal_, {{"some", 1}}, {3, 100, 100}, again, [](const std::string&) {});
  EXPECT_EQ(again.done, 5);
}

TEST_F(ScanSlide, WhatHasChangedIsDoneAnew) {
  const Json first = scan_fingerprint(slide_, loaded_, options_);
  EXPECT_GT(scan(3).done, 0);
  const auto expect_change = [&](const std::string& what) {
    EXPECT_EQ(difference(first, scan_fingerprint(slide_, loaded_, options_)), what);
    EXPECT_EQ(scan().continued, 0);
  };
  options_.overlap = 8;
  expect_change("--overlap");
  options_.overlap = 16;
  loaded_.config.runtime.deterministic = false;
  expect_change("runtime");
  loaded_.config.runtime.deterministic = true;
  // A running statistic alone is another detector, too.
  for (Parameter& p : loaded_.detector->parameters().all())
    if (p.name.ends_with("running_mean")) p.node.value.view<float>()[0] += 1;
  expect_change("weights");
}

TEST_F(ScanSlide, ASlideThatBreaksOffKeepsWhatWasDone) {
  loaded_.config.loader.batch_size = 1;
  // Noise, which does not compress, without its last quarter: the tiles of the first row can be read.
  Image noise = picture(150, 110);
  uint32_t state = 1;
  for (uint8_t& value : noise.pixels) value = static_cast<uint8_t>((state = state * 1664525 + 1013904223) >> 24);
  write_image(slide_, noise);
  const std::string bytes = get(slide_);
  put(slide_, bytes.substr(0, bytes.size() * 3 / 4));
  EXPECT_HAS(message_of<SlideError>([&] { static_cast<void>(scan()); }), "slide.png");
  const std::string journal = get(journal_);
  EXPECT_GE(std::count(journal.begin(), journal.end(), '\n'), 3) << "a head, and two tiles";
  put(slide_, "no slide");
  EXPECT_THROW(static_cast<void>(scan()), SlideError);
}

TEST_F(ScanSlide, ASlideSmallerThanATileIsOne) {
  write_image(slide_, picture(40, 30));
  const SlideScan small = scan();
  EXPECT_EQ(small.tiles, 1);
  EXPECT_EQ(small.empty, 1) << "all of it is of one colour";
  EXPECT_TRUE(small.found.empty());
  options_.empty_range = 255;
  write_image(slide_, picture(150, 110));
  EXPECT_EQ(scan().empty, 6);
}

TEST_F(ScanSlide, OptionsAreChecked) {
  const auto refusal = [&](ScanOptions options) {
    return message_of([&] { check_options(options, loaded_.config.loader); });
  };
  EXPECT_EQ(refusal(options_), "");
  EXPECT_HAS(refusal({.tile_width = 8, .tile_height = 8}), "--size is 8");
  EXPECT_HAS(refusal({.tile_width = 64, .tile_height = 64, .overlap = 64}), "--overlap is 64");
  EXPECT_HAS(refusal({.tile_width = 128, .tile_height = 128}), "larger than the network's input 64 x 64");
  loaded_.config.loader.resize = "stretch";
  EXPECT_EQ(refusal({.tile_width = 128, .tile_height = 128}), "");
}

}  // namespace
}  // namespace gradlibra
