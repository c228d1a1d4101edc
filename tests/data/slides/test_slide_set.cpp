// SPDX-License-Identifier: MIT
// Slides and annotations brought together: every way in which they do not fit is named before a pixel is read.
#include "data/slides/slide_set.h"

#include <gtest/gtest.h>

#include "tests/data/slides/slide_files.h"

namespace gradlibra {
namespace {

class SlideSetTest : public ::testing::Test {
 protected:
  void put_slide(const std::string& name, int width = 200, int height = 150) {
    std::filesystem::create_directories(folder_ / "slides");
    write_image(folder_ / ("slides/" + name), plain_image(width, height));
  }
  SlideSet read(const std::string& annotations) {
    findings_.clear();
    input_.slides = folder_ / "slides";
    input_.annotations = folder_ / annotations;
    return read_slides(config_, input_, rows_, findings_);
  }
  std::string refusal(const std::string& annotations) {
    return message_of<std::runtime_error>([&] { static_cast<void>(read(annotations)); });
  }
  void put_csv(const std::string& lines) { put(folder_ / "a.csv", kCsvHead + lines); }

  TemporaryFolder folder_;
  SlideInput input_;
  int rows_ = 64;
  DatasetConfig config_;
  std::vector<Finding> findings_;
};

TEST_F(SlideSetTest, ATableOfBoxes) {
  put_slide("b.png");
  put_slide("a b.jpg", 90, 80);
  put_slide("empty.png");
  put(folder_ / "slides/notes.txt", "not a slide");
  put(folder_ / "a.csv",
      "\xef\xbb\xbfymin;xmin;extra;xmax;ymax;Class;image\r\n"
      "20.5;10;x;30;40;disc;b.png\r\n"
      "\r\n"
      "1;2;;5;9;\"bar; long\";folder\\a b\n"
      ";;;;;;empty.png\n");
  const SlideSet set = read("a.csv");
  EXPECT_EQ(set.classes, (std::vector<std::string>{"bar; long", "disc"}));
  ASSERT_EQ(set.slides.size(), 3u);
  EXPECT_EQ(set.slides[0].name, "a_b");
  EXPECT_EQ(set.slides[0].width, 90);
  EXPECT_EQ(set.slides[0].objects.at(0).box, (Box{2, 1, 5, 9}));
  EXPECT_EQ(set.slides[1].name, "b");
  EXPECT_EQ(set.slides[1].objects.at(0).box, (Box{10, 20.5F, 30, 40}));
  EXPECT_EQ(set.slides[1].objects.at(0).label, 1);
  EXPECT_TRUE(set.slides[2].objects.empty());
  EXPECT_EQ(set.left_out, "1 .txt");
  EXPECT_TRUE(findings_.empty()) << spelled(findings_);
}

TEST_F(SlideSetTest, CocoAndVoc) {
  put_slide("s1.png");
  put_slide("s2.png");
  put(folder_ / "a.json", R"({"images": [{"id": 4, "file_name": "s1", "width": 200, "height": 150},
      {"id": 9, "file_name": "s2.png", "width": 200, "height": 150}],
    "categories": [{"id": 7, "name": "disc"}, {"id": 3, "name": "bar"}],
    "annotations": [{"id": 1, "image_id": 9, "category_id": 7, "bbox": [10, 20, 30, 40], "area": 900, "iscrowd": 0},
                    {"id": 2, "image_id": 9, "category_id": 3, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 1}]})");
  const SlideSet coco = read("a.json");
  EXPECT_EQ(coco.classes, (std::vector<std::string>{"bar", "disc"}));
  EXPECT_EQ(coco.category_ids.at("disc"), 7);
  ASSERT_EQ(coco.slides.size(), 2u);
  EXPECT_TRUE(coco.slides[0].objects.empty());
  EXPECT_EQ(coco.slides[1].objects.at(0).box, (Box{10, 20, 40, 60}));
  EXPECT_EQ(coco.slides[1].objects.at(0).area, 900);
  EXPECT_TRUE(coco.slides[1].objects.at(1).crowd);

  put(folder_ / "xml/s1.xml", voc_xml("s1.png", 200, 150, {{"disc", "11", "21", "41", "61"}}));
  put(folder_ / "xml/s2.xml", voc_xml("s2.png", 200, 150, {{"bar", "1", "1", "9", "9", 1}}));
  const SlideSet voc = read("xml");
  ASSERT_EQ(voc.slides.size(), 2u);
  EXPECT_EQ(voc.slides[0].objects.at(0).box, (Box{10, 20, 40, 60}));
  EXPECT_TRUE(voc.slides[1].objects.at(0).difficult);
}

TEST_F(SlideSetTest, BoxesAreMendedOrDroppedAndCounted) {
  put_slide("a.png");
  put_csv(
      "a.png,disc,-5,10,20,30\n"      // leaves the slide: cut
      "a.png,disc,50,60,40,20\n"      // swapped
      "a.png,disc,10,10,10,30\n"      // no width
      "a.png,disc,400,10,420,30\n"    // outside
      "a.png,disc,1,2,x,4\n"          // no number
      "a.png,disc,190,140,300,400\n"  // leaves the slide: cut
      ",disc,1,2,3,4\n");
  const SlideSet set = read("a.csv");
  ASSERT_EQ(set.slides.at(0).objects.size(), 3u);
  EXPECT_EQ(set.slides[0].objects[0].box, (Box{0, 10, 20, 30}));
  EXPECT_EQ(set.slides[0].objects[1].box, (Box{40, 20, 50, 60}));
  EXPECT_EQ(set.slides[0].objects[2].box, (Box{190, 140, 200, 150}));
  using Kind = Finding::Kind;
  EXPECT_EQ(of_kind(findings_, Kind::outside_box).size(), 3u) << spelled(findings_);
  EXPECT_EQ(of_kind(findings_, Kind::swapped_box).size(), 1u);
  EXPECT_EQ(of_kind(findings_, Kind::empty_box).size(), 1u);
  EXPECT_EQ(of_kind(findings_, Kind::not_finite).size(), 1u);
  EXPECT_EQ(of_kind(findings_, Kind::bad_annotation).size(), 1u);
  EXPECT_HAS(spelled(findings_), "a.csv | line 5 | 'disc' (400, 10, 420, 30) lies outside the image of 200 x 150");
  config_.bad_box = "error";
  EXPECT_HAS(refusal("a.csv"), "data.bad_box is 'error'");
  config_.bad_box = "drop";
  config_.classes = {"dics"};
  EXPECT_HAS(refusal("a.csv"), "class 'disc' is not in data.classes");
}

TEST_F(SlideSetTest, TablesThatAreReadWrongAreRefused) {
  put_slide("a.png");
  put_csv("a.png,disc,1,2,30,40\na.png,disc,5,5,7,20,24\n");  // 5,5 for 5.5
  EXPECT_HAS(refusal("a.csv"), "a.csv: line 3: has 7 fields where the first line names 6: a decimal comma");
  put_csv("a.png,disc,1,2,30,40,\n");  // as spreadsheets end lines
  EXPECT_EQ(refusal("a.csv"), "");
  put(folder_ / "a.csv", "image,class,Class,xmin,ymin,xmax,ymax\na.png,disc,bar,1,2,30,40\n");
  EXPECT_HAS(refusal("a.csv"), "line 1: has two columns 'class'");
  put_csv("a.png,disc,.1,.1,.4,.5\na.png,disc,0,0.5,1,.75\n");
  EXPECT_HAS(refusal("a.csv"), "all 2 boxes lie within 0..1: normalised? a table wants pixels");
  put(folder_ / "xml/a.xml", voc_xml("a.png", 200, 150, {{"disc", "0.1", "0.2", "0.4", "0.5"}}));
  EXPECT_HAS(refusal("xml"), "normalised? VOC wants pixels");
  put_csv("a.png,disc,five,7,20,24\n");
  EXPECT_HAS(refusal("a.csv"), "has no usable box");
  EXPECT_HAS(refusal("a.csv"), "first: " + (folder_ / "a.csv").string() + ": line 2: 'disc' (five, 7, 20, 24)");
}

TEST_F(SlideSetTest, SlidesWithoutAnnotationsAndAnnotationsWithoutSlides) {
  put_slide("a.png");
  put_slide("b.png");
  put_csv("a.png,disc,1,2,30,40\n");
  EXPECT_HAS(refusal("a.csv"), "b.png: no annotation lists this slide: --unannotated=skip");
  input_.unannotated = "skip";
  EXPECT_EQ(read("a.csv").slides.size(), 1u);
  EXPECT_EQ(read("a.csv").unannotated, std::vector<std::string>{"b"});
  input_.unannotated = "background";
  EXPECT_EQ(read("a.csv").slides.size(), 2u);

  put_csv("a.png,disc,1,2,30,40\nb.png,disc,1,2,3,4\nc.svs,disc,1,2,3,4\nd,disc,1,2,3,4\n");
  const std::string missing = refusal("a.csv");
  EXPECT_HAS(missing, "line 4: no slide for 'c.svs'");
  EXPECT_HAS(missing, "and 1 more like it, of 4 images");
  config_.bad_image = "drop";
  EXPECT_EQ(read("a.csv").slides.size(), 2u);
}

TEST_F(SlideSetTest, DefectsOfSlidesAreNamed) {
  put_slide("a.png");
  put_csv("a.png,disc,1,2,30,40\n");
  put_slide("a.jpg");
  EXPECT_HAS(refusal("a.csv"), "two slides of one name ('a')");
  std::filesystem::remove(folder_ / "slides/a.jpg");

  put_csv("a.png,disc,1,2,30,40\na,disc,1,2,30,40\n");
  EXPECT_HAS(refusal("a.csv"), "slide a.png is annotated twice");

  put_csv("a.png,disc,1,2,30,40\nb.png,disc,1,2,30,40\n");
  put(folder_ / "slides/b.png", get(folder_ / "slides/a.png").substr(0, 20));
  EXPECT_HAS(refusal("a.csv"), "b.png: ");
  EXPECT_HAS(refusal("a.csv"), "unreadable_image");

  put_slide("b.png", 20000, 3);
  input_.memory_bytes = 8 << 20;
  rows_ = 512;
  EXPECT_HAS(refusal("a.csv"), "b.png: a row of patches of 512 pixels needs");
  input_.memory_bytes = 2LL << 30;

  put(folder_ / "xml/a.xml", voc_xml("a.png", 400, 300, {{"disc", "11", "21", "41", "61"}}));
  input_.unannotated = "skip";
  EXPECT_HAS(refusal("xml"), "annotated as 400 x 300, but");
  EXPECT_HAS(refusal("xml"), "boxes of another level?");
}

TEST_F(SlideSetTest, WrongPathsAndTables) {
  EXPECT_HAS(refusal("a.csv"), "--slides: there is no");
  std::filesystem::create_directories(folder_ / "slides/deeper");
  put_csv("a.png,disc,1,2,30,40\n");
  EXPECT_HAS(refusal("a.csv"), "holds no slide (but 1 folders)");
  put_slide("a.png");
  EXPECT_HAS(refusal("b.csv"), "--annotations: there is no");
  put(folder_ / "a.txt", "");
  EXPECT_HAS(refusal("a.txt"), "neither a .json (COCO) nor a .csv file nor a folder");
  put(folder_ / "b.csv", "image,xmin,ymin,xmax,ymax\na.png,1,2,3,4\n");
  EXPECT_HAS(refusal("b.csv"), "b.csv: line 1: no column 'class'");
  put(folder_ / "b.csv", kCsvHead);
  EXPECT_HAS(refusal("b.csv"), "lists no slide");
  put(folder_ / "b.csv", "");
  EXPECT_HAS(refusal("b.csv"), "lists no slide");
  put_csv("a.png,,,,,\n");
  EXPECT_HAS(refusal("a.csv"), "names no class");
  put_csv("a.png,disc,1,2,30,40\na.png,SCC\x7f,1,2,30,40\n");
  EXPECT_EQ(refusal("a.csv"), (folder_ / "a.csv").string() + ": line 3: class 'SCC\\x7f' is empty or no plain text");
  config_.classes = {"disc", "disc "};
  EXPECT_EQ(refusal("a.csv"), "data.classes: class 'disc ' is named twice");
  config_.classes.clear();
  put(folder_ / "a.json", "{\"images\": [");
  EXPECT_HAS(refusal("a.json"), "a.json");
}

}  // namespace
}  // namespace gradlibra
