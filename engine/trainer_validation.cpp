// SPDX-License-Identifier: MIT
// The trainer's validations: when one is due, what it shows, and which checkpoint is the best.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "engine/detect_on_ranks.h"
#include "engine/evaluation.h"
#include "engine/rank_check.h"
#include "engine/signals.h"
#include "engine/trainer.h"

namespace gradlibra {
namespace {

// The averages in place of the weights, until the end.
class AveragesInUse {
 public:
  explicit AveragesInUse(WeightAverage* average) : average_(average) {
    if (average_ != nullptr) average_->swap();
  }
  void end() {
    if (average_ != nullptr) std::exchange(average_, nullptr)->swap();
  }
  ~AveragesInUse() {
    try {
      end();
    } catch (const std::exception&) {  // after another error, which says why the device takes nothing any more
    }
  }
  AveragesInUse(const AveragesInUse&) = delete;
  AveragesInUse& operator=(const AveragesInUse&) = delete;

 private:
  WeightAverage* average_;
};

}  // namespace

bool Trainer::validation_due() const {
  const int64_t epochs = state_.step / steps_per_epoch_;
  return evaluate_every_ > 0 && state_.step > 0 && state_.step % steps_per_epoch_ == 0 &&
         epochs % evaluate_every_ == 0 && state_.validations.epochs < epochs;
}

bool Trainer::out_of_patience() const {
  return config_.train.patience > 0 && state_.validations.without_gain >= config_.train.patience;
}

void Trainer::evaluate(int64_t epoch) {
  Detections detections;
  AveragesInUse averages(training_.average.get());
  try {
    share_running_statistics(*training_.detector, communicator_);
    detections = detect_on_ranks(*training_.detector, val_, config_, communicator_, [&](int64_t, int64_t) {
      if (options_.watchdog != nullptr) options_.watchdog->moved();
      if (signalled()) throw BrokenOff{options_.signal->load()};
    });
    averages.end();
  } catch (const BrokenOff& broken) {
    averages.end();
    agreed_signal_ = broken.signal;
    if (communicator_.world_size() > 1) leave_only_to_who_insists();
    return say(fmt::format("epoch {}: validation broken off", epoch + 1));
  }
  const VocResult voc = voc_metrics(val_, detections);
  const int64_t full = images_at_cap(detections, config_.model.test);
  say(fmt::format("epoch {}: validation mAP@0.5 {}{}", epoch + 1, voc.map ? fmt::format("{:.4f}", *voc.map) : "-",
                  full > 0 ? fmt::format("  ({} of {} images have model.test.max_per_image = {} detections)", full,
                                         val_.images.size(), config_.model.test.max_per_image)
                           : ""));
  nlohmann::ordered_json line{{"epoch", epoch + 1}, {"step", state_.step}, {"val_map50", nullptr}};
  if (voc.map) line["val_map50"] = *voc.map;
  if (full > 0) line["val_images_at_max_per_image"] = full;
  state_.validations.epochs = epoch + 1;
  keep_if_best(voc.map);
  if (!leads()) return;
  write_log(line);
  scalars_->validation(line);
}

void Trainer::keep_if_best(const std::optional<double>& map) {
  Validations& v = state_.validations;
  if (!map || (v.best_map && *map <= *v.best_map)) {
    ++v.without_gain;
    return;
  }
  v.best_map = map;
  v.best_step = state_.step;
  v.without_gain = 0;
  if (!leads()) return;
  start_write(*best_);
}

}  // namespace gradlibra
