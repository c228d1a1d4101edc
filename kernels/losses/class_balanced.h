// SPDX-License-Identifier: MIT
// Class-balanced loss (arXiv:1901.05555): a loss of the family times a constant weight of the class,
//   psi = w[label] psi_base(g)      by row: the row's own class weighs all its entries; w[C] is the background's
//   psi = w[channel] psi_base(g)    by entry: every channel has its class's weight, in background rows too
// Weights come from the classes' effective numbers: models/losses/class_balanced.h.
#pragma once

#include "kernels/losses/sigmoid_entry.h"

namespace gradlibra::kernels {

template <class Base>
struct ClassBalanced {
  Base base;
  const float* weights = nullptr;  // (C + 1): classes, then background; memory of the device that evaluates
  bool by_row = true;

  template <class T>
  struct Weight {
    typename Base::template Weight<T> base;
    const float* weights;
    bool by_row;
    GRADLIBRA_HOST_DEVICE T of(EntryPlace place) const {
      return static_cast<T>(weights[by_row ? place.label : place.channel]);
    }
    GRADLIBRA_HOST_DEVICE T psi(T g, EntryPlace place) const { return of(place) * base.psi(g, place); }
    GRADLIBRA_HOST_DEVICE T slope(T g, T, EntryPlace place) const {
      return of(place) * base.slope(g, base.psi(g, place), place);
    }
  };
  template <class T>
  [[nodiscard]] Weight<T> weight() const {
    return {base.template weight<T>(), weights, by_row};
  }
};

}  // namespace gradlibra::kernels
