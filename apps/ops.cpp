// tessera ops: every codelet with formula, type, implementations. tessera environment: the page about variables.
#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/options.h"
#include "apps/table.h"
#include "core/error.h"

namespace tessera {

// The formula, then types and implementations in lines that fit a terminal. Labels have commas of their own.
static void print(const std::string& op, const std::vector<std::string>& types, const CodeletInfo& c) {
    constexpr int64_t width = 118;
    std::cout << pad_right(op, 32) << c.formula << "\n";
    std::string line = "    " + join(types);
    for (const auto& [where, labels] : {std::pair{"CPU", &c.cpu}, {"CUDA", &c.cuda}}) {
        if (labels->empty()) continue;
        const std::string part = std::string(where) + ": " + join(*labels, " | ");
        if (display_width(line) + 2 + display_width(part) <= width) line += "; " + part;
        else std::cout << line << "\n", line = "    " + part;
    }
    std::cout << line << "\n";
}

Command add_ops(CLI::App& app) {
    auto json = std::make_shared<bool>(false);
    app.add_flag("--json", *json, "One JSON array instead of a table");
    return [json] {
        if (*json) {
            auto all = nlohmann::json::array();
            for (const CodeletInfo* c : all_codelets())
                all.push_back({{"name", c->name},
                               {"op", c->op},
                               {"dtype", name_of(c->dtype)},
                               {"formula", c->formula},
                               {"cpu", c->cpu},
                               {"cuda", c->cuda}});
            std::cout << all.dump() << "\n";
            return 0;
        }
        // Its types share an op's formula and backends.
        std::map<std::string, std::pair<const CodeletInfo*, std::vector<std::string>>> ops;
        for (const CodeletInfo* c : all_codelets()) {
            auto& [first, types] = ops[c->op];
            if (!first || c->cpu.size() > first->cpu.size()) first = c;
            types.push_back(c->name.substr(c->op.size() + 1));
        }
        for (auto& [name, entry] : ops) print(name, entry.second, *entry.first);
        return 0;
    };
}

Command add_environment(CLI::App&) {
    return [] {
        std::cout << environment_page();
        return 0;
    };
}

}  // namespace tessera
