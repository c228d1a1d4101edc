// SPDX-License-Identifier: MIT
// Threads that decode ahead and hand out batches in order. Batch t of a run is a pure function of (seed, t, data set,
// rank), so which thread makes it and when is of no consequence.
#include "data/loading/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <limits>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include "data/loading/augment.h"
#include "data/loading/pictures.h"

namespace gradlibra {
namespace {

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

struct Loader::Impl {
  Impl(const Dataset& dataset_, const LoaderConfig& config_, const DatasetConfig& files, LoaderMode mode_,
       LoaderState start, int rank_, int world_size_)
      : dataset(dataset_),
        config(config_),
        training(mode_ == LoaderMode::train),
        may_skip(training && files.bad_image == "drop"),
        rank(rank_),
        world_size(world_size_),
        seed(start.seed),
        pictures(dataset_, config, files.exif == "apply") {
    config.check();
    if (world_size < 1 || rank < 0 || rank >= world_size)
      throw std::invalid_argument(fmt::format("loader: rank {} of {}", rank, world_size));
    images = static_cast<int64_t>(dataset.images.size());
    global_batch = static_cast<int64_t>(config.batch_size) * world_size;
    if (training && images == 0) throw std::invalid_argument("loader: the training split has no images");
    if (training) {
      config.augment.check();
      sampler = std::make_unique<Sampler>(dataset, config.sampling, seed);
      images = sampler->epoch_length();
    }
    batches = count_batches();
    if (start.epoch < 0 || start.batch < 0 || start.batch > batches) {
      throw std::invalid_argument(
          fmt::format("loader: cannot continue at epoch {}, batch {}: an epoch has {} batches (was the data set, "
                      "loader.batch_size or the number of ranks changed?)",
                      start.epoch, start.batch, batches));
    }
    for (const ImageRecord& image : dataset.images) check_record(image);
    taken = claimed = start.epoch * batches + start.batch;
    last = training ? std::numeric_limits<int64_t>::max() : (start.epoch + 1) * batches;
    first_epoch = start.epoch;
    const bool square = config.height == config.width;
    choices = {config.flip_horizontal, config.flip_vertical, config.turns, config.turns && square};
    ahead = config.workers + 1;
    for (int w = 0; w < config.workers; ++w) workers.emplace_back([this] { work(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    room.notify_all();
    for (std::jthread& worker : workers) worker.join();
  }

  // Of this rank.
  [[nodiscard]] int64_t count_batches() const {
    if (training) return ceil_divide(images, global_batch);
    const int64_t before =
        static_cast<int64_t>(rank) * config.batch_size;  // images of lower ranks in each global batch
    return images <= before ? 0 : ceil_divide(images - before, global_batch);
  }

  void check_record(const ImageRecord& record) const {
    const auto targets = std::count_if(record.objects.begin(), record.objects.end(), is_target);
    if (targets > config.max_boxes) {
      throw std::runtime_error(fmt::format("{}: has {} boxes, more than loader.max_boxes = {}", record.path.string(),
                                           targets, config.max_boxes));
    }
    pictures.check_fits(record, record.width, record.height);
  }

  // The permutation of an epoch; workers may be in two epochs at a time.
  [[nodiscard]] std::shared_ptr<const std::vector<int64_t>> order_of(int64_t epoch) {
    const std::lock_guard lock(order_mutex);
    auto& order = orders[epoch];
    if (!order) order = std::make_shared<const std::vector<int64_t>>(sampler->order(epoch));
    std::shared_ptr<const std::vector<int64_t>> result = order;
    while (orders.size() > 3) orders.erase(orders.begin());
    return result;
  }

  // Batch t of the run, t = epoch * batches + batch of the epoch.
  void make(int64_t t, Batch& batch) {
    const int64_t epoch = t / batches,
                  first = t % batches * global_batch + static_cast<int64_t>(rank) * config.batch_size;
    const int64_t n = training ? config.batch_size : std::min<int64_t>(config.batch_size, images - first);
    const auto order = training ? order_of(epoch) : nullptr;
    shape_batch(batch, n, config.height, config.width, config.max_boxes);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t position = first + i;  // in the epoch; beyond its end it starts again
      int64_t index = training ? (*order)[static_cast<size_t>(position % images)] : position;
      SharedPicture source = may_skip ? pictures.readable(*order, position, index, batch.skipped) : pictures.at(index);
      Crop crop;
      const Crop* cropped = nullptr;
      if (training && config.augment.geometric()) {
        crop = random_crop(config.augment, seed, epoch, position, source->image.width, source->image.height,
                           config.width, config.height);
        cropped = &crop;
      }
      if (training && (cropped || config.augment.colours())) {
        auto changed = std::make_shared<Picture>(
            Picture{cropped ? cut(source->image, crop) : source->image, source->scale_x, source->scale_y});
        if (config.augment.colours()) apply(random_colours(config.augment, seed, epoch, position), changed->image);
        source = changed;
      }
      std::vector<Target> targets = targets_of(dataset.images[index], *source, cropped);
      if (training && config.augment.shift != 0) shift(source, targets, epoch, position);
      const int32_t orientation = training ? random_orientation(choices, seed, epoch, position) : 0;
      fill(batch, i, index, *source, targets, orientation);
    }
  }

  // `cropped` is the section that was cut out, if any.
  [[nodiscard]] std::vector<Target> targets_of(const ImageRecord& record, const Picture& source,
                                               const Crop* cropped) const {
    const auto width = static_cast<float>(source.image.width), height = static_cast<float>(source.image.height);
    std::vector<Target> targets;
    for (const Object& object : record.objects) {
      if (!is_target(object)) continue;
      Box scaled{object.box.x1 * source.scale_x, object.box.y1 * source.scale_y, object.box.x2 * source.scale_x,
                 object.box.y2 * source.scale_y};
      if (cropped) {
        if (!move_box(scaled, *cropped, config.augment.min_visible)) continue;
      } else {
        scaled = {std::clamp(scaled.x1, 0.f, width), std::clamp(scaled.y1, 0.f, height),
                  std::clamp(scaled.x2, 0.f, width), std::clamp(scaled.y2, 0.f, height)};
      }
      targets.push_back({scaled, object.label});
    }
    return targets;
  }

  // In front of the turns, which a shift that knows no preferred direction does not mind. A picture that would lose all
  // its objects stays where it is, as one that has none does.
  void shift(SharedPicture& source, std::vector<Target>& targets, int64_t epoch, int64_t position) const {
    const Shift by = random_shift(config.augment, seed, epoch, position);
    if (by.none()) return;
    std::vector<Target> moved = shifted(targets, by, source->image.width, source->image.height);
    if (moved.empty()) return;
    targets = std::move(moved);
    source = std::make_shared<Picture>(Picture{shifted(source->image, by), source->scale_x, source->scale_y});
  }

  void fill(Batch& batch, int64_t i, int64_t index, const Picture& source, const std::vector<Target>& targets,
            int32_t orientation) {
    put_picture(batch, i, source);
    const Image& image = source.image;
    const auto width = static_cast<float>(image.width), height = static_cast<float>(image.height);
    int32_t count = 0;
    for (const Target& target : targets) {
      const Box box = orient_box(target.box, orientation, width, height);
      const int64_t slot = i * batch.max_boxes + count++;
      float* sides = &batch.gt_boxes[slot * 4];
      sides[0] = box.x1;
      sides[1] = box.y1;
      sides[2] = box.x2;
      sides[3] = box.y2;
      batch.gt_labels[slot] = target.label;
    }
    batch.gt_counts[i] = count;
    batch.orientations[i] = orientation;
    batch.ids[i] = dataset.images[index].id;
    batch.indices[i] = index;
  }

  void work() {
    while (true) {
      int64_t t;
      Slot slot;
      {
        std::unique_lock lock(mutex);
        room.wait(lock, [&] { return stopping || again >= 0 || (claimed < last && claimed < taken + ahead); });
        if (stopping) return;
        t = again >= 0 ? std::exchange(again, -1) : claimed++;
        if (!spare.empty()) {
          slot.batch = std::move(spare.back());
          spare.pop_back();
        }
      }
      try {
        make(t, slot.batch);
      } catch (...) {
        slot.error = std::current_exception();
      }
      {
        const std::lock_guard lock(mutex);
        ready.emplace(t, std::move(slot));
      }
      arrived.notify_all();
    }
  }

  bool next(Batch& batch) {
    std::unique_lock lock(mutex);
    if (taken >= last) return false;
    const auto begin = std::chrono::steady_clock::now();
    if (failed) {
      again = taken;
      failed = false;
      room.notify_all();
    }
    arrived.wait(lock, [&] { return ready.contains(taken); });
    waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const auto slot = ready.find(taken);
    if (slot->second.error) {
      const std::exception_ptr error = slot->second.error;
      ready.erase(slot);
      failed = true;
      std::rethrow_exception(error);
    }
    std::swap(batch, slot->second.batch);
    spare.push_back(
        std::move(slot->second.batch));  // the caller's old buffers serve again: no allocation once all have gone round
    if (static_cast<int64_t>(spare.size()) > ahead) spare.erase(spare.begin());
    ready.erase(slot);
    ++taken;
    lock.unlock();
    room.notify_all();
    return true;
  }

  struct Slot {
    Batch batch;
    std::exception_ptr error;
  };

  const Dataset& dataset;
  const LoaderConfig config;
  const bool training, may_skip;
  const int rank, world_size;
  const uint64_t seed;
  OrientationChoices choices;
  std::unique_ptr<Sampler> sampler;  // training
  int64_t images = 0;                // that an epoch shows
  int64_t global_batch = 0, batches = 0, first_epoch = 0;
  int64_t ahead = 0;  // batches that may be in work or ready

  Pictures pictures;
  std::mutex order_mutex;
  std::map<int64_t, std::shared_ptr<const std::vector<int64_t>>> orders;  // by epoch

  mutable std::mutex mutex;  // guards what follows
  std::condition_variable room, arrived;
  std::map<int64_t, Slot> ready;  // by t
  std::vector<Batch> spare;       // buffers to use again
  int64_t taken = 0, claimed = 0, last = 0;
  int64_t again = -1;   // a batch that failed and is to be made once more
  bool failed = false;  // that of `taken` has
  double waited = 0;
  bool stopping = false;

  std::vector<std::jthread> workers;  // last: they use all of the above
};

Loader::Loader(const Dataset& dataset, const LoaderConfig& config, const DatasetConfig& files, LoaderMode mode,
               LoaderState state, int rank, int world_size)
    : impl_(std::make_unique<Impl>(dataset, config, files, mode, state, rank, world_size)) {}

Loader::~Loader() = default;

int64_t Loader::batches_per_epoch() const { return impl_->batches; }

bool Loader::next(Batch& batch) { return impl_->next(batch); }

LoaderState Loader::state() const {
  const std::lock_guard lock(impl_->mutex);
  if (!impl_->training) return {impl_->seed, impl_->first_epoch, impl_->taken - impl_->first_epoch * impl_->batches};
  return {impl_->seed, impl_->taken / impl_->batches, impl_->taken % impl_->batches};
}

double Loader::seconds_waited() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->waited;
}

}  // namespace gradlibra
