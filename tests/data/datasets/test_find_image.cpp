// SPDX-License-Identifier: MIT
// Names in annotations and the pictures they mean: folders per split, several candidates, contradictions, and folders
// without annotations.
#include "data/datasets/find_image.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>

#include "data/datasets/image_folder.h"
#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

using Kind = Finding::Kind;

TEST(FindImage, TheNameOrOneWithAnExtension) {
  const TemporaryFolder folder;
  for (const char* name : {"a.png", "b.JPG", "x.jpg.png", "sub/c.png", "both.png", "both.jpg", "notes.txt"})
    put(folder / name, "x");
  ImageFinder finder;
  EXPECT_EQ(finder.find(folder.path(), "a.png").path, folder / "a.png");
  EXPECT_FALSE(finder.find(folder.path(), "a.png").guessed);
  EXPECT_EQ(finder.find(folder.path(), "b").path, folder / "b.JPG");
  EXPECT_EQ(finder.find(folder.path(), "x.jpg").path, folder / "x.jpg.png");
  EXPECT_EQ(finder.find(folder.path(), "sub/c").path, folder / "sub/c.png");
  EXPECT_EQ(finder.find(folder.path(), "sub\\c.png").path, folder / "sub/c.png");
  EXPECT_TRUE(finder.find(folder.path(), "sub\\c.png").guessed);
  EXPECT_EQ(finder.find(folder.path(), "both").path, folder / "both.jpg");
  EXPECT_EQ(finder.find(folder.path(), "both").others, (std::vector<std::filesystem::path>{folder / "both.png"}));
  for (const std::string& name : {std::string("A.png"), std::string("notes"), std::string(""), std::string("sub"),
                                  std::string("a.png\0.jpg", 10)})
    EXPECT_TRUE(finder.find(folder.path(), name).path.empty()) << name;
  EXPECT_HAS(finder.suggestion(folder.path(), "A.png", folder.path()), "'a.png'");
  EXPECT_HAS(finder.suggestion(folder.path(), "a.jpg", folder.path()), "'a.png'");
  EXPECT_HAS(finder.suggestion(folder.path(), "c.png", folder.path()), "data.image_dir to 'sub'");
  EXPECT_HAS(finder.suggestion(folder / "none", "c.png", folder.path()), "no such folder");
  EXPECT_HAS(finder.suggestion(folder.path(), "D:\\export\\a.png", folder.path()), "without the folders");
  EXPECT_EQ(finder.suggestion(folder.path(), "z.png", folder.path()), "");
  std::filesystem::create_symlink("nowhere", folder / "sub/link.png");
  EXPECT_TRUE(finder.find(folder.path(), "sub/link.png").path.empty());
  EXPECT_HAS(ImageFinder().suggestion(folder.path(), "sub/link.png", folder.path()), "a broken link?");
  std::filesystem::create_symlink(folder / "a.png", folder / "sub/good.png");
  EXPECT_EQ(finder.find(folder.path(), "sub/good.png").path, folder / "sub/good.png");
  EXPECT_EQ(finder.find(folder / "sub", (folder / "a.png").string()).path, folder / "a.png");
}

// Each picture has another size, so that which one was taken shows.
TEST(FindImage, VocTakesThePictureThatFilenameNames) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "9", "9"}});  // <filename> a.png
  write_image(folder / "JPEGImages/a.jpg", plain_image(40, 30));
  std::vector<Finding> findings;
  Dataset dataset = read_dataset(voc_config(folder, {"cell"}), Split::train, findings);
  EXPECT_EQ(dataset.images[0].path.filename(), "a.png");
  ASSERT_EQ(of_kind(findings, Kind::ambiguous_image).size(), 1u) << spelled(findings);
  EXPECT_HAS(of_kind(findings, Kind::ambiguous_image)[0].message, "a.jpg, a.png");

  // <filename> of another picture: the split's name counts, and the contradiction is told.
  put(folder / "Annotations/a.xml", voc_xml("b.png", 40, 30, {{"cell", "5", "5", "9", "9"}}));
  write_image(folder / "JPEGImages/b.png", plain_image(40, 30));
  findings.clear();
  dataset = read_dataset(voc_config(folder, {"cell"}), Split::train, findings);
  EXPECT_EQ(dataset.images[0].path.filename(), "a.jpg");
  EXPECT_EQ(of_kind(findings, Kind::file_name_mismatch).size(), 1u) << spelled(findings);
  std::filesystem::remove(folder / "JPEGImages/a.jpg");
  std::filesystem::remove(folder / "JPEGImages/a.png");
  findings.clear();
  dataset = read_dataset(voc_config(folder, {"cell"}), Split::train, findings);
  EXPECT_EQ(dataset.images[0].path.filename(), "b.png");
  EXPECT_EQ(of_kind(findings, Kind::guessed_file_name).size(), 1u);
}

// <Annotation>, <Object>, .. and flags in words.
TEST(FindImage, VocTagsInCapitalsAndFlagsInWords) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {});
  const auto object = [](const std::string& flag) {
    return "<Object><Name>cell</Name><Difficult>" + flag +
           "</Difficult><BndBox><XMin>5</XMin><ymin>5</ymin><xmax>9</xmax><YMAX>9</YMAX></BndBox></Object>\n";
  };
  put(folder / "Annotations/a.xml",
      "<Annotation><Filename>a.png</Filename><Size><Width>40</Width><Height>30</Height></Size>\n" + object("0") +
          object("True") + object("maybe") + "</Annotation>");
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(voc_config(folder, {"cell"}), Split::train, findings);
  ASSERT_EQ(dataset.images.size(), 1u) << spelled(findings);
  EXPECT_EQ(dataset.summary.boxes, 3) << spelled(findings);
  EXPECT_EQ(dataset.summary.difficult, 1);
  EXPECT_EQ(of_kind(findings, Kind::tag_case).size(), 1u);
  ASSERT_EQ(of_kind(findings, Kind::bad_annotation).size(), 1u);
  EXPECT_HAS(of_kind(findings, Kind::bad_annotation)[0].message, "<difficult> is 'maybe'");
}

TEST(FindImage, ListsOfOtherKindsAreRecognised) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "9", "9"}});
  const auto message = [&](const std::string& list) {
    put(folder / "ImageSets/Main/train.txt", list);
    DatasetConfig config = voc_config(folder, {"cell"});
    config.bad_image = "error";
    std::vector<Finding> findings;
    return message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); });
  };
  EXPECT_HAS(message("a.png\n"), "names without extension");
  EXPECT_HAS(message("a  1\n"), "second column");
  EXPECT_HAS(message("A\n"), "there is 'a.xml'");
  EXPECT_HAS(message(std::string("a\0b\n", 4)), "NUL");
  EXPECT_HAS(message(std::string("\xff\xfe"
                                 "a\0\n\0",
                                 6)),
             "UTF-16");
}

// A name of any bytes works, and what is written of it is text.
TEST(FindImage, FileNamesNeedNotBeText) {
  const TemporaryFolder folder;
  put_voc(folder, "zell\xe4", {{"cell", "5", "5", "9", "9"}});
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(voc_config(folder, {"cell"}), Split::train, findings, true);
  ASSERT_EQ(dataset.images.size(), 1u) << spelled(findings);
  EXPECT_EQ(dataset.images[0].id, "zell\\xe4");
}

TEST(FindImage, VocWithoutImageSets) {
  const TemporaryFolder folder;
  put_voc(folder, "b", {{"cell", "5", "5", "9", "9"}});
  put_voc(folder, "sub/a", {{"cell", "5", "5", "9", "9"}});
  std::filesystem::remove_all(folder / "ImageSets");
  DatasetConfig config = voc_config(folder, {"cell"});
  std::vector<Finding> findings;
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }), "data.train=all");
  config.train = "all";
  EXPECT_EQ(read_dataset(config, Split::train, findings).images.size(), 2u);
  config.train = "*";
  Dataset dataset = read_dataset(config, Split::train, findings);
  ASSERT_EQ(dataset.images.size(), 2u) << spelled(findings);
  EXPECT_EQ(dataset.images[0].id, "b");
  EXPECT_EQ(dataset.images[1].id, "sub/a");
  // A folder per split that holds both.
  write_image(folder / "valid/c.png", plain_image(40, 30));
  put(folder / "valid/c.xml", voc_xml("c.png", 40, 30, {{"cell", "5", "5", "9", "9"}}));
  config.val = "valid";
  dataset = read_dataset(config, Split::val, findings);
  ASSERT_EQ(dataset.images.size(), 1u);
  EXPECT_EQ(dataset.images[0].path, folder / "valid/c.png");
}

TEST(FindImage, VocWithItsAnnotationsElsewhere) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "9", "9"}});
  std::filesystem::rename(folder / "Annotations", folder / "labels");
  DatasetConfig config = voc_config(folder, {"cell"});
  config.annotation_dir = "labels";
  for (const char* split : {"train", "all"}) {  // by a list, and all that the folder has
    config.train = split;
    std::vector<Finding> findings;
    const Dataset dataset = read_dataset(config, Split::train, findings);
    ASSERT_EQ(dataset.images.size(), 1u) << split << spelled(findings);
    EXPECT_EQ(dataset.images[0].objects.size(), 1u) << split;
  }
}

// One file name in three folders; the size tells which picture was taken.
TEST(FindImage, EverySplitHasItsFolder) {
  const TemporaryFolder folder;
  int width = 40;
  for (const char* split : {"train", "val", "test", "others"}) {
    write_image(folder / (std::string("pictures_") + split + "/a.png"), plain_image(width, 30));
    put(folder / (std::string("annotations/instances_") + split + ".json"),
        R"({"categories": [{"id": 1, "name": "x"}], "images": [{"id": 1, "file_name": "a.png", "width": )" +
            std::to_string(width) + R"(, "height": 30}], "annotations": [{"id": 1, "image_id": 1, "category_id": 1,
            "area": 4, "bbox": [2, 2, 2, 2]}]})");
    width += 10;
  }
  DatasetConfig config;
  config.format = "coco";
  config.root = folder.string();
  config.min_size = 0;
  config.image_dir = "pictures_others";
  config.train_image_dir = "pictures_train";
  config.val_image_dir = "pictures_val";
  config.test_image_dir = "pictures_test";
  std::vector<Finding> findings;
  const auto width_of = [&](Split split) { return read_dataset(config, split, findings).images.at(0).width; };
  EXPECT_EQ(width_of(Split::train), 40);
  EXPECT_EQ(width_of(Split::val), 50);
  EXPECT_EQ(width_of(Split::test), 60);
  EXPECT_TRUE(findings.empty()) << spelled(findings);
  config.train = "others";
  config.train_image_dir = "";
  EXPECT_EQ(width_of(Split::train), 70) << "data.image_dir where the split has none of its own";
}

// Jupyter keeps copies of what it shows: they are nobody's data.
TEST(FindImage, HiddenFoldersAreNoData) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "9", "9"}});
  put_voc(folder, ".ipynb_checkpoints/a-checkpoint", {{"cell", "5", "5", "9", "9"}});
  DatasetConfig config = voc_config(folder, {"cell"});
  config.train = "all";
  std::vector<Finding> findings;
  EXPECT_EQ(read_dataset(config, Split::train, findings).images.size(), 1u);
  ASSERT_EQ(findings.size(), 1u) << spelled(findings);
  EXPECT_EQ(findings[0].kind, Kind::passed_over);
  EXPECT_EQ(findings[0].action, Finding::Action::none);
  EXPECT_EQ(findings[0].file, (folder / "Annotations/.ipynb_checkpoints").string());
  EXPECT_TRUE(of_kind(inspect_dataset(config).findings, Kind::unused_image).empty());
  // An annotation that is a link to nothing is an entry like others without one.
  std::filesystem::create_symlink("/not/there", folder / "Annotations/b.xml");
  config.bad_image = "error";
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }),
             "b.xml, which is a link that leads to nothing");
}

TEST(FindImage, APictureThatIsALinkToNothing) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "9", "9"}});
  std::filesystem::remove(folder / "JPEGImages/a.png");
  std::filesystem::create_symlink("/not/there", folder / "JPEGImages/a.png");
  DatasetConfig config = voc_config(folder, {"cell"});
  config.bad_image = "error";
  std::vector<Finding> findings;
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }),
             "there is 'a.png', a link that leads to nothing");
}

TEST(FindImage, CocoWithAFolderPerSplit) {
  const TemporaryFolder folder;
  const auto put_split = [&](const std::string& split, const std::string& image, int grey) {
    write_image(folder / (split + "/" + image), plain_image(40, 30, {static_cast<uint8_t>(grey), 0, 0}));
    put(folder / (split + "/_annotations.coco.json"),
        R"({"categories": [{"id": 1, "name": "x"}], "images": [{"id": 1, "file_name": ")" + image +
            R"(", "width": 40, "height": 30}], "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "area": 4,
            "bbox": [2, 2, 2, 2]}]})");
  };
  put_split("train", "a.png", 1);
  put_split("valid", "b.png", 2);
  DatasetConfig config;
  config.format = "coco";
  config.root = folder.string();
  config.min_size = 0;
  config.val = "valid";
  config.test = "";
  std::vector<Finding> findings;
  EXPECT_EQ(read_dataset(config, Split::val, findings).images[0].path, folder / "valid/b.png");
  config.image_dir = "train";
  EXPECT_EQ(read_dataset(config, Split::val, findings).images[0].path, folder / "valid/b.png");
  EXPECT_EQ(read_dataset(config, Split::train, findings).images[0].path, folder / "train/a.png");
  EXPECT_TRUE(findings.empty()) << spelled(findings);
  // The same name in both is never chosen between, but for copies.
  put_split("valid", "a.png", 2);
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::val, findings)); }),
             "say which with data.val_image_dir");
  config.val_image_dir = "valid";
  EXPECT_EQ(read_dataset(config, Split::val, findings).images[0].path, folder / "valid/a.png");
  config.val_image_dir = "";
  put_split("valid", "a.png", 1);
  EXPECT_EQ(read_dataset(config, Split::val, findings).images.size(), 1u);
}

TEST(ImageFolder, IdsAreUniqueAndNothingIsPassedOverInSilence) {
  const TemporaryFolder folder;
  for (const char* name :
       {"x.png", "x.jpg", "x.jpg.png", "y.bmp", "sub/x.png", "sub/deep/z.png", "notes.txt", "c.gif", "README"})
    put(folder / name, "x");
  const ImageFolder flat = list_images(folder.path(), false);
  ASSERT_EQ(flat.images.size(), 4u);
  std::set<std::string> ids;
  for (const FolderImage& image : flat.images) ids.insert(image.id);
  EXPECT_EQ(ids, (std::set<std::string>{"x.png", "x.jpg", "x.jpg.png", "y"}));
  EXPECT_EQ(flat.left_out(),
            "left out: 2 pictures in subfolders (--recursive takes them); no pictures by their names: 1 without "
            "extension, 1 .gif, 1 .txt");
  const ImageFolder deep = list_images(folder.path(), true);
  ids.clear();
  for (const FolderImage& image : deep.images) ids.insert(image.id);
  EXPECT_EQ(ids, (std::set<std::string>{"x.png", "x.jpg", "x.jpg.png", "y", "sub/x", "sub/deep/z"}));
  EXPECT_EQ(list_images(folder / "x.jpg.png", false).images[0].id, "x.jpg");
  const TemporaryFolder other;
  put(other / "a.gif", "x");
  EXPECT_HAS(message_of([&] { static_cast<void>(list_images(other.path(), false)); }), "1 .gif");
  EXPECT_HAS(message_of([&] { static_cast<void>(list_images(other / "gone", false)); }), "no such file");
}

TEST(ImageFolder, BytesAndTheirSpellingAreTwoNames) {
  const TemporaryFolder folder;
  for (const char* name : {"\xfc.png", "\\xfc.png", "b\\c.png"}) put(folder / name, "x");
  std::set<std::string> ids;
  for (const FolderImage& image : list_images(folder.path(), false).images) ids.insert(image.id);
  EXPECT_EQ(ids, (std::set<std::string>{"\\xfc.png", "\\x5cxfc.png", "b\\c"}));
}

TEST(ImageFolder, NamesWhatIsNoPlainFileOrFolder) {
  namespace fs = std::filesystem;
  const TemporaryFolder folder;
  for (const char* name : {"in/a.png", "in/sub/b.png", "in/.ipynb_checkpoints/a-checkpoint.png", "in/found/a.png",
                           "in/sub/.cache/x.png", "real/c.png"})
    put(folder / name, "x");
  fs::create_directory_symlink("../real", folder / "in/link");
  fs::create_directory_symlink("..", folder / "in/sub/up");
  fs::create_symlink("/not/there.png", folder / "in/d.png");
  fs::create_symlink("nowhere", folder / "in/sub/folder");
  ASSERT_EQ(::mkfifo((folder / "in/f.png").c_str(), 0600), 0);
  const ImageFolder deep = list_images(folder / "in", true, folder / "in/sub/../found");
  ASSERT_EQ(deep.images.size(), 2u);
  EXPECT_EQ(deep.images[0].id, "a");
  EXPECT_EQ(deep.images[1].id, "sub/b");
  EXPECT_EQ(deep.left_out(),
            "left out: 2 folders that are links (link, sub/up), which --input can name; 2 hidden folders "
            "(.ipynb_checkpoints, sub/.cache); 1 pipe or device (f.png); the folder of --output (found)");
  ASSERT_EQ(deep.broken.size(), 2u);
  EXPECT_HAS(deep.broken[0], "in/d.png: is a link that leads nowhere");
  EXPECT_HAS(deep.broken[1], "in/sub/folder: is a link that leads nowhere");

  const ImageFolder flat = list_images(folder / "in", false, folder / "nowhere");
  EXPECT_EQ(flat.images.size(), 1u);
  EXPECT_EQ(flat.left_out(),
            "left out: 2 pictures in subfolders (--recursive takes them); 1 folder that is a link (link), which "
            "--input can name; 1 hidden folder (.ipynb_checkpoints); 1 pipe or device (f.png)");
  EXPECT_EQ(flat.broken.size(), 1u);
  EXPECT_EQ(list_images(folder / "in/link", false).images.size(), 1u) << "a link may be named";

  if (::geteuid() == 0) return;  // may read everything
  fs::permissions(folder / "in/sub", fs::perms::none);
  const ImageFolder shut = list_images(folder / "in", true);
  fs::permissions(folder / "in/sub", fs::perms::owner_all);
  ASSERT_EQ(shut.broken.size(), 2u);
  EXPECT_HAS(shut.broken[1], "in/sub: Permission denied");
}

}  // namespace
}  // namespace gradlibra
