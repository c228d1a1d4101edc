// SPDX-License-Identifier: MIT
// Bytes from outside are not text until they are checked: names in files and of files may be anything.
#pragma once

#include <string>
#include <string_view>

namespace gradlibra {

// Where the first byte stands that is no part of well-formed UTF-8 (Unicode 15, table 3-7: no surrogates, no overlong
// forms, nothing above U+10FFFF); npos if there is none.
[[nodiscard]] size_t find_invalid_utf8(std::string_view text);

// The text with every byte that is not UTF-8, and every control character, written as \xHH: always UTF-8, on one line,
// and two different inputs stay different (but for texts that hold such a spelling themselves).
[[nodiscard]] std::string escaped(std::string_view text);

// The same line by line: for text of many lines in which names from outside stand.
[[nodiscard]] std::string printable(std::string_view text);

// What is wrong with the encoding of a text file that should be UTF-8, in plain words with the line and bytes:
// "line 3: is not UTF-8 (byte \xe9): save the file as UTF-8". UTF-16 is named as that. Empty if it is UTF-8.
[[nodiscard]] std::string encoding_problem(std::string_view text);

}  // namespace gradlibra
