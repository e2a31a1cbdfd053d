// What `tessera gemm` says: the keys of one product, and the same as tables.
#include <starpu.h>

#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/gemm.h"
#include "apps/simulated.h"
#include "apps/table.h"
#include "core/statistics.h"

namespace tessera {
namespace {

// Part of all tasks that each device ran.
std::vector<double> shares_of(const Runtime& runtime, const ProductMachine& machine, const GemmRun& run) {
    double all = 0;
    for (const WorkerTotals& t : run.workers) all += double(t.tasks);
    std::vector<double> shares(machine.names.size());
    if (all == 0) return shares;
    for (const WorkerInfo& w : runtime.workers())
        for (size_t d = 0; d < shares.size() && size_t(w.id) < run.workers.size(); ++d)
            if (int(w.node) == machine.blocks[d].node) shares[d] += double(run.workers[size_t(w.id)].tasks) / all;
    return shares;
}

// How good it is. Nothing for a product without work: a rate of no flops is none.
void add_rates(nlohmann::json& j, const ProductProblem& problem, const ProductMachine& machine, const GemmRun& run,
               const std::vector<double>& shares, double moved_bytes) {
    for (const char* key : {"gflops", "bound", "bound_kind", "efficiency", "q"}) j[key] = nullptr;
    if (run.empty) return;
    const double seconds = j["seconds"];
    j["gflops"] = problem.flops() / seconds * 1e-9;
    double speed = 0;
    for (const ProductDevice& d : machine.devices) speed += d.flops_per_s;
    // With a disk the host is one device, whose memory is the limit, behind one link for both directions.
    std::vector<ProductDevice> devices = machine.devices;
    std::vector<double> links = machine.link_bytes_per_s, parts = shares;
    if (run.disk) {
        devices = {{speed, run.disk->limit_bytes, {0}, {0}}};
        links = {run.disk->read_bytes_per_s}, parts = {1};
    }
    const double least = least_bytes(problem, devices, parts);
    if (least > 0) j["q"] = moved_bytes / least;
    if (!(speed > 0)) return;
    const ProductBound bound = product_bound(problem, devices, links);
    j["bound"] = bound.seconds, j["bound_kind"] = bound.kind, j["efficiency"] = bound.seconds / seconds;
}

}  // namespace

double fastest_core_s(const Executor& executor, double flops) {
    double rate = 0;
    for (const ClassTime& c : executor.class_times(0))
        if (c.cpu.count > 0 && c.cpu.least_s > 0) rate = std::max(rate, c.cost.flops / c.cpu.least_s);
    return rate > 0 ? flops / rate : NAN;
}

void add_repetition(GemmRun& run, const GemmFlags& f, double seconds) {
    run.seconds.push_back(seconds);
    f.common.progress("product " + std::to_string(run.seconds.size()) + " of " + std::to_string(f.repeat) + ": " +
                      human_seconds(seconds));
}

nlohmann::json gemm_result(const GemmFlags& f, const Runtime& runtime, const ProductMachine& machine,
                           const GemmRun& run) {
    const ProductProblem problem{f.m, f.n, f.k, bytes_of(parse_dtype(f.dtype)), f.beta != 0};
    nlohmann::json j = {{"m", f.m},
                        {"n", f.n},
                        {"k", f.k},
                        {"dtype", f.dtype},
                        {"compute", f.compute},
                        {"tile", run.tile},
                        {"tile_k", run.tile_k}};
    j["seconds"] = median(run.seconds);
    j["setup_seconds"] = run.setup_seconds;
    int64_t moved = 0;
    std::vector<nlohmann::json> traffic, shares;
    for (const auto& [from, to, bytes] : run.link_bytes) {
        moved += bytes;
        traffic.push_back({{"from", node_name(unsigned(from))}, {"to", node_name(unsigned(to))}, {"bytes", bytes}});
    }
    j["bytes"] = traffic;
    if (run.disk) {
        moved = run.disk->read_bytes + run.disk->written_bytes;
        j["disk"] = {{"read_bytes", run.disk->read_bytes},
                     {"written_bytes", run.disk->written_bytes},
                     {"read_bytes_per_s", run.disk->read_bytes_per_s},
                     {"write_bytes_per_s", run.disk->write_bytes_per_s}};
    }
    const std::vector<double> parts = shares_of(runtime, machine, run);
    for (size_t d = 0; d < parts.size(); ++d) shares.push_back({{"device", machine.names[d]}, {"share", parts[d]}});
    add_rates(j, problem, machine, run, parts, double(moved));
    j["share"] = shares;
    std::vector<std::string> nodes;
    for (size_t n = 0; n < run.peak_memory_bytes.size(); ++n) nodes.push_back(node_name(unsigned(n)));
    j["memory_nodes"] = nodes;
    j["peak_memory_bytes"] = {
        {"per_node", run.peak_memory_bytes},
        {"sum", std::accumulate(run.peak_memory_bytes.begin(), run.peak_memory_bytes.end(), int64_t(0))}};
    j["policy"] = runtime.policy();
    j["repeat"] = run.seconds.size();
#ifdef STARPU_SIMGRID
    j["simulated"] = true;
#else
    j["rss_bytes"] = rss_bytes();
#endif
    return j;
}

static void print_gemm(const nlohmann::json& j) {
    const auto percent = [](const nlohmann::json& x) { return fixed(100 * x.get<double>(), 1) + " %"; };
    const auto extent = [&](const char* key) { return std::to_string(j[key].get<int64_t>()); };
    Table table({"", ""}, false);
    table.row({"product", extent("m") + " x " + extent("n") + " x " + extent("k") + ", " +
                              j["dtype"].get<std::string>() + (j["compute"] == "tf32" ? " (tf32)" : "") +
                              ", tiles of " + extent("tile") +
                              (j["tile_k"] == j["tile"] ? "" : " (" + extent("tile_k") + " along k)") + ", " +
                              j["policy"].get<std::string>()});
    const bool empty = j["gflops"].is_null();
    table.row({"time", human_seconds(j["seconds"]) + (empty ? "" : ", " + fixed(j["gflops"], 1) + " GFLOP/s") +
                           "; setup " + human_seconds(j["setup_seconds"])});
    if (empty) table.row({"work", "none: no rate, no bound"});
    if (!j["bound"].is_null())
        table.row({"efficiency", percent(j["efficiency"]) + " of the bound (" + j["bound_kind"].get<std::string>() +
                                     ", " + human_seconds(j["bound"]) + ")"});
    else if (!empty) table.row({"efficiency", "unknown: no task's time is known"});
    if (!j["q"].is_null()) table.row({"traffic", fixed(j["q"], 2) + " of the least possible"});
    else if (j["memory_nodes"].size() > 1) table.row({"traffic", "-"});  // no task ran where it had to be brought to
    if (j.contains("disk"))
        table.row({"disk", human_bytes(j["disk"]["read_bytes"].get<int64_t>()) + " read at up to " +
                               human_bytes(int64_t(j["disk"]["read_bytes_per_s"].get<double>())) + "/s, " +
                               human_bytes(j["disk"]["written_bytes"].get<int64_t>()) + " written"});
    if (j.contains("rss_bytes")) table.row({"resident memory", human_bytes(j["rss_bytes"].get<int64_t>())});
    if (j.contains("models")) table.row({"models", j["models"].get<std::string>()});
    if (j.contains("verified"))
        table.row({"verified", j["verified"].is_null() ? "no" : j["verified"].get<std::string>()});
    std::cout << table.text() << "\n";
    if (!empty) {
        Table shares({"device", "share"});
        for (const auto& s : j["share"]) shares.row({s["device"].get<std::string>(), percent(s["share"])});
        std::cout << shares.text();
    }
    if (j.contains("devices")) std::cout << "\n" << worker_table(j["devices"]);
    if (!j["bytes"].empty()) {
        Table bytes({"from", "to", "bytes"});
        for (const auto& b : j["bytes"])
            bytes.row(
                {b["from"].get<std::string>(), b["to"].get<std::string>(), human_bytes(b["bytes"].get<int64_t>())});
        std::cout << "\n" << bytes.text();
    }
    Table memory({"memory", "most in use"});
    bool any = false;
    for (size_t n = 0; n < j["memory_nodes"].size(); ++n) {
        const int64_t bytes = j["peak_memory_bytes"]["per_node"][n].get<int64_t>();
        if (bytes > 0) any = true, memory.row({j["memory_nodes"][n].get<std::string>(), human_bytes(bytes)});
    }
    if (any) std::cout << "\n" << memory.text();
}

void end_gemm(const GemmFlags& f, nlohmann::json j, const GemmEnd& end) {
    std::exception_ptr failure;
    const auto attempt = [&](auto&& what) {
        if (failure) return;
        try {
            what();
        } catch (...) { failure = std::current_exception(); }
    };
    attempt(end.write_out);
    if (f.verify) {
        j["verified"] = nullptr;
        attempt([&] { j["verified"] = end.verify(); });
    }
    print_gemm(j);
    if (f.common.json) std::cout << j.dump() << std::endl;
    attempt(end.write_pictures);
    if (failure) std::rethrow_exception(failure);
}

}  // namespace tessera
