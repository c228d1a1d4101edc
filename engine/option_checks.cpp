// SPDX-License-Identifier: MIT
#include "engine/option_checks.h"

#include <cmath>

namespace gradlibra {

namespace {

CLI::Validator number_that_is(const std::string& what, const std::string& shown, bool (*holds)(double)) {
  const auto problem = [what, holds](std::string& text) {
    double value = 0;
    const bool good = CLI::detail::lexical_cast(text, value) && std::isfinite(value) && holds(value);
    return good ? std::string() : text + " is not a number " + what;
  };
  return {problem, shown};
}

}  // namespace

CLI::Validator at_least_zero() {
  return number_that_is("of 0 or more", "NONNEGATIVE", [](double value) { return value >= 0; });
}

CLI::Validator above_zero() {
  return number_that_is("above 0", "POSITIVE", [](double value) { return value > 0; });
}

CLI::Validator from_zero_to_one() {
  return number_that_is("from 0 to 1", "FLOAT in [0 - 1]", [](double value) { return value >= 0 && value <= 1; });
}

void refuse_empty_paths(CLI::App& app) {
  for (const char* name : {"--output", "--input", "--slides", "--annotations", "--work-dir", "--checkpoint"})
    if (CLI::Option* option = app.get_option_no_throw(name))
      option->check([](const std::string& text) { return text.empty() ? std::string("is empty") : std::string(); });
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) refuse_empty_paths(*command);
}

}  // namespace gradlibra
