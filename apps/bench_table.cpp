// What `tessera bench overhead, gemm, product, trace` say; their JSON has the same figures.
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/bench.h"
#include "apps/table.h"

namespace tessera {
namespace {

using nlohmann::json;

std::string number(const json& j, const char* key, int decimals) { return fixed(j[key].get<double>(), decimals); }
std::string whole(const json& j, const char* key) { return std::to_string(j[key].get<int64_t>()); }
std::string text(const json& j, const char* key) { return j[key].get<std::string>(); }
std::string workers(const json& j) { return counted(j["workers"].get<int64_t>(), "worker"); }

std::string overhead(const json& j) {
    Table table({"us per task", "tessera", "bare loop", "difference"});
    const auto row = [&](const char* name, const std::string& prefix) {
        const auto figure = [&](const char* key) { return number(j, (prefix + key).c_str(), 3); };
        table.row({name, figure("tessera_us"), figure("bare_us"), figure("difference_us")});
    };
    row("submitted, workers pause", "submit_");
    row("then run", "run_");
    row("one after the other", "");
    row("both at once", "at_once_");
    return whole(j, "tasks") + " tasks of " + text(j, "codelet") + ", " + text(j, "policy") + ", " + workers(j) + "\n" +
           table.text() + "difference: median of those within rounds\n";
}

std::string products_per_worker(const json& j) {
    const std::string n = whole(j, "n");
    Table table({"GFLOP/s", "tessera", "bare calls", "tessera / bare"});
    const auto row = [&](const char* name, const char* ours, const char* bare, const char* ratio) {
        table.row({name, number(j, ours, 1), bare ? number(j, bare, 1) : "the better", number(j, ratio, 3)});
    };
    row("oneDNN", "tessera_onednn_gflops", "bare_onednn_gflops", "ratio_onednn");
    row("OpenBLAS", "tessera_openblas_gflops", "bare_openblas_gflops", "ratio_openblas");
    row("as models choose", "tessera_gflops", nullptr, "ratio_chosen_to_better");
    return n + " x " + n + " x " + n + " on each of " + workers(j) + ", " + text(j, "policy") + "\n" + table.text();
}

std::string one_product(const json& j) {
    const std::string n = whole(j, "n");
    Table table({"", "GFLOP/s", "tessera / it"});
    table.row({"tessera", number(j, "tessera_gflops", 1), ""});
    table.row({"OpenBLAS", number(j, "openblas_gflops", 1), number(j, "ratio_openblas", 3)});
    table.row({"oneDNN", number(j, "onednn_gflops", 1), number(j, "ratio_onednn", 3)});
    return n + " x " + n + " x " + n + ", tiles of " + whole(j, "tile") + ", " + workers(j) + ", " + text(j, "policy") +
           "\n" + table.text() + "tessera / the better of the two: " + number(j, "ratio_to_better", 3) + "\n";
}

std::string trace(const json& j) {
    const std::string n = whole(j, "n");
    Table table({"", ""}, false);
    table.row({"task", number(j, "task_us", 1) + " us, a product of " + n + " x " + n + " matrices"});
    table.row({"without a trace", number(j, "plain_us", 3) + " us of a worker per task"});
    table.row({"with one", number(j, "traced_us", 3) + " us, " + number(j, "overhead_us", 3) + " more"});
    table.row({"ratio", number(j, "ratio", 4) + ", quartiles " + number(j, "ratio_low", 4) + " to " +
                            number(j, "ratio_high", 4)});
    table.row({"two plain turns", number(j, "ratio_plain", 4) + ": how quiet the machine is"});
    return whole(j, "tasks") + " tasks, " + counted(j["rounds"].get<int64_t>(), "round") + ", " + workers(j) + ", " +
           text(j, "policy") + "\n" + table.text();
}

}  // namespace

void print_bench(const json& j) {
    const std::string bench = text(j, "bench");
    std::cout << (bench == "overhead" ? overhead(j)
                  : bench == "gemm"   ? products_per_worker(j)
                  : bench == "trace"  ? trace(j)
                                      : one_product(j));
}

}  // namespace tessera
