// apps/options.h - flags that all programs share, and how the library's strings become values.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/executor.h"
#include "core/runtime.h"
#include "core/trace.h"

namespace CLI {
class App;
class Option;
class Validator;
}  // namespace CLI

namespace tessera {

class ScratchFolder;

struct CommonOptions {
    std::string gpu_memory, host_memory, swap, dag, trace, gantt, machine, streams = "auto";
    bool dag_stats = false, serial = false, deterministic = false, json = false, quiet = false;
    bool copied_models = false;  // StarPU was given a copy already
    uint64_t seed = 1;

    void add_to(CLI::App&);
    RuntimeOptions runtime() const;  // with --machine: StarPU will take its models
    ExecutorOptions executor(const Config&, Trace* = nullptr) const;
    std::unique_ptr<Trace> make_trace() const;  // null if nothing wants one: pictures, limits; needs a Runtime
    // Now, not after the run: can the files be written, is each another than `further`, the command's own outputs, and
    // is none of them an input, which `further` ones may replace?
    void check_outputs(const std::vector<std::string>& further = {}, const std::vector<std::string>& inputs = {},
                       bool may_replace = false) const;
    void progress(const std::string& line) const;  // on stderr, unless --quiet
    void write_dag(const Plan&) const;             // --dag, --dag-stats
    void write_trace(const Trace*, const std::vector<const Plan*>&) const;

 private:
    mutable std::shared_ptr<ScratchFolder> machine_copy_;  // what StarPU reads and writes with --machine
};

// What a flag's value must be. CLI11's own checks print 300-digit ranges and let NaN and overflow through.
CLI::Validator whole_number(int64_t least);
CLI::Validator unsigned_number();  // of 64 bits
CLI::Validator positive_number();
CLI::Validator not_empty();

// For flags that one of the two has: the other refuses them, saying so, and does not list them. The last call on a
// flag.
void not_simulated(CLI::Option*, const std::string& why);
void only_simulated(CLI::Option*);
inline constexpr auto no_values = "a simulation has no values";

DType parse_dtype(const std::string&);                       // f32, f64, bf16
std::vector<int64_t> parse_widths(const std::string& text);  // "512,512"; "0" or "none": no hidden layer

// A word of a command line as a shell takes it, in quotes where it needs them.
std::string shell_word(const std::string&);
// This program's own command line behind its name, as it can be typed again; in a simulation that of the simulated
// program. Left out are some flags: of `valued` with their values, too.
std::string typed_words(const std::vector<std::string>& alone, const std::vector<std::string>& valued);

// Resident memory of this process.
int64_t rss_bytes();

// The subcommands; each adds itself and returns what runs it.
using Command = std::function<int()>;
Command add_train(CLI::App&);
Command add_gemm(CLI::App&);
Command add_ops(CLI::App&);
Command add_networks(CLI::App&);
Command add_bench(CLI::App&);
Command add_calibrate(CLI::App&);
Command add_perfmodel(CLI::App&);
Command add_machine(CLI::App&);
Command add_simulate(CLI::App&);
Command add_environment(CLI::App&);

}  // namespace tessera
