// tessera ops: every codelet with formula, type, implementations. tessera environment: the page about variables.
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/options.h"
#include "apps/table.h"
#include "core/error.h"

namespace tessera {

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
        // One row per op: its types share formula and backends.
        std::map<std::string, std::pair<const CodeletInfo*, std::vector<std::string>>> ops;
        for (const CodeletInfo* c : all_codelets()) {
            auto& [first, types] = ops[c->op];
            if (!first || c->cpu.size() > first->cpu.size()) first = c;
            types.push_back(c->name.substr(c->op.size() + 1));
        }
        Table table({"op", "types", "CPU", "CUDA", "formula"});
        for (auto& [name, entry] : ops)
            table.row(
                {name, join(entry.second), join(entry.first->cpu), join(entry.first->cuda), entry.first->formula});
        std::cout << table.text();
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
