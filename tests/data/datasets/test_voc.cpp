// SPDX-License-Identifier: MIT
// PASCAL VOC files: coordinates, split lists, and what people get wrong in XML.
#include <gtest/gtest.h>

#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

using Kind = Finding::Kind;
using Action = Finding::Action;

TEST(Voc, OneObjectOneBased) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"nucleus", "11", "6", "21", "26", 1}});
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(voc_config(folder), Split::train, findings);
  ASSERT_EQ(dataset.images.size(), 1u);
  const ImageRecord& image = dataset.images[0];
  EXPECT_EQ(image.id, "a");
  EXPECT_EQ(image.width, 40);
  EXPECT_EQ(image.height, 30);
  EXPECT_EQ(image.path, folder / "JPEGImages/a.png");
  ASSERT_EQ(image.objects.size(), 1u);
  EXPECT_EQ(image.objects[0].box, (Box{10, 5, 20, 25}));  // 1 off all four, as MMDetection reads them
  EXPECT_EQ(image.objects[0].label, 1);
  EXPECT_TRUE(image.objects[0].difficult);
  EXPECT_FALSE(image.objects[0].crowd);
  EXPECT_EQ(image.objects[0].area, 200);
  // A difficult object is no training target, which is worth a note but no action; 'cell' has no object.
  EXPECT_EQ(of_kind(findings, Kind::no_objects).size(), 1u);
  EXPECT_EQ(of_kind(findings, Kind::unknown_class).size(), 1u);
  EXPECT_EQ(findings.size(), 2u) << spelled(findings);
}

TEST(Voc, BoxesThatTouchEveryBorderAreFine) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "1", "1", "40", "30"}});
  std::vector<Finding> findings;
  const DatasetConfig one = voc_config(folder, {"cell"});
  EXPECT_EQ(read_dataset(one, Split::train, findings).images[0].objects[0].box, (Box{0, 0, 39, 29}));
  DatasetConfig zero = one;
  zero.voc_one_based = false;
  EXPECT_EQ(read_dataset(zero, Split::train, findings).images[0].objects[0].box, (Box{1, 1, 40, 30}));
  EXPECT_TRUE(findings.empty()) << spelled(findings);
}

TEST(Voc, ZeroInAOneBasedFileIsFoundAndClipped) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "0", "3", "9", "9"}});
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(voc_config(folder, {"cell"}), Split::train, findings);
  EXPECT_EQ(dataset.images[0].objects[0].box, (Box{0, 2, 8, 8}));
  ASSERT_EQ(findings.size(), 1u) << spelled(findings);
  EXPECT_EQ(findings[0].kind, Kind::zero_based);
  EXPECT_EQ(findings[0].action, Action::clipped);
  EXPECT_HAS(findings[0].where, "line 9");
  EXPECT_HAS(findings[0].message, "voc_one_based");
}

TEST(Voc, EachDefectOfABoxHasItsFindingAndPlace) {
  const TemporaryFolder folder;
  put_voc(folder, "a",
          {{"cell", "21", "6", "11", "26"},     // 0: swapped
           {"cell", "5", "5", "5", "9"},        // 1: no width
           {"cell", "30", "20", "50", "31"},    // 2: partly outside
           {"cell", "60", "5", "70", "9"},      // 3: wholly outside
           {"cell", "nan", "5", "70", "9"},     // 4
           {"cell", "ten", "5", "20", "9"},     // 5
           {"cell", "", "5", "20", "9"},        // 6
           {"blob", "5", "5", "20", "9"},       // 7
           {"cell", "1e999", "5", "20", "9"},   // 8
           {"cell", " 3.5 ", "+5", "20", "9"},  // 9: fine, fractions are kept
           {"cell", "3.5", "5", "20", "9"}});   // 10: the same again
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(voc_config(folder, {"cell"}), Split::train, findings);
  const auto& objects = dataset.images[0].objects;
  ASSERT_EQ(objects.size(), 4u) << spelled(findings);
  EXPECT_EQ(objects[0].box, (Box{10, 5, 20, 25}));
  EXPECT_EQ(objects[1].box, (Box{29, 19, 39, 29}));  // the last pixel's index is 39
  EXPECT_EQ(objects[2].box, (Box{2.5f, 4, 19, 8}));
  EXPECT_EQ(objects[3].box, objects[2].box);
  const auto expect = [&](size_t i, Kind kind, Action action, int object) {
    ASSERT_LT(i, findings.size());
    EXPECT_EQ(findings[i].kind, kind) << i;
    EXPECT_EQ(findings[i].action, action) << i;
    EXPECT_EQ(findings[i].where, "line " + std::to_string(9 + 8 * object) + " (object " + std::to_string(object) + ")");
    EXPECT_EQ(findings[i].file, (folder / "Annotations/a.xml").string());
  };
  ASSERT_EQ(findings.size(), 10u) << spelled(findings);
  expect(0, Kind::swapped_box, Action::fixed, 0);
  expect(1, Kind::empty_box, Action::object_dropped, 1);
  expect(2, Kind::outside_box, Action::clipped, 2);
  expect(3, Kind::outside_box, Action::object_dropped, 3);
  expect(4, Kind::not_finite, Action::object_dropped, 4);
  expect(5, Kind::not_finite, Action::object_dropped, 5);
  expect(6, Kind::not_finite, Action::object_dropped, 6);
  expect(7, Kind::unknown_class, Action::object_dropped, 7);
  expect(8, Kind::not_finite, Action::object_dropped, 8);
  expect(9, Kind::duplicate_box, Action::none, 10);
  EXPECT_HAS(findings[1].message, "(5, 5, 5, 9)");
  EXPECT_HAS(findings[6].message, "missing");
}

TEST(Voc, PoliciesOfErrorThrowWithPlaceAndRemedy) {
  const auto thrown = [](const VocObject& object, const char* key) {
    const TemporaryFolder folder;
    put_voc(folder, "a", {object});
    DatasetConfig config = voc_config(folder, {"cell"});
    config.unknown_class = config.bad_box = config.bad_image = "error";
    std::vector<Finding> findings;
    std::string message = message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); });
    EXPECT_HAS(message, "a.xml: line 9 (object 0)");
    EXPECT_HAS(message, key);
    return message;
  };
  EXPECT_HAS(thrown({"cell", "5", "5", "5", "9"}, "data.bad_box"), "(5, 5, 5, 9)");
  EXPECT_HAS(thrown({"cell", "500", "5", "600", "9"}, "data.bad_box"), "outside");
  EXPECT_HAS(thrown({"cell", "x", "5", "600", "9"}, "data.bad_box"), "(x, 5");
  EXPECT_HAS(thrown({"sell", "5", "5", "8", "9"}, "data.unknown_class"), "'sell'");
}

TEST(Voc, BrokenFiles) {
  const TemporaryFolder folder;
  put_voc(folder, "good", {{"cell", "5", "5", "8", "9"}});
  put_voc(folder, "not_xml", {});
  put(folder / "Annotations/not_xml.xml", "<annotation>\n<object>\n<name>cell</nam");
  put_voc(folder, "other_xml", {});
  put(folder / "Annotations/other_xml.xml", "<html></html>");
  put_voc(folder, "empty", {});
  put(folder / "Annotations/empty.xml", "");
  put_voc(folder, "no_box", {});
  put(folder / "Annotations/no_box.xml",
      "<annotation>\n<object>\n<name>cell</name></object>\n<object><bndbox/></object></annotation>");
  put_voc(folder, "no_annotation", {});
  std::filesystem::remove(folder / "Annotations/no_annotation.xml");
  put_voc(folder, "no_image", {{"cell", "5", "5", "8", "9"}});
  std::filesystem::remove(folder / "JPEGImages/no_image.png");
  put_voc(folder, "good", {{"cell", "5", "5", "8", "9"}});  // listed a second time

  DatasetConfig config = voc_config(folder, {"cell"});
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config, Split::train, findings);
  ASSERT_EQ(dataset.images.size(), 2u) << spelled(findings);
  EXPECT_EQ(dataset.images[0].id, "good");
  EXPECT_EQ(dataset.images[1].id, "no_box");
  EXPECT_EQ(dataset.images[1].objects.size(), 0u);

  const auto bad = of_kind(findings, Kind::bad_annotation);
  ASSERT_EQ(bad.size(), 6u) << spelled(findings);  // three files, one without <size>, two objects
  EXPECT_HAS(bad[0].where, "line 3");
  EXPECT_HAS(bad[1].message, "no <annotation>");
  EXPECT_EQ(bad[2].action, Action::image_dropped);
  EXPECT_HAS(bad[3].message, "no <size>");
  EXPECT_HAS(bad[4].where, "line 2 (object 0)");
  EXPECT_HAS(bad[4].message, "without a <bndbox>");
  EXPECT_HAS(bad[5].where, "line 4 (object 1)");
  ASSERT_EQ(of_kind(findings, Kind::missing_annotation).size(), 1u);
  EXPECT_HAS(of_kind(findings, Kind::missing_annotation)[0].where, "line 6");
  EXPECT_EQ(of_kind(findings, Kind::missing_image).size(), 1u);
  ASSERT_EQ(of_kind(findings, Kind::duplicate_id).size(), 1u);
  EXPECT_HAS(of_kind(findings, Kind::duplicate_id)[0].where, "line 8");

  config.bad_image = "error";
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }), "data.bad_image");
}

TEST(Voc, AnEvaluationNeverDropsAnImage) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "8", "9"}});
  put_voc(folder, "b", {{"cell", "5", "5", "8", "9"}});
  std::filesystem::remove(folder / "JPEGImages/b.png");
  DatasetConfig config = voc_config(folder, {"cell"});  // every policy is "drop"
  config.test = "train";
  std::vector<Finding> findings;
  EXPECT_EQ(read_dataset(config, Split::train, findings).images.size(), 1u);
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::test, findings)); }),
             "evaluation never drops");
}

TEST(Voc, SplitListsMayHaveWindowsLineEndsAndBlankLines) {
  const TemporaryFolder folder;
  put_voc(folder, "a b", {{"cell", "5", "5", "8", "9"}});
  put_voc(folder, "c", {{"cell", "5", "5", "8", "9"}});
  put(folder / "ImageSets/Main/train.txt",
      "\xef\xbb\xbf"
      "c\r\n\r\n  a b \r\n");
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(voc_config(folder, {"cell"}), Split::train, findings);
  ASSERT_EQ(dataset.images.size(), 2u) << spelled(findings);
  EXPECT_EQ(dataset.images[0].id, "c");  // order of the list
  EXPECT_EQ(dataset.images[1].id, "a b");
  EXPECT_TRUE(findings.empty());
}

// Of two values neither is more likely meant.
TEST(Voc, ContradictionsWithinAnObject) {
  const TemporaryFolder folder;
  put_voc(folder, "a",
          {{"cell</name>\n<NAME>nucleus</NAME><name>cell", "5", "5", "8", "9"},
           {"cell", "5</xmin><xmin>6", "5", "8", "9</ymax><ymax>10"},
           {"cell", "15", "5", "18", "9"},
           {"cell</name><difficult>1</difficult><name>cell", "5", "5", "8", "9"},
           {"cell</name><name> cell ", "25", "5", "28", "9"}});  // says the same
  DatasetConfig config = voc_config(folder);
  std::vector<Finding> findings;
  EXPECT_EQ(read_dataset(config, Split::train, findings).summary.boxes, 2) << spelled(findings);
  const auto bad = of_kind(findings, Kind::bad_annotation);
  ASSERT_EQ(bad.size(), 3u) << spelled(findings);
  EXPECT_HAS(bad[0].message, "object with several values of <name>; take away all but one");
  EXPECT_EQ(bad[0].where, "line 6 (object 0)");
  EXPECT_HAS(bad[1].message, "object with several values of <xmin> <ymax>;");
  EXPECT_HAS(bad[2].message, "object with several values of <difficult>;");
  EXPECT_EQ(bad[2].action, Action::object_dropped);
  config.bad_box = "error";
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }), "several values of");
}

TEST(Voc, TwoSizesAreNone) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "8", "9"}});
  const std::string xml = get(folder / "Annotations/a.xml");
  const auto findings_of = [&](const std::string& more) {
    put(folder / "Annotations/a.xml", std::string(xml).insert(xml.find("<object>"), more));
    std::vector<Finding> findings;
    EXPECT_EQ(read_dataset(voc_config(folder, {"cell"}), Split::train, findings).summary.boxes, 1);
    return spelled(findings);
  };
  EXPECT_EQ(findings_of("<size><width>40</width><height>30</height></size>"), "");
  EXPECT_HAS(findings_of("<size><width>80</width><height>30</height></size>"),
             "| line 6 | has two sizes in <size>: the image's own size is used");
}

// The parser makes a NUL byte of it, by which 'normal&#0;HSIL' would be 'normal'.
TEST(Voc, AReferenceToNulIsNoText) {
  for (const char* nul : {"&#0;", "&#x00;", "&#4294967296;"}) {
    const TemporaryFolder folder;
    put_voc(folder, "a", {{"cell", "5", "5", "8", "9"}, {std::string("cell") + nul + "HSIL", "5", "5", "8", "9"}});
    put_voc(folder, "b", {{"cell&#32;", "5", "5", "8", "9"}});
    std::vector<Finding> findings;
    EXPECT_EQ(read_dataset(voc_config(folder, {"cell"}), Split::train, findings).images.size(), 1u);
    ASSERT_EQ(findings.size(), 1u) << spelled(findings);
    EXPECT_EQ(findings[0].where, "line 15");
    EXPECT_EQ(findings[0].message, std::string("is not XML: '") + nul + "' stands for no character");
    EXPECT_EQ(findings[0].action, Action::image_dropped);
    // Where it is only text it does not matter.
    for (const std::string& text : {std::string("<!-- ") + nul + " -->", std::string("<![CDATA[") + nul + "]]>"}) {
      put_voc(folder, "a", {{"cell", "5", "5", "8", "9"}});
      std::string xml = get(folder / "Annotations/a.xml");
      put(folder / "Annotations/a.xml", xml.insert(xml.find("</annotation>"), "<note>" + text + "</note>"));
      findings.clear();
      EXPECT_EQ(read_dataset(voc_config(folder, {"cell"}), Split::train, findings).images.size(), 2u) << text;
    }
  }
}

TEST(Voc, ManyObjectsHaveTheirLines) {
  const TemporaryFolder folder;
  std::vector<VocObject> objects(30'000, {"cell", "5", "5", "8", "9"});
  for (size_t i = 0; i < objects.size(); ++i) objects[i].y2 = std::to_string(9 + static_cast<double>(i) / 5000);
  objects.back().x1 = "none";
  put_voc(folder, "a", objects);
  std::vector<Finding> findings;
  EXPECT_EQ(read_dataset(voc_config(folder, {"cell"}), Split::train, findings).summary.boxes, 29'999);
  ASSERT_EQ(findings.size(), 1u) << spelled(findings).substr(0, 500);
  EXPECT_EQ(findings[0].where, "line 240001 (object 29999)");
}

// Whatever has a <bndbox> and is not read is said, and stops an evaluation.
TEST(Voc, BoxesInOddPlaces) {
  const std::string box = "<bndbox><xmin>3</xmin><ymin>3</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>\n";
  const std::string object = "<object>\n<name>cell</name>" + box + "</object>\n";
  const auto check = [&](const std::string& xml, int64_t read, const std::vector<std::string>& said) {
    const TemporaryFolder folder;
    put_voc(folder, "a", {});
    put(folder / "Annotations/a.xml", xml);
    DatasetConfig config = voc_config(folder, {"cell"});
    config.val = "train";
    std::vector<Finding> findings;
    EXPECT_EQ(read_dataset(config, Split::train, findings).summary.boxes, read) << xml;
    std::erase_if(findings, [](const Finding& f) { return f.action != Action::object_dropped; });
    EXPECT_EQ(findings.size(), said.size()) << spelled(findings);
    for (const std::string& part : said) EXPECT_HAS(spelled(findings), part);
    const std::string message = message_of([&] { static_cast<void>(read_dataset(config, Split::val, findings)); });
    EXPECT_EQ(message.empty(), said.empty()) << message;
    config.bad_truth = "miss";
    EXPECT_EQ(read_dataset(config, Split::val, findings).summary.boxes, read + static_cast<int64_t>(said.size()));
  };
  check("<annotation>\n" + object + "</annotation>", 1, {});
  check("<annotation>\n<object>\n<name>cell</name>" + box + box + "</object></annotation>", 1,
        {"a.xml | line 4 | a <bndbox> in <annotation><object>, which is not read"});
  check("<annotation>\n<objects>\n" + object + object + "</objects></annotation>", 0,
        {"| line 4 | a <bndbox> in <annotation><objects><object>,", "| line 7 |"});
  check("<annotation>\n<objekt><name>cell</name>" + box + "</objekt></annotation>", 0, {"in <annotation><objekt>,"});
  check("<annotation>\n" + object + "</annotation><annotation>" + object + "</annotation>", 1, {"| line 6 |"});
  // Parts of an object are VOC's own, and no objects.
  check("<annotation>\n<object>\n<name>cell</name>" + box + "<part><name>head</name>" + box +
            "</part></object></annotation>",
        1, {});
}

TEST(Voc, ACommentDoesNotEndAText) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"ce<!-- - -->ll", "1<!-- was 2 -->1", "6", "<![CDATA[2]]>1", "26"}});
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(voc_config(folder, {"cell"}), Split::train, findings);
  ASSERT_EQ(dataset.summary.boxes, 1) << spelled(findings);
  EXPECT_EQ(dataset.images[0].objects[0].box, (Box{10, 5, 20, 25}));
}

TEST(Voc, APictureThatIsListedInTwoSpellingsCountsOnce) {
  const TemporaryFolder folder;
  put_voc(folder, "sub/a", {{"cell", "5", "5", "8", "9"}});
  put(folder / "ImageSets/Main/train.txt", "sub/a\n./sub/a\nsub//a\n");
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(voc_config(folder, {"cell"}), Split::train, findings);
  ASSERT_EQ(dataset.images.size(), 1u) << spelled(findings);
  EXPECT_EQ(dataset.images[0].id, "sub/a");
  ASSERT_EQ(of_kind(findings, Kind::duplicate_id).size(), 2u) << spelled(findings);
  EXPECT_HAS(findings[0].message, "'./sub/a' is listed already, as 'sub/a'; it counts once");
}

TEST(Voc, ClassListIsRequiredAndTheErrorListsWhatThereIs) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"zebra", "5", "5", "8", "9"}, {"ape", "5", "5", "8", "9"}});
  std::vector<Finding> findings;
  const DatasetConfig config = voc_config(folder, {});
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }), "[ape, zebra]");
}

TEST(Voc, MissingSplitNamesWhatThereIs) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {});
  DatasetConfig config = voc_config(folder);
  config.train = "trian";
  std::vector<Finding> findings;
  const std::string message = message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); });
  EXPECT_HAS(message, "trian.txt");
  EXPECT_HAS(message, "[train.txt]");
  config.root = folder.string() + "/nowhere";
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }), "data.root");
  config.root = "";
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }),
             "data.root is empty");
}

// Deep nesting and entity definitions must neither overflow the stack nor grow.
TEST(Voc, HostileXmlIsHarmless) {
  const TemporaryFolder folder;
  put_voc(folder, "deep", {});
  std::string deep = "<annotation>";
  for (int i = 0; i < 200'000; ++i) deep += "<a>";
  put(folder / "Annotations/deep.xml", deep);
  put_voc(folder, "laughs", {});
  put(folder / "Annotations/laughs.xml",
      "<!DOCTYPE a [<!ENTITY x \"ha\"><!ENTITY y "
      "\"&x;&x;&x;\">]><annotation><object><name>&y;</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
      "<xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>");
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(voc_config(folder, {"cell"}), Split::train, findings);
  EXPECT_EQ(dataset.images.size(), 1u);
  EXPECT_HAS(spelled(findings), "'&y;'");
}

}  // namespace
}  // namespace gradlibra
