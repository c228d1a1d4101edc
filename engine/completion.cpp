// SPDX-License-Identifier: MIT
#include "engine/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>
#include <vector>

#include "engine/experiment_config.h"

namespace gradlibra {

namespace {

// "schedule.lr=" and so on, from the resolved configuration's lines.
std::string override_words() {
  std::string words;
  std::vector<std::string> sections;
  std::istringstream yaml(to_yaml(ExperimentConfig{}));
  for (std::string line; std::getline(yaml, line);) {
    const size_t indent = line.find_first_not_of(' '), colon = line.find(':');
    if (indent == std::string::npos || colon == std::string::npos || line[indent] == '#') continue;
    sections.resize(std::min(sections.size(), indent / 2));
    const std::string key = line.substr(indent, colon - indent);
    if (colon + 1 == line.size()) {
      sections.push_back(key);
      continue;
    }
    for (const std::string& section : sections) words += section + ".";
    words += key + "= ";
  }
  return words;
}

std::vector<std::string> names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  return names;
}

// What stands in braces, or with bars between, where the help says what a value is.
std::vector<std::string> choices_of(const CLI::Option& option) {
  std::string type = option.get_type_name();
  const size_t open = type.rfind('{'), close = type.rfind('}');
  char separator = ',';
  if (open != std::string::npos && close != std::string::npos && close > open) {
    type = type.substr(open + 1, close - open - 1);
  } else if (type.find('|') != std::string::npos) {
    type = type.substr(0, type.find(','));
    separator = '|';
  } else {
    return {};
  }
  std::vector<std::string> words;
  std::istringstream parts(type);
  for (std::string word; std::getline(parts, word, separator);) words.push_back(word);
  return words;
}

// Of one program or subcommand: the cases for the word before the one that is typed, and all words.
std::string of_command(const CLI::App& app) {
  std::string text;
  std::vector<std::string> words;
  bool overrides = false;
  for (const CLI::Option* option : app.get_options()) {
    overrides = overrides || option->get_name() == "overrides";
    const std::vector<std::string> names = names_of(*option);
    words.insert(words.end(), names.begin(), names.end());
    if (names.empty() || option->get_items_expected_max() == 0) continue;
    std::string pattern;
    for (const std::string& name : names) pattern += (pattern.empty() ? "" : "|") + name;
    const std::vector<std::string> choices = choices_of(*option);
    // With nothing to offer bash offers files.
    std::string action;
    if (!choices.empty()) action = fmt::format("COMPREPLY=($(compgen -W '{}' -- \"$cur\")); ", fmt::join(choices, " "));
    if (option->get_type_name() == "DIR") action = "COMPREPLY=($(compgen -d -- \"$cur\")); ";
    text += fmt::format("        {}) {}return ;;\n", pattern, action);
  }
  for (const CLI::App* command : app.get_subcommands({})) words.push_back(command->get_name());
  text = fmt::format("      case $prev in\n{}      esac\n      words='{}'\n", text, fmt::join(words, " "));
  return text + fmt::format("      overrides={}\n", overrides ? "yes" : "");
}

}  // namespace

std::string bash_completion(const CLI::App& app) {
  const std::string& name = app.get_name();
  std::string commands, cases;
  for (const CLI::App* command : app.get_subcommands({})) {
    commands += (commands.empty() ? "" : "|") + command->get_name();
    cases += fmt::format("    {})\n{}      ;;\n", command->get_name(), of_command(*command));
  }
  std::string text = fmt::format(
      "# bash completion for {0}, made by `{0} --bash-completion`\n_gradlibra_{0}() {{\n"
      "  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command= words= overrides= word\n"
      "  COMPREPLY=()\n",
      name);
  if (!commands.empty())
    text += fmt::format(
        "  for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n    case $word in {}) command=$word; break ;; esac\n"
        "  done\n",
        commands);
  text += fmt::format("  case $command in\n{}    *)\n{}      ;;\n  esac\n", cases, of_command(app));
  text += fmt::format(
      "  [[ -n $overrides && $cur != -* ]] && words='{0}' && compopt -o nospace 2>/dev/null\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}}\ncomplete -o default -F _gradlibra_{1} {1}\n",
      override_words(), name);
  return text;
}

}  // namespace gradlibra
