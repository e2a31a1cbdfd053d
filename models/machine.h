// models/machine.h - a machine as a folder: bus/ and codelets/45/ as StarPU reads them, and tessera.json with what
// those files do not say: which op, type, arguments and tiles a footprint stands for, which source was measured, what
// the devices are.
#pragma once
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/plan.h"
#include "models/model_file.h"

namespace tessera {

// Where a time comes from. Everything but `measured` is printed as an estimate.
enum class Origin { measured, mapped, regression, peaks, scaled };
std::string_view name_of(Origin);  // "measured", "mapped", ...

struct EntryFacts {
    std::string arguments;                      // readable: tiles and the node's attributes
    std::vector<std::array<int64_t, 3>> tiles;  // rows, columns, leading dimension
    double flops = 0, bytes = 0;
    std::map<ModelDevice, Origin> origin;  // absent: measured
    std::string command;                   // that measured it last; empty: nobody noted it
    Origin on(const ModelDevice&) const;
    bool described() const { return flops > 0 || bytes > 0; }
};
struct CodeletFacts {
    std::string op, dtype, source, hash;  // of the op's source file when it was measured
    std::map<uint32_t, EntryFacts> entries;
};
struct DeviceFacts {
    ModelDevice device;
    std::string name;  // "Tesla K40m"
    double f32_gflops = 0, f64_gflops = 0, bf16_gflops = 0, gbytes_per_s = 0;
    bool measured = false;  // else published figures
    std::string source;     // of the figures

    double gflops(DType) const;  // 0: unknown; bf16 without units of its own is widened to f32; integers: 0
};
// A task by an implementation, as one of two that share a device.
struct CoRunTask {
    std::string codelet;
    uint32_t footprint = 0;
    int implementation = 0;
    auto operator<=>(const CoRunTask&) const = default;
};
struct CoRunPair {
    ModelDevice device;
    CoRunTask task, beside;
    auto operator<=>(const CoRunPair&) const = default;
};
struct MachineFacts {
    std::string name, description, starpu, date, command;
    std::string derived;  // how it was composed, or empty for a machine that exists
    std::vector<DeviceFacts> devices;
    std::map<std::string, CodeletFacts> codelets;
    std::map<CoRunPair, double> together_us;  // of the task while the other runs beside it (models/corun.h)

    const DeviceFacts* device(const ModelDevice&) const;  // or nullptr
    // What is known of one row of a model, or nullptr.
    const EntryFacts* entry(const std::string& codelet, uint32_t footprint) const;
};
std::string today();                                           // as `date` has it: 2024-05-31, in UTC
MachineFacts read_facts(const std::filesystem::path& folder);  // empty facts if there is no tessera.json; Error if torn
void write_facts(const std::filesystem::path& folder, const MachineFacts&);

// Adds what a plan's tasks are to the facts of their codelets (of all, or of one). The source's hash is set where no
// entry was known before: times measured from an older source stay stale until they are measured again.
void describe(MachineFacts&, const Plan&, const CodeletInfo* only = nullptr);

// Is what was measured what this program runs? Unknown: no hash was kept, or the codelet is not in this program.
enum class SourceState { current, stale, unknown };
SourceState source_state(const MachineFacts&, const std::string& codelet);
std::string_view name_of(SourceState);

// Published figures of a device by the name that its driver gives it ("NVIDIA H100 80GB HBM3"), from
// perfmodels/devices.json; `device` is left as it is by default.
std::optional<DeviceFacts> known_device(const std::string& name);
std::vector<std::string> known_devices();
// The CPU core of a machine that StarPU publishes, from perfmodels/published.json.
std::optional<DeviceFacts> published_core(const std::string& machine);

class Machine {
 public:
    // Named as its bus files are; `name` chooses where one folder holds several. Error if there is no such bus.
    explicit Machine(std::filesystem::path folder, std::string name = {});
    const std::string& name() const { return name_; }
    const std::filesystem::path& folder() const { return folder_; }
    MachineFacts facts;

    std::filesystem::path model_path(const std::string& codelet) const;
    std::vector<std::string> codelets() const;          // that have a model here, sorted
    ModelFile model(const std::string& codelet) const;  // empty if there is none

 private:
    std::filesystem::path folder_;
    std::string name_;
};

// Machines that --machine knows: the project's own (perfmodels/, found from the program's path), those that StarPU
// publishes, and the user's in <cache>/machines.
struct KnownMachine {
    std::string name, kind;  // "shipped", "StarPU's", "yours"
    std::filesystem::path folder;
};
std::vector<KnownMachine> known_machines(const std::filesystem::path& cache);
// The machine as it lies there, for reading; `name` may be a folder, too (written with a slash). Of one name the user's
// own is taken before a shipped one, and that before StarPU's. StarPU's get their devices' figures from
// perfmodels/published.json. Throws UsageError that lists the known ones, or Error if the facts are damaged.
Machine open_machine(const std::string& name, const std::filesystem::path& cache);
// A copy of the machine in `to` that StarPU may write into: its bus, all its models and facts; nothing else of that
// name stays there. Where `to` is the machine's own folder it is taken as it is. Throws as open_machine() does, and
// Error if a bus or model file is damaged; each file is whole or absent.
Machine copy_machine(const std::string& name, const std::filesystem::path& cache, const std::filesystem::path& to);
// Where the models of the machine that runs this are: where StarPU's variables say, or in model_folder().
std::filesystem::path own_folder(const Config&);
// The machine that runs this. Error with the calibrate command if there is nothing yet.
Machine own_machine(const Config&);

// Reads all files of its bus and models. What is damaged, as StarPU leaves it when it is killed while it writes, is
// renamed to *.damaged, so that it is measured again. Returns a line for each.
std::vector<std::string> set_damaged_aside(const Machine&);
// A folder for a machine, normal and without a slash at its end. Its last part is the machine's name, in file names and
// in STARPU_HOSTNAME, which holds 64 characters; UsageError naming `flag` if it cannot be one.
std::filesystem::path named_folder(const std::string& given, const std::string& flag);
// The machine's bus, models and facts in a named_folder(), whose name they get. What was saved there before and is not
// measured anew stays. Throws what check_saving() does before anything is written.
void save_machine(const Machine&, const std::filesystem::path& folder);
// UsageError if another machine lies in the folder: a composed one, one of another name, or with other devices.
void check_saving(const Machine&, const std::filesystem::path& folder);

std::filesystem::path shipped_folder();  // perfmodels/ beside the program or where it was installed; may be empty

std::filesystem::path program_folder();  // of the running executable

}  // namespace tessera
