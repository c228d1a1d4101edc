// SPDX-License-Identifier: MIT
// Synthetic smears: reproducible bytes, the class statistics they promise, files that others can read.
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <array>
#include <chrono>
#include <map>
#include <set>
#include <string>

#include "data/datasets/dataset.h"
#include "data/synthetic/synthesize.h"
#include "data/synthetic/synthetic_classes.h"
#include "tests/files.h"
#include "tests/messages.h"
#include "tests/support.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

bool same(const SynthesizedPatch& a, const SynthesizedPatch& b) {
  if (a.image.pixels != b.image.pixels || a.objects.size() != b.objects.size()) return false;
  for (size_t i = 0; i < a.objects.size(); ++i) {
    if (a.objects[i].box != b.objects[i].box || a.objects[i].label != b.objects[i].label) return false;
  }
  return true;
}

// The whole field of a default patch in few pixels.
SynthesizeConfig small_config() {
  SynthesizeConfig config;
  config.size = 128;
  config.scale = 0.25;
  return config;
}

// --- classes ---------------------------------------------------------------------------------------------------------

TEST(SynthesizeClasses, OrderAndGroupsOfThePaper) {
  const std::vector<std::string> want = {"inflammation", "normal",      "HSIL", "atrophy", "bare_nucleus",
                                         "SCC",          "trichomonad", "LSIL", "ASC_US",  "ASC_H"};
  EXPECT_EQ(cervical_classes(), want);
  ASSERT_EQ(cervical_groups().size(), 3U);
  EXPECT_EQ(cervical_groups().at("frequent"), std::vector<std::string>({"inflammation"}));
  EXPECT_EQ(cervical_groups().at("common"), std::vector<std::string>({"normal", "HSIL"}));
  EXPECT_EQ(cervical_groups().at("rare"), std::vector<std::string>(want.begin() + 3, want.end()));
  EXPECT_EQ(cervical_classes()[kHsil], "HSIL");
  EXPECT_EQ(cervical_classes()[kTrichomonad], "trichomonad");
  EXPECT_EQ(cervical_classes()[kAscH], "ASC_H");
}

TEST(SynthesizeClasses, EveryDeckHoldsEveryClassAndTwoDecksTheSharesInPerCent) {
  const std::array<int, kCellClasses> want = {45, 15, 15, 6, 5, 4, 3, 3, 2, 2};
  std::array<int, kCellClasses> pair{};
  for (uint64_t deck = 6; deck < 8; ++deck) {
    const std::vector<Card> cards = make_deck(1, 0, deck);
    ASSERT_EQ(cards.size(), static_cast<size_t>(kDeckSize));
    EXPECT_FALSE(cards[0].beside_previous);
    std::set<int> seen;
    for (const Card& card : cards) {
      ++pair[card.cell];
      seen.insert(card.cell);
    }
    EXPECT_EQ(seen.size(), static_cast<size_t>(kCellClasses)) << "deck " << deck;
  }
  EXPECT_EQ(pair, want);
  const auto classes = [](const std::vector<Card>& cards) {
    std::vector<int> all;
    for (const Card& card : cards) all.push_back(card.cell);
    return all;
  };
  EXPECT_NE(classes(make_deck(1, 0, 0)), classes(make_deck(1, 0, 2)));
  EXPECT_NE(classes(make_deck(1, 0, 0)), classes(make_deck(2, 0, 0)));
  EXPECT_NE(classes(make_deck(1, 0, 0)), classes(make_deck(1, 1, 0)));
}

// --- patches ---------------------------------------------------------------------------------------------------------

TEST(SynthesizePatch, SameArgumentsSameBytes) {
  const SynthesizeConfig config = small_config();
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(same(synthesize_patch(config, Split::train, i), synthesize_patch(config, Split::train, i)));
}

// Bytes of a fixed patch, so that another compiler, optimisation level or machine is noticed. A deliberate change of
// the drawing changes them: raise the generator number in synthesize.cpp together with this value.
TEST(SynthesizePatch, BytesAreTheSameOnEveryMachine) {
  const SynthesizedPatch patch = synthesize_patch(small_config(), Split::test, 3);
  EXPECT_EQ(testing::hash_bytes(patch.image.pixels), 4813269474339527823ULL);
}

TEST(SynthesizePatch, SeedSplitAndIndexChangeIt) {
  SynthesizeConfig config = small_config();
  const SynthesizedPatch patch = synthesize_patch(config, Split::train, 0);
  EXPECT_FALSE(same(patch, synthesize_patch(config, Split::train, 1)));
  EXPECT_FALSE(same(patch, synthesize_patch(config, Split::val, 0)));
  config.seed = 2;
  EXPECT_FALSE(same(patch, synthesize_patch(config, Split::train, 0)));
}

TEST(SynthesizePatch, BoxesLieInsideAndAreNotEmpty) {
  SynthesizeConfig config = small_config();
  for (const int size : {97, 128, 200}) {
    config.size = size;
    for (int i = 0; i < 12; ++i) {
      const SynthesizedPatch patch = synthesize_patch(config, Split::train, i);
      ASSERT_EQ(patch.image.width, size);
      ASSERT_EQ(patch.image.height, size);
      ASSERT_EQ(patch.image.pixels.size(), static_cast<size_t>(size) * size * 3);
      for (const Object& object : patch.objects) {
        const Box& b = object.box;
        EXPECT_TRUE(b.x1 >= 0 && b.y1 >= 0 && b.x2 <= static_cast<float>(size) && b.y2 <= static_cast<float>(size));
        EXPECT_TRUE(b.x2 - b.x1 >= 3 && b.y2 - b.y1 >= 3) << cervical_classes()[object.label];
        EXPECT_TRUE(object.label >= 0 && object.label < kCellClasses);
        EXPECT_FALSE(object.crowd);
        EXPECT_EQ(object.area, static_cast<double>(b.x2 - b.x1) * (b.y2 - b.y1));
      }
    }
  }
}

TEST(SynthesizePatch, ScaleShrinksTheSameField) {
  SynthesizeConfig large, half;
  large.size = 256, large.scale = 0.5;
  half.size = 128, half.scale = 0.25;
  for (int i = 0; i < 4; ++i) {
    const SynthesizedPatch a = synthesize_patch(large, Split::val, i), b = synthesize_patch(half, Split::val, i);
    ASSERT_EQ(a.objects.size(), b.objects.size());
    for (size_t k = 0; k < a.objects.size(); ++k) {
      EXPECT_EQ(a.objects[k].label, b.objects[k].label);
      EXPECT_NEAR(a.objects[k].box.x1, 2 * b.objects[k].box.x1, 3);
      EXPECT_NEAR(a.objects[k].box.y1, 2 * b.objects[k].box.y1, 3);
      EXPECT_NEAR(a.objects[k].box.x2, 2 * b.objects[k].box.x2, 3);
      EXPECT_NEAR(a.objects[k].box.y2, 2 * b.objects[k].box.y2, 3);
    }
  }
}

TEST(SynthesizePatch, CountsFollowTheLongTailAndNoSplitLacksAClass) {
  const SynthesizeConfig config = small_config();
  const auto count = [&](Split split, int patches) {
    std::array<int, kCellClasses> n{};
    for (int i = 0; i < patches; ++i) {
      for (const Object& object : synthesize_patch(config, split, i).objects) ++n[object.label];
    }
    return n;
  };
  const std::array<int, kCellClasses> train = count(Split::train, 200), val = count(Split::val, config.val),
                                      test = count(Split::test, config.test);
  double total = 0, rare = 0;
  for (int c = 0; c < kCellClasses; ++c) {
    total += train[c];
    if (c >= kAtrophy) rare += train[c];
    EXPECT_GE(val[c], 6) << cervical_classes()[c];
    EXPECT_GE(test[c], 15) << cervical_classes()[c];
  }
  EXPECT_NEAR(total / 200, config.cells_per_patch, 1);
  EXPECT_NEAR(train[kInflammation] / total, 0.45, 0.02);
  EXPECT_NEAR(train[kNormal] / total, 0.15, 0.015);
  EXPECT_NEAR(train[kHsil] / total, 0.15, 0.015);
  EXPECT_NEAR(rare / total, 0.25, 0.02);
  for (int c = kAtrophy; c < kCellClasses; ++c) {
    EXPECT_LT(train[c], train[kHsil] / 2) << cervical_classes()[c];
    EXPECT_GT(train[c] / total, 0.015) << cervical_classes()[c];
    EXPECT_LE(train[c], train[c - 1] + 2) << cervical_classes()[c];
  }
}

TEST(SynthesizePatch, NoCellsAndSmallestSizes) {
  SynthesizeConfig config;
  config.size = 32;
  config.cells_per_patch = 0;
  EXPECT_TRUE(synthesize_patch(config, Split::train, 0).objects.empty());
  config.scale = 0.1;
  config.cells_per_patch = 100;
  EXPECT_FALSE(synthesize_patch(config, Split::train, 0).objects.empty());
  config.scale = 4;
  EXPECT_NO_THROW((void)synthesize_patch(config, Split::train, 0));
}

TEST(SynthesizePatch, RefusesNonsenseAndNamesTheKey) {
  const auto message = [](auto change) {
    SynthesizeConfig config;
    change(config);
    return message_of<std::invalid_argument>([&] { (void)synthesize_patch(config, Split::train, 0); });
  };
  EXPECT_NE(message([](SynthesizeConfig& c) { c.size = 31; }).find("size is 31"), std::string::npos);
  EXPECT_NE(message([](SynthesizeConfig& c) { c.scale = std::nan(""); }).find("scale is nan"), std::string::npos);
  EXPECT_NE(message([](SynthesizeConfig& c) { c.cells_per_patch = -1; }).find("cells_per_patch is -1"),
            std::string::npos);
  EXPECT_NE(message([](SynthesizeConfig& c) { c.test = -2; }).find("test is -2"), std::string::npos);
  EXPECT_THROW((void)synthesize_patch({}, Split::train, -1), std::invalid_argument);
}

// --- files -----------------------------------------------------------------------------------------------------------

class SynthesizeFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.train = 7, config_.val = 6, config_.test = 6, config_.size = 64, config_.scale = 0.125;
  }
  std::map<std::string, std::string> contents() const {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(root_)) {
      if (entry.is_regular_file()) all[fs::relative(entry.path(), root_).string()] = get(entry.path());
    }
    return all;
  }

  SynthesizeConfig config_;
  TemporaryFolder folder_;
  const fs::path root_ = folder_ / "smears";
};

// Threads drew the files, one after another here: the bytes do not depend on which thread drew what.
TEST_F(SynthesizeFiles, ReadBackAsWritten) {
  synthesize(config_, root_);
  const YAML::Node list = YAML::LoadFile((root_ / "classes.yaml").string());
  EXPECT_EQ(list["classes"].as<std::vector<std::string>>(), cervical_classes());
  EXPECT_EQ((list["groups"].as<std::map<std::string, std::vector<std::string>>>()), cervical_groups());

  DatasetConfig voc;
  voc.root = root_.string();
  voc.classes = cervical_classes();
  voc.groups = cervical_groups();
  int images = 0, objects = 0;
  for (const auto& [split, count] : {std::pair{Split::train, 7}, std::pair{Split::val, 6}, std::pair{Split::test, 6}}) {
    std::vector<Finding> findings;
    const Dataset dataset = read_dataset(voc, split, findings, true);
    for (const Finding& finding : findings)
      ADD_FAILURE() << finding.file << " " << finding.where << " " << finding.message;
    ASSERT_EQ(dataset.images.size(), static_cast<size_t>(count));
    for (int i = 0; i < count; ++i, ++images) {
      const SynthesizedPatch want = synthesize_patch(config_, split, i);
      const ImageRecord& got = dataset.images[i];
      EXPECT_EQ(read_image(got.path).pixels, want.image.pixels) << got.id;
      ASSERT_EQ(got.objects.size(), want.objects.size()) << got.id;
      for (size_t k = 0; k < want.objects.size(); ++k, ++objects) {
        // VOC stores the last pixel inside, and its readers subtract 1 from all four numbers.
        Box box = want.objects[k].box;
        box.x2 -= 1, box.y2 -= 1;
        EXPECT_EQ(got.objects[k].box, box) << got.id << " object " << k;
        EXPECT_EQ(got.objects[k].label, want.objects[k].label);
        EXPECT_EQ(got.objects[k].difficult, want.objects[k].difficult);
      }
    }
  }
  EXPECT_EQ(images, 19);
  EXPECT_GT(objects, 150);
}

TEST_F(SynthesizeFiles, TruncatedIsSetAtTheBorderOnly) {
  config_.train = 0, config_.val = 0, config_.test = 3;
  synthesize(config_, root_);
  EXPECT_EQ(get(root_ / "ImageSets" / "Main" / "train.txt"), "");
  EXPECT_EQ(get(root_ / "ImageSets" / "Main" / "test.txt"), "test_00000\ntest_00001\ntest_00002\n");
  for (int i = 0; i < 3; ++i) {
    const std::string xml = get(root_ / "Annotations" / ("test_0000" + std::to_string(i) + ".xml"));
    size_t at = 0;
    for (const Object& object : synthesize_patch(config_, Split::test, i).objects) {
      at = xml.find("<truncated>", at + 1);
      ASSERT_NE(at, std::string::npos);
      const Box& b = object.box;
      const bool border = b.x1 == 0 || b.y1 == 0 || b.x2 == 64 || b.y2 == 64;
      EXPECT_EQ(xml.at(at + 11), border ? '1' : '0');
    }
    EXPECT_EQ(xml.find("<truncated>", at + 1), std::string::npos);
  }
}

TEST_F(SynthesizeFiles, CompleteSetIsLeftAloneAndAnInterruptedOneCompleted) {
  synthesize(config_, root_);
  const auto first = contents();
  const fs::path kept = root_ / "JPEGImages" / "train_00000.png", lost = root_ / "JPEGImages" / "train_00003.png";
  const auto old = fs::file_time_type::clock::now() - std::chrono::hours(1);
  fs::last_write_time(kept, old);
  const auto stamp = fs::last_write_time(kept);
  fs::remove(lost);
  fs::remove(root_ / "ImageSets" / "Main" / "val.txt");
  synthesize(config_, root_);
  EXPECT_EQ(fs::last_write_time(kept), stamp);
  EXPECT_EQ(contents(), first);
}

TEST_F(SynthesizeFiles, AnotherConfigurationOrAForeignFolderIsRefusedUntouched) {
  synthesize(config_, root_);
  const auto before = contents();
  SynthesizeConfig other = config_;
  other.seed = 9;
  EXPECT_THROW(synthesize(other, root_), std::runtime_error);
  EXPECT_EQ(contents(), before);

  fs::remove(root_ / "synthesis.yaml");
  auto foreign = before;
  foreign.erase("synthesis.yaml");
  EXPECT_THROW(synthesize(config_, root_), std::runtime_error);
  EXPECT_EQ(contents(), foreign);
}

}  // namespace
}  // namespace gradlibra
