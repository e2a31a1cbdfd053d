#include "apps/train_setup.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/placement.h"
#include "apps/product_machine.h"
#include "apps/simulated.h"
#include "apps/table.h"
#include "core/error.h"
#include "core/file.h"

extern "C" char** environ;

namespace tessera {

// They hold values.
static void add_outputs(CLI::App& app, TrainFlags& f) {
    const auto output = [](CLI::Option* flag) { not_simulated(flag->group("Output"), no_values); };
    output(app.add_option("--checkpoint", f.checkpoint, "Folder for checkpoint.safetensors")
               ->type_name("DIR")
               ->check(not_empty()));
    output(app.add_option("--every", f.every, "Steps between checkpoints; 0: at the end of every epoch")
               ->capture_default_str()
               ->check(whole_number(0)));
    output(app.add_flag("--resume", f.resume, "Go on from the checkpoint if there is one"));
    output(app.add_option("--metrics", f.metrics, "One JSON line per step and epoch")
               ->type_name("FILE.jsonl")
               ->check(not_empty()));
    output(app.add_option("--plot", f.plot, "Curves of loss and accuracy")->type_name("FILE.svg")->check(not_empty()));
}

void add_train_flags(CLI::App& app, TrainFlags& f) {
    app.add_option("network", f.network, "mlp, or any of `tessera networks`")->required()->type_name("NETWORK");
    app.add_option("--data", f.data, "digits[:N], mnist:DIR, cifar10:DIR, cifar100:DIR or npy:X,Y")
        ->type_name("KIND:PATH")
        ->capture_default_str()
        ->group("Data");
    app.add_option(
           "--validation", f.validation,
           "Last fraction of the training data, held out in place of a test set; default: the test set, else 0.1")
        ->group("Data");
    app.add_flag("--augment{crop+flip}", f.augment,
                 "Training images shifted by up to an eighth, mirrored at random; --augment=crop shifts only")
        ->type_name("KINDS")
        ->group("Data");
    app.add_option("--input", f.input, "Height and width that images are padded to; default: as they are")
        ->type_name("N")
        ->check(whole_number(2))
        ->group("Network");
    app.add_option("--width", f.width, "Times all channel counts of the network")
        ->capture_default_str()
        ->check(positive_number())
        ->group("Network");
    app.add_flag("--auxiliary", f.auxiliary, "Train with auxiliary heads (googlenet, inception_v3)")->group("Network");
    app.add_option("--hidden", f.hidden,
                   std::string("Widths of the hidden layers of mlp; default ") + TrainFlags::default_hidden)
        ->type_name("N,N,...")
        ->group("Network");
    app.add_option("--activation", f.activation,
                   "Of mlp: " + join(activation_names(), ", ") + "; default " + TrainFlags::default_activation)
        ->group("Network");
    app.add_option("--dropout", f.dropout, "Probability of dropping a value; default: the network's own, for mlp 0")
        ->group("Network");
    app.add_option("--dtype", f.dtype, "f32, f64, or bf16 (weights stay f32)")->capture_default_str()->group("Network");
    app.add_option("--epochs", f.epochs, "Passes over the training data")
        ->capture_default_str()
        ->check(whole_number(1))
        ->group("Training");
    app.add_option("--batch", f.batch, "Samples of one step")
        ->capture_default_str()
        ->check(whole_number(1))
        ->group("Training");
    app.add_option("--optimizer", f.optimizer.kind, "sgd, adam or adamw")->capture_default_str()->group("Training");
    app.add_option("--lr", f.learning_rate, "Learning rate; default 0.1 for sgd, 0.001 for adam and adamw")
        ->check(positive_number())
        ->group("Training");
    app.add_option("--momentum", f.momentum, "For sgd; default " + fixed(OptimizerOptions{}.momentum, 1))
        ->group("Training");
    app.add_flag("--nesterov", f.optimizer.nesterov, "For sgd")->group("Training");
    app.add_option("--weight-decay", f.weight_decay,
                   "L2 for sgd and adam, decoupled for adamw; default 0, for adamw 0.01")
        ->group("Training");
    app.add_option("--clip", f.optimizer.clip, "Largest global norm of the gradients; 0 does not clip")
        ->capture_default_str()
        ->group("Training");
    app.add_option("--schedule", f.schedule,
                   "constant, cosine, or step (a tenth after each third of the epochs); :N adds N steps of warm-up")
        ->capture_default_str()
        ->group("Training");
    app.add_option("--label-smoothing", f.label_smoothing, "Share of the target that all classes get, in [0, 1)")
        ->capture_default_str()
        ->group("Training");
    app.add_option("--tile", f.tile, "Largest extent of a tile of batch or weights; 0 chooses")
        ->capture_default_str()
        ->check(whole_number(0))
        ->group("Execution");
    app.add_option(
           "--schedules", f.schedules,
           "Schedules tried to place tasks on several memories (policy list); 0: StarPU places them; default: some "
           "seconds' worth")
        ->check(whole_number(0))
        ->group("Execution");
    only_simulated(app.add_option("--steps", f.steps, "Simulated steps that are timed")
                       ->capture_default_str()
                       ->check(whole_number(1))
                       ->group("Execution"));
    add_outputs(app, f);
    f.common.add_to(app);
}

namespace {

// Crops shift by an eighth of the image, as is customary for CIFAR: 4 of 32 pixels.
Augmentation augmentation(const TrainFlags& f, Extent2d image) {
    Augmentation a;
    std::istringstream kinds(f.augment);
    for (std::string kind; std::getline(kinds, kind, '+');) {
        if (kind == "crop") a.pad = std::max<int64_t>(1, std::min(image.height, image.width) / 8);
        else if (kind == "flip") a.flip = true;
        else throw UsageError("--augment '" + f.augment + "': '" + kind + "' is neither crop nor flip");
    }
    return a;
}

OptimizerOptions optimizer_options(const TrainFlags& f) {
    OptimizerOptions o = f.optimizer;
    if (f.momentum) o.momentum = *f.momentum;
    if (f.weight_decay) o.weight_decay = *f.weight_decay;
    else o.weight_decay = o.kind == "adamw" ? 0.01 : 0;  // as PyTorch's defaults
    o.learning_rate = f.learning_rate > 0 ? f.learning_rate : o.kind == "sgd" ? 0.1 : 0.001;
    return o;
}

void check_outputs(const TrainFlags& f) {
    if (!f.checkpoint.empty()) {  // first: others may lie in the folder
        std::error_code failure;
        std::filesystem::create_directories(f.checkpoint, failure);
        if (failure) throw Error("--checkpoint: cannot make the folder '" + f.checkpoint + "': " + failure.message());
        require_writable(checkpoint_file(f), "--checkpoint");
    }
    if (!f.plot.empty()) require_writable(f.plot, "--plot");
    f.common.check_outputs({f.plot, f.metrics, checkpoint_file(f)}, files_of_data(f.data));
    if (!f.metrics.empty()) require_writable(f.metrics, "--metrics");
}

// Everything that can be found wrong without a runtime is found before one is started.
const TrainFlags& checked(const TrainFlags& f) {
    parse_dtype(f.dtype), parse_schedule(f.schedule), augmentation(f, 1);
    parse_widths(f.hidden.value_or(TrainFlags::default_hidden));
    parse_activation(f.activation.value_or(TrainFlags::default_activation));
    if (f.dropout && !(*f.dropout >= 0 && *f.dropout < 1)) throw UsageError("--dropout must be in [0, 1)");
    if (!(f.label_smoothing >= 0 && f.label_smoothing < 1)) throw UsageError("--label-smoothing must be in [0, 1)");
    if (f.validation && !(*f.validation >= 0 && *f.validation < 1)) throw UsageError("--validation must be in [0, 1)");
    if (f.momentum && f.optimizer.kind != "sgd") throw UsageError("--momentum is for sgd, not for " + f.optimizer.kind);
    const Params no_weights;
    Optimizer(optimizer_options(f), no_weights);  // refuses what it does not take
    if (f.resume && f.checkpoint.empty()) throw UsageError("--resume needs --checkpoint DIR");
    if (f.every > 0 && f.checkpoint.empty()) throw UsageError("--every needs --checkpoint DIR");
    const bool takes_images = architecture(f.network).image != Extent2d(1);
    const auto refuse = [&](const char* flag, bool given, const char* why) {
        if (given) throw UsageError(std::string(flag) + " is " + why + ", not for " + f.network);
    };
    refuse("--hidden", f.hidden && f.network != "mlp", "for mlp");
    refuse("--activation", f.activation && f.network != "mlp", "for mlp");
    refuse("--input", f.input > 0 && !takes_images, "for networks of images");
    refuse("--augment", !f.augment.empty() && !takes_images, "for networks of images");
    check_outputs(f);
    return f;
}

NetworkOptions network_options(const TrainFlags& f, const Split& data, const Runtime& runtime) {
    NetworkOptions o;
    o.inputs = data.train.features();
    o.image = f.input > 0 ? Extent2d(f.input) : Extent2d(data.train.height, data.train.width);
    o.channels = data.train.channels;
    o.classes = data.train.classes;
    o.hidden = parse_widths(f.hidden.value_or(TrainFlags::default_hidden));
    o.activation = parse_activation(f.activation.value_or(TrainFlags::default_activation));
    o.width = f.width;
    o.auxiliary = f.auxiliary;
    o.dropout = f.dropout;
    o.dtype = parse_dtype(f.dtype);
    o.tile_features = serial_tiles(f, runtime).features;
    o.seed = f.common.seed;
    return o;
}

int workers_of(const Runtime& runtime) {
    return runtime.cuda_workers() > 0 ? runtime.cuda_workers() : runtime.cpu_workers();
}

TrainOptions train_options(const TrainFlags& f, const TrainSetup& s) {
    TrainOptions o;
    o.epochs = f.epochs;
    o.batch = f.batch;
    o.dtype = parse_dtype(f.dtype);
    o.label_smoothing = f.label_smoothing;
    o.schedule = parse_schedule(f.schedule);
    o.augmentation = augmentation(f, s.network.image);
    o.seed = f.common.seed;
    const bool by_width = f.tile == 0 && s.network.takes_images() && !f.common.serial && !f.common.deterministic;
    o.tile_batch = by_width ? batch_tile_for_width(s.network, s.optimizer, s.data.train, o, workers_of(s.runtime))
                            : serial_tiles(f, s.runtime).batch;
    return o;
}

RuntimeOptions runtime_options(const TrainFlags& f) {
    RuntimeOptions o = f.common.runtime();
    o.blocked = o.gpu_memory_bytes.has_value();
    o.placed = !o.blocked && !f.common.serial && f.schedules != 0 && are_models_here(read_config(environ));
    return o;
}

// GPUs whose memory the network may not fit into compute its products in blocks.
ExecutorOptions executor_options(TrainSetup& s) {
    const TrainFlags& f = s.flags;
    ExecutorOptions o = f.common.executor(s.runtime.config(), s.trace.get());
    o.planner = [&s](Plan& plan) { s.plan(plan); };
    if (s.runtime.cuda_workers() == 0) return o;
    o.devices = typical_machine(s.runtime, s.machine.get(), parse_dtype(f.dtype), f.tile > 0 ? f.tile : 1024).blocks;
    return o;
}

}  // namespace

std::string checkpoint_file(const TrainFlags& f) {
    return f.checkpoint.empty() ? "" : (std::filesystem::path(f.checkpoint) / "checkpoint.safetensors").string();
}

RowTiles serial_tiles(const TrainFlags& f, const Runtime& runtime) {
    if (f.tile > 0) return {f.tile, f.tile};
    const bool images = architecture(f.network).image != Extent2d(1);
    if (images || f.common.deterministic || runtime.cuda_workers() > 0)
        return {default_batch_tile(f.batch, workers_of(runtime), f.common.deterministic, images), 0};
    return row_tiles_for_cores(f.batch, parse_widths(f.hidden.value_or(TrainFlags::default_hidden)),
                               runtime.cpu_workers());
}

// Placed are plans of runs whose policy follows that (schedulers/list.cpp); others place tasks themselves.
void TrainSetup::plan(Plan& plan, bool in_company) {
#ifdef STARPU_SIMGRID
    models = complete_models(*machine, {&plan}, devices_of(runtime), calibrate_command());
#endif
    if (!machine || flags.common.serial) return;
    if (in_company && !flags.common.deterministic)
        for (const auto& [device, workers] : workers_by_device(runtime, false)) {
            if (device.id > 0) continue;  // GPUs of one machine are taken for alike
            JointChoice choice = choose_together(plan, *machine, device, int(workers.size()));
            if (choice.changes.size() > joint.changes.size()) joint = std::move(choice);
        }
    if (runtime.policy() != "list" || flags.schedules == 0) return;
    constexpr int64_t about_a_minute = 110'000'000;  // of a search: tasks in all schedules together
    const int64_t fit = about_a_minute / std::max<int64_t>(1, int64_t(plan.tasks.size()));
    const int64_t tries = flags.schedules.value_or(std::clamp<int64_t>(fit, 1000, 100000));
    place(plan, runtime, *machine, flags.common.deterministic, int(tries));
}

TrainSetup::TrainSetup(const TrainFlags& f, const std::function<Split()>& load)
    : flags(checked(f)),
      runtime(runtime_options(f)),
      data(load()),
      trace(f.common.make_trace()),
      machine(models_here(runtime)),
      network(make_network(f.network, weights, network_options(f, data, runtime))),
      optimizer(optimizer_options(f), weights),
      executor(runtime, executor_options(*this)),
      trainer(executor, network, optimizer, data.train, train_options(f, *this)) {}

std::vector<const Plan*> TrainSetup::plans() const {
    std::vector<const Plan*> all;
    for (int i = 0; i < executor.plans(); ++i) all.push_back(&executor.plan(i));
    return all;
}

Checkpoint::Facts TrainSetup::facts() const {
    std::ostringstream checksum;
    checksum << std::hex << data.train.checksum();
    const auto number = [](double x) { return nlohmann::json(x).dump(); };
    const auto& o = optimizer.options();
    // A constant rate may go on for more epochs; the other schedules depend on the end.
    const bool constant = parse_schedule(flags.schedule).kind == Schedule::Kind::constant;
    return {
        {"network", flags.network},
        {"hidden", flags.hidden.value_or(TrainFlags::default_hidden)},
        {"activation", flags.activation.value_or(TrainFlags::default_activation)},
        {"width", number(flags.width)},
        {"image", std::to_string(network.image.height) + "x" + std::to_string(network.image.width)},
        {"auxiliary", flags.auxiliary ? "1" : "0"},
        {"augment", flags.augment.empty() ? "none" : flags.augment},
        {"dtype", flags.dtype},
        {"dropout", number(flags.dropout.value_or(network.dropout))},
        {"data", data.train.name},
        {"samples", std::to_string(data.train.count)},
        {"batch", std::to_string(flags.batch)},
        {"optimizer", o.kind},
        {"lr", number(o.learning_rate)},
        {"momentum", number(o.momentum)},
        {"nesterov", o.nesterov ? "1" : "0"},
        {"weight_decay", number(o.weight_decay)},
        {"clip", number(o.clip)},
        {"label_smoothing", number(flags.label_smoothing)},
        {"schedule", constant ? flags.schedule : flags.schedule + " over " + std::to_string(flags.epochs) + " epochs"},
        {"seed", std::to_string(flags.common.seed)},
        {"data_crc32", checksum.str()}};  // digits follow the seed
}

}  // namespace tessera
