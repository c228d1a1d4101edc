// SPDX-License-Identifier: MIT
// Whether all ranks train the same: what differs between them now would otherwise show as a model that learns nothing.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "data/datasets/dataset.h"
#include "models/detector.h"
#include "runtime/distributed/communicator.h"

namespace gradlibra {

// What must be the same on every rank: a name for a person, and the value, a hash or a text.
using RankMarks = std::vector<std::pair<std::string, std::string>>;

// The ranks differ, so that none of them is to be trusted with a checkpoint.
struct RanksDiffer : AgreedError {
  using AgreedError::AgreedError;
};
// Every rank calls it. RanksDiffer names the first rank that differs from rank 0, both hosts, and what differs: of a
// text in lines the lines, of anything else both values. `when` ends the message: "at the start".
void require_same_marks(Communicator& communicator, const RankMarks& own, const std::string& when);

// Of the bits of all weights and of what losses accumulate, but not of batch norms' running statistics: each rank has
// those of its own images, which no training depends on.
[[nodiscard]] std::string hash_of_weights(Detector& detector);

// Of the files of at most sixteen images from all over the split, whole: a host with other files of the same names, an
// older copy say, is found by them. Of one that cannot be read its name counts.
[[nodiscard]] std::string hash_of_images(const Dataset& dataset);

// Gives all ranks the running statistics of rank 0, those that a checkpoint holds: what looks at a detector together
// looks at one.
void share_running_statistics(Detector& detector, Communicator& communicator);

}  // namespace gradlibra
