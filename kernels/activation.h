// SPDX-License-Identifier: MIT
// What a norm, a bias or a convolution applies to its result as it stores it.
#pragma once

namespace gradlibra::kernels {

enum class Activation {
  none,
  relu,  // max(y, 0); its derivative is 0 where the output is not positive
};

}  // namespace gradlibra::kernels
