// SPDX-License-Identifier: MIT
// Images that do not fit, break or go away, and a loader that nobody reads.
#include "runtime/base/files.h"
#include "tests/data/loading/small_pictures.h"

namespace gradlibra {
namespace {

TEST(Loader, ErrorsNameFileAndRemedy) {
  SmallPictures f(2, 50, 40);
  LoaderConfig config = small_loader();
  const auto made = [&](const LoaderConfig& c, LoaderMode mode = LoaderMode::train) {
    return message_of([&] { Loader(f.dataset, c, f.files, mode, {}); });
  };
  config.width = 32;
  EXPECT_HAS(made(config), "image0.png");
  EXPECT_HAS(made(config), "50 x 40");
  EXPECT_HAS(made(config), "loader.resize");
  config.width = 40;
  EXPECT_HAS(made(config), "loader.width");
  config = small_loader();
  config.batch_size = 0;
  EXPECT_HAS(made(config), "loader.batch_size");
  config = small_loader();
  config.resize = "crop";
  EXPECT_HAS(made(config), "loader.resize");
  config = small_loader();
  config.workers = 0;
  EXPECT_HAS(made(config), "loader.workers");
  config = small_loader();
  f.dataset.images[1].objects.resize(5, f.dataset.images[1].objects[0]);
  EXPECT_HAS(made(config), "image1.png");
  EXPECT_HAS(made(config), "loader.max_boxes");
  f.dataset.images.clear();
  EXPECT_HAS(made(config), "no images");
  Loader nothing(f.dataset, config, f.files, LoaderMode::evaluate, {});
  Batch batch;
  EXPECT_FALSE(nothing.next(batch));
  EXPECT_EQ(nothing.batches_per_epoch(), 0);
}

TEST(Loader, FileThatBreaksWhileTrainingIsNamed) {
  SmallPictures f(3, 50, 40);
  LoaderConfig config = small_loader();
  config.batch_size = 1;
  config.workers = 2;
  const std::string bytes = get(f.dataset.images[1].path);
  std::filesystem::remove(f.dataset.images[1].path);
  Loader loader(f.dataset, config, f.files, LoaderMode::evaluate, {});
  Batch batch;
  EXPECT_TRUE(loader.next(batch));
  EXPECT_HAS(message_of([&] { loader.next(batch); }), "image1.png");
  EXPECT_THROW(loader.next(batch), ReadError);
  // Once it is there again, the same batch comes, then those behind it.
  put(f.dataset.images[1].path, bytes);
  for (const int64_t index : {1, 2}) {
    EXPECT_TRUE(loader.next(batch));
    EXPECT_EQ(batch.indices, std::vector<int64_t>{index});
  }
  EXPECT_FALSE(loader.next(batch));
  write_image(f.dataset.images[1].path, plain_image(20, 20));  // another picture than was read
  Loader changed(f.dataset, config, f.files, LoaderMode::evaluate, {});
  EXPECT_TRUE(changed.next(batch));
  EXPECT_HAS(message_of([&] { changed.next(batch); }), "20 x 20");
}

// With data.bad_image=drop a picture that is gone is passed over, but a folder that is gone makes no picture bad.
TEST(Loader, AFolderThatIsAwayDropsNoPicture) {
  SmallPictures f(3, 50, 40);
  f.files.bad_image = "drop";
  LoaderConfig config = small_loader();
  config.batch_size = 1;
  config.cache_mb = 0;
  config.workers = 1;
  const std::filesystem::path folder = f.dataset.images[0].path.parent_path(), away = folder.string() + ".away";
  std::filesystem::rename(folder, away);
  Loader loader(f.dataset, config, f.files, LoaderMode::train, {.seed = 1});
  Batch batch;
  EXPECT_THROW(loader.next(batch), ReadError);
  std::filesystem::rename(away, folder);
  EXPECT_TRUE(loader.next(batch));
  EXPECT_TRUE(batch.skipped.empty());

  std::filesystem::remove(f.dataset.images[1].path);
  Loader without(f.dataset, config, f.files, LoaderMode::train, {.seed = 1});
  std::vector<std::string> skipped;
  for (int i = 0; i < 6; ++i) {
    EXPECT_TRUE(without.next(batch));
    EXPECT_NE(batch.indices[0], 1);
    skipped.insert(skipped.end(), batch.skipped.begin(), batch.skipped.end());
  }
  EXPECT_EQ(skipped.size(), 1U) << "told once";
}

TEST(Loader, CachedImagesNeedNoFile) {
  SmallPictures f(3, 50, 40);
  Loader loader(f.dataset, small_loader(), f.files, LoaderMode::train, {.seed = 1});
  Batch batch;
  for (int i = 0; i < 6; ++i)
    loader.next(batch);  // three epochs: the decoders, at most two batches ahead, have seen every image
  for (const ImageRecord& image : f.dataset.images) std::filesystem::remove(image.path);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(loader.next(batch));
    expect_boxes_on_pixels(batch);
  }
}

TEST(Loader, StopsWithoutBeingRead) {
  SmallPictures f(20, 50, 40);
  LoaderConfig config = small_loader();
  config.workers = 3;
  for (int i = 0; i < 10; ++i) {
    Loader loader(f.dataset, config, f.files, LoaderMode::train, {});
    Batch batch;
    if (i % 2) loader.next(batch);
  }
}

}  // namespace
}  // namespace gradlibra
