// tessera networks: what can be trained, with parameters, work and the shape of its task graph: T1, Tinf and width of a
// forward pass and of a training step, of one batch that is one tile. Nothing is run.
#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/options.h"
#include "apps/table.h"
#include "core/error.h"
#include "graphs/network.h"
#include "graphs/optimizer.h"

namespace tessera {
namespace {

struct NetworksFlags {
    std::vector<std::string> names;
    int64_t batch = 1, input = 0;
    double width = 1;
    bool auxiliary = false, json = false;
};

struct Work {
    double flops;
    DagStats dag;
};
Work work_of(const Graph& g) {
    const Plan plan(g);
    return {plan.flops(), dag_stats(plan, estimated_times(plan), false)};
}

struct Description {
    Network network;
    int64_t parameters;
    Work forward, step;
};

Maps input_of(Graph& g, const Network& n, int64_t batch) {
    const Shape shape{batch * n.image.height * n.image.width, n.channels};
    return {g.value("x", shape, DType::f32, Grid::whole(shape)), n.image.height, n.image.width};
}

Description describe(const std::string& name, const NetworksFlags& f) {
    NetworkOptions o;
    const bool takes_images = architecture(name).image != Extent2d(1);
    if (f.input > 0 && !takes_images) throw UsageError("--input is for networks of images, not for " + name);
    if (takes_images) o.image = f.input;
    o.width = f.width;
    o.auxiliary = f.auxiliary;
    Params weights;
    const Network network = make_network(name, weights, o);
    Graph forward, step;
    forward.keep(network.outputs(forward, input_of(forward, network, f.batch), false).logits);
    const Outputs outputs = network.outputs(step, input_of(step, network, f.batch), true);
    const Shape labels{f.batch, 1};
    const Optimizer optimizer({.kind = "sgd"}, weights);
    optimizer.minimize(classification_loss(outputs, step.value("labels", labels, DType::i32, Grid::whole(labels))));
    return {network, weights.elements(), work_of(forward), work_of(step)};
}

std::string input_text(const Network& n) {
    if (!n.takes_images()) return std::to_string(n.channels);
    return std::to_string(n.channels) + "x" + std::to_string(n.image.height) + "x" + std::to_string(n.image.width);
}

nlohmann::json json_of(const Work& w) {
    return {{"gflop", w.flops * 1e-9},
            {"tasks", w.dag.tasks},
            {"t1_seconds", w.dag.t1},
            {"tinf_seconds", w.dag.t_inf},
            {"parallelism", w.dag.parallelism()},
            {"width", w.dag.width}};
}

nlohmann::json json_of(const Description& d) {
    return {{"network", d.network.name},
            {"channels", d.network.channels},
            {"image_height", d.network.image.height},
            {"image_width", d.network.image.width},
            {"parameters", d.parameters},
            {"forward", json_of(d.forward)},
            {"step", json_of(d.step)}};
}

std::vector<std::string> cells(const Description& d) {
    std::vector<std::string> row = {d.network.name, input_text(d.network), grouped(d.parameters)};
    for (const Work& w : {d.forward, d.step})
        for (const std::string& cell : {fixed(w.flops * 1e-9, 3), human_seconds(w.dag.t1), human_seconds(w.dag.t_inf),
                                        fixed(w.dag.parallelism(), 2), std::to_string(w.dag.width)})
            row.push_back(cell);
    return row;
}

int networks(const NetworksFlags& f) {
    std::vector<std::string> names = f.names;
    if (names.empty())
        for (const Architecture* a : all_architectures()) names.push_back(a->name);
    for (const std::string& name : names) architecture(name);  // an unknown one is told before work begins
    Table table({"network", "input", "parameters", "GFLOP", "T1", "Tinf", "T1/Tinf", "width", "step: GFLOP", "T1",
                 "Tinf", "T1/Tinf", "width"});
    auto all = nlohmann::json::array();
    const auto refused = [&](const std::string& name, const std::exception& e) {
        if (!f.names.empty()) throw;  // of all networks some do not exist with these options
        table.row({name});
        all.push_back({{"network", name}, {"error", e.what()}});
        std::cerr << e.what() << "\n";
    };
    for (const std::string& name : names) {
        try {
            const Description d = describe(name, f);
            table.row(cells(d));
            all.push_back(json_of(d));
        } catch (const UsageError& e) { refused(name, e); } catch (const std::invalid_argument& e) {
            refused(name, e);
        }
    }
    if (f.json) std::cout << all.dump() << "\n";
    else
        std::cout << table.text() << "\nbatch " << f.batch
                  << ", one tile; times are estimates from flops and bytes, only their ratios matter\n";
    return 0;
}

}  // namespace

Command add_networks(CLI::App& app) {
    auto f = std::make_shared<NetworksFlags>();
    app.add_option("networks", f->names, "Those to look at; default: all")
        ->type_name("NETWORK")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    app.add_option("--batch", f->batch, "Samples of a step")->capture_default_str()->check(whole_number(1));
    app.add_option("--input", f->input, "Height and width of images; default: as published")->check(whole_number(1));
    app.add_option("--width", f->width, "Times all channel counts")->capture_default_str()->check(positive_number());
    app.add_flag("--auxiliary", f->auxiliary, "With auxiliary heads");
    app.add_flag("--json", f->json, "One JSON array instead of a table");
    return [f] { return networks(*f); };
}

}  // namespace tessera
