// SPDX-License-Identifier: MIT
#include "models/necks/make_neck.h"

#include "models/config.h"
#include "models/necks/dilated_encoder.h"
#include "models/necks/fpn.h"

namespace gradlibra {

std::unique_ptr<Neck> make_neck(const ModelConfig& config, ParameterStore& store, std::span<const int> in_channels) {
  if (config.detector == "yolof") return std::make_unique<DilatedEncoder>(store, config.yolof.encoder, in_channels);
  return std::make_unique<Fpn>(store, config.neck, in_channels);
}

}  // namespace gradlibra
