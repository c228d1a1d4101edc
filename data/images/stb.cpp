// SPDX-License-Identifier: MIT
// The one place where stb's decoders and encoders are compiled, with the guards that untrusted files need: three
// formats only, a side limit, no file access of its own, and no single allocation beyond what the largest accepted
// image can need.
#include <cstddef>
#include <cstdlib>

#include "data/images/image.h"

namespace {

// 4 channels of 16 bits, twice over for what the PNG filter bytes and the zlib buffer's doubling add.
constexpr std::size_t kMaxAllocation = static_cast<std::size_t>(gradlibra::kMaxImagePixels) * 4 * 2 * 2;

void* bounded_malloc(std::size_t size) { return size > kMaxAllocation ? nullptr : std::malloc(size); }
void* bounded_realloc(void* block, std::size_t size) {
  return size > kMaxAllocation ? nullptr : std::realloc(block, size);
}

}  // namespace

#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS (1 << 15)
#define STBI_MALLOC(size) bounded_malloc(size)
#define STBI_REALLOC(block, size) bounded_realloc(block, size)
#define STBI_FREE(block) std::free(block)
#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>

static_assert(STBI_MAX_DIMENSIONS == gradlibra::kMaxImageSide);

#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb_image_write.h>
