// SPDX-License-Identifier: MIT
// One training step with every intermediate in a file, for comparison with another implementation.
#pragma once

#include <string>
#include <vector>

#include "data/loading/loader.h"
#include "engine/experiment_config.h"
#include "models/detector.h"
#include "runtime/base/safetensors.h"

namespace gradlibra {

// The images of these ids (all ids must exist; empty: the first batch_size images) as one batch without augmentation.
[[nodiscard]] Batch batch_of(const Dataset& dataset, const ExperimentConfig& config,
                             const std::vector<std::string>& ids);

// One forward and backward pass without an update of the weights; the state of the loss moves on. Maps are written as
// N, C, H, W and weights as O, I, kh, kw, as other frameworks have them:
//   input, gt.boxes, gt.labels, gt.counts               what went in (normalised pixels, network coordinates)
//   whatever backbone, neck and head note on the tape   backbone.c2 .. c5, neck.p3 .., and what the head's header
//                                                       lists: maps, boxes, assignments (integers), normalisers (F64)
//   grad/<any of these>, grad/<parameter>               d total loss / d value, where one exists
//   loss.<term>                                         scalars (F64)
//   param/<parameter>                                   the weights it ran with
//   state/<name>, next/<name>                           what the loss had accumulated before the step, and after it
//                                                       (F64), by the names of checkpoints (train.state.<name>)
//   gt.instances                                        boxes of each class in the training split (I64), if known
// Its metadata has `first_non_finite`, where there is such a value: the name of the first tensor that holds one, in the
// order in which they come about: weights, what the loss had accumulated, forward pass, losses, backward pass,
// gradients of weights (in the order of the network), what the loss accumulates.
[[nodiscard]] SafetensorsFile dump_step(Detector& detector, const Batch& batch);

}  // namespace gradlibra
