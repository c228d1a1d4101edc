// SPDX-License-Identifier: MIT
#include "runtime/distributed/distributed_config.h"

namespace gradlibra {

void DistributedConfig::describe(ConfigVisitor& v) {
  v.field("timeout", timeout,
          "seconds within which all ranks have ended when one is killed, hangs or loses its network",
          between(0.1, 86400));
  v.field("stall_timeout", stall_timeout,
          "seconds without a step, or a batch of a validation, after which all ranks end: a sum, a kernel or a disk "
          "hangs; 0: never",
          between(0, 1e7));
  v.field("start_timeout", start_timeout,
          "seconds that ranks wait for each other at the start, and for NCCL's connections", between(0.1, 86400));
  v.field("check_every", check_every,
          "steps between comparisons of the weights of all ranks, which must be the same; 0: at the start alone",
          at_least(0));
  v.field("bucket_mb", bucket_mb, "gradients that are summed over ranks at once, beside the rest of the backward pass",
          between(0.001, 1 << 20));
  v.field("first_bucket_mb", first_bucket_mb, "the same of those that are ready first, the head's",
          between(0.001, 1 << 20));
  v.field("sync_norm", sync_norm,
          "batch norms that train take the statistics of all ranks' images; false: of each rank's own");
}

}  // namespace gradlibra
