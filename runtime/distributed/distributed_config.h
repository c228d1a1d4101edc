// SPDX-License-Identifier: MIT
// How the ranks of a job look after each other.
#pragma once

#include "runtime/base/config.h"

namespace gradlibra {

struct DistributedConfig {
  double timeout = 60;         // seconds within which all ranks have ended when one is lost
  double stall_timeout = 600;  // seconds without a step or a validated batch after which all end; 0: never
  double start_timeout = 300;  // seconds within which all ranks have come to the start
  int64_t check_every = 1000;  // steps between comparisons of the ranks' weights
  double bucket_mb = 25, first_bucket_mb = 1;  // runtime/training/gradient_buckets.h
  bool sync_norm = true;                       // statistics of batch norms that train, over all ranks
  void describe(ConfigVisitor& v);
};

}  // namespace gradlibra
