// SPDX-License-Identifier: MIT
// Which images an epoch shows, and how often: all alike, or those with rare classes more often.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/datasets/dataset.h"
#include "runtime/base/config.h"

namespace gradlibra {

struct SamplingConfig {
  std::string by = "image";  // image | repeat_factor | class
  double threshold = 0.1;    // repeat_factor: classes on a smaller share of the images are shown more often
  void describe(ConfigVisitor& v);
};

// How often an epoch shows each image under repeat factor sampling (LVIS: Gupta, Dollar, Girshick, arXiv:1908.03195,
// section 5): max over its classes c of max(1, sqrt(threshold / f(c))), where f(c) is the share of images that hold c.
// Images without objects have 1.
[[nodiscard]] std::vector<double> repeat_factors(const Dataset& dataset, double threshold);

// The order of the images of every epoch; pure functions of (data set, configuration, seed, epoch).
class Sampler {
 public:
  // std::invalid_argument names the key that is out of range.
  Sampler(const Dataset& dataset, const SamplingConfig& config, uint64_t seed);

  // Images an epoch shows; the same for all epochs. repeat_factor: the sum of the factors, rounded. class: as many as
  // there are images.
  [[nodiscard]] int64_t epoch_length() const { return length_; }
  // Indices of images.
  //   image          every image once, shuffled
  //   repeat_factor  image i factor(i) times: the whole part surely, the fraction by systematic sampling with one
  //                  offset an epoch, so that the length never varies; shuffled
  //   class          classes in turn, each time one of its images in shuffled order (Shen et al., arXiv:1512.05830)
  [[nodiscard]] std::vector<int64_t> order(int64_t epoch) const;

 private:
  SamplingConfig config_;
  uint64_t seed_;
  int64_t images_, length_;
  std::vector<double> factors_;                 // repeat_factor: their sum is length_
  std::vector<std::vector<int64_t>> of_class_;  // class: the images that hold it; classes without are left out
};

}  // namespace gradlibra
