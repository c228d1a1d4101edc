// SPDX-License-Identifier: MIT
// From annotated slides to a data set of patches, as the Grad-Libra paper's data were made (arXiv:2208.03779, sec.
// 4.1): patches of 512 x 512, cropped with overlap for training and validation and without for testing, 7 : 3 by slide.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "data/slides/patch_files.h"

namespace gradlibra {

struct MadePatches {
  bool were_there = false;  // a finished set of the same input and options: nothing was done
  std::string table;        // for a person: counts by class and split, warnings
};

// Writes pictures, annotations and patches.json (the manifest) into `output`, which must not exist or be empty. All of
// it grows in `output`.part, which gets its name when the last file is whole: an interrupted run leaves nothing that
// looks like a data set, and the same call goes on with the patches that are there, but for pictures that are cut off
// or, of a finished slide, have another size than they had. Slides whose input or options have changed since are made
// anew. Several slides at a time, as many as options.memory_bytes allows.
//
// A finished set is left as it is. It counts as the same if its manifest does, which has hashes of each slide's
// annotations and file (patch_manifest.h) and no times: a copy of slides or set is as good. All files must be there,
// but what they hold is not looked at.
//
// std::runtime_error: `output` holds something else or a set of other input, or of a finished one not all files any
// more; another process is at it, or slides could
// not be read; these are named, all others are finished, and stay for the next call. WriteError (a full disk) ends it
// at once.
// `say` gets a line for each slide, from several threads but one at a time.
MadePatches make_patches(const PatchSet& set, const std::filesystem::path& output,
                         const std::function<void(const std::string&)>& say);

}  // namespace gradlibra
