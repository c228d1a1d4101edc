// SPDX-License-Identifier: MIT
// Stands in for CUDA's header of this name: first on the include path, it lets a host compiler read the .cu sources
// and the code around them, with no CUDA toolkit. Only what this project's kernels use is here.
#pragma once

#include "emulator/qualifiers.h"

#include "emulator/vector_types.h"

#include "emulator/block.h"
#include "emulator/device_functions.h"
#include "emulator/host_api.h"
