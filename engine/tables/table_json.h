// SPDX-License-Identifier: MIT
// A table's JSON file (table_json), read again.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "engine/tables/table_report.h"

namespace gradlibra {

struct TableFile {
  PaperTable table;
  std::vector<RowResults> rows;  // in the order of the table's
  TableMaking made;
};
// Rows and columns are the file's own, whatever the table of that name has now. std::runtime_error names the file and
// the place of what is missing or of another kind.
[[nodiscard]] TableFile read_table(const std::filesystem::path& file);

}  // namespace gradlibra
