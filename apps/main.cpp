// tessera: one program, a subcommand per purpose. Results on stdout, progress and messages on stderr.
// Exit 0, 1 (failure: one line says what and a hint says what to do), 2 (usage).
#include <fcntl.h>

#include <starpu.h>  // under simulation it renames main

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <tuple>

#include "apps/options.h"
#include "apps/simulated.h"
#include "core/error.h"
#include "core/stop.h"

extern "C" char** environ;

using namespace tessera;

static const char* const version = "tessera 0.1.0";
#ifdef STARPU_SIMGRID  // tessera-sim is started by it
static const std::string invocation = "tessera simulate --machine NAME --";
#else
static const std::string invocation = "tessera";
#endif

static int fail(const std::string& message, const std::string& hint, int code) {
    std::cerr << "error: " << message << "\n";
    if (!hint.empty()) std::cerr << "hint: " << hint << "\n";
    return code;
}

// The first word that nobody knows, with what is like it there: CLI11 says only that a subcommand is required.
static std::pair<std::string, std::string> unknown_word(const CLI::App& at) {
    const auto words = at.remaining();
    if (words.empty()) return {};
    const auto flag = std::find_if(words.begin(), words.end(), [](const std::string& w) { return w.starts_with("-"); });
    std::vector<std::string> known;
    if (flag != words.end()) {
        for (const CLI::Option* o : at.get_options())
            if (!o->get_group().empty()) known.push_back(o->get_name());
        const std::string word = flag->substr(0, flag->find('='));
        return {"unknown option '" + word + "'", suggestion(word, known)};
    }
    for (const CLI::App* sub : at.get_subcommands({})) known.push_back(sub->get_name());
    if (known.empty()) return {"unexpected argument '" + words[0] + "'", ""};
#ifdef STARPU_SIMGRID
    if (!at.get_parent()) return {"'" + words[0] + "' cannot be simulated", suggestion_or_list(words[0], known)};
#endif
    return {"unknown command '" + words[0] + "'", suggestion_or_list(words[0], known)};
}

// CLI11 takes --json=3, and --json=0 for none at all. Where a flag has a value that may be left out, that is not
// "true".
static void refuse_values_of_flags(CLI::App& app) {
    for (CLI::Option* o : app.get_options()) {
        const bool flag = o->get_expected_max() == 0 && !o->get_lnames().empty();
        if (flag && o->get_flag_value(o->get_lnames()[0], "") == "true") o->disable_flag_override();
    }
    for (CLI::App* sub : app.get_subcommands({})) refuse_values_of_flags(*sub);
}

static int run(int argc, char** argv) {
    CLI::App app("Tessera trains neural networks and multiplies matrices as StarPU task graphs.", invocation);
    app.require_subcommand(1);
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    app.set_version_flag("--version", version);
    app.fallthrough(false);
    std::vector<std::pair<CLI::App*, Command>> commands;
    const auto add = [&](const char* name, const char* what, Command (*make)(CLI::App&)) {
        CLI::App* sub = app.add_subcommand(name, what);
        sub->set_version_flag("--version", version)->group("");
        commands.emplace_back(sub, make(*sub));
    };
    add("train", "Train a network", add_train);
    add("gemm", "Multiply matrices, larger than GPU memories if need be", add_gemm);
#ifndef STARPU_SIMGRID  // tessera-sim runs what `tessera simulate` hands it
    add("ops", "List the operations: formula, types, implementations, backends", add_ops);
    add("networks", "List the networks: parameters, work, shape of the task graph", add_networks);
    add("bench", "Measure products, tasks and traces against bare calls, and ops side by side (interop)", add_bench);
    add("calibrate", "Measure what the tasks of a command take on this machine", add_calibrate);
    add("perfmodel", "Look at performance models: list, show, plot, check", add_perfmodel);
    add("machine", "What this machine is, and composing others from measured devices", add_machine);
    add("simulate", "Run a command's plan on a machine that is not here", add_simulate);
    add("environment", "Print the page about TESSERA_* variables", add_environment);
#endif
    refuse_values_of_flags(app);
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        std::cout << app.help();
        return 0;
    } catch (const CLI::CallForVersion&) {
        std::cout << version << "\n";
        return 0;
    } catch (const CLI::ParseError& e) {
        const CLI::App* at = &app;
        std::string help = invocation + " ";
        while (!at->get_subcommands().empty()) at = at->get_subcommands()[0], help += at->get_name() + " ";
        // Words are left over after any error; only these two are about them.
        const bool about_words = e.get_exit_code() == int(CLI::ExitCodes::ExtrasError) ||
                                 std::string(e.what()).find("subcommand") != std::string::npos;
        auto [text, hint] = about_words ? unknown_word(*at) : std::pair<std::string, std::string>{};
        if (about_words && text.empty()) std::tie(text, hint) = unknown_word(app);  // it stood before the subcommand
        if (text.empty()) text = e.what();
        if (const size_t at = text.find(" was given a disallowed flag override"); at != text.npos)
            text = (text.starts_with("-") ? "" : "--") + text.substr(0, at) + " takes no value";
        for (char& c : text)
            if (c == '\n') c = ' ';
        return fail(text, hint.empty() ? help + "--help" : hint, 2);
    }
    read_config(environ);  // a misspelt TESSERA_* is an error whatever the command
    for (auto& [sub, command] : commands)
        if (sub->parsed()) {
            const int code = command();
            if (!std::cout.flush()) return fail("the results could not be written to stdout", "is its disk full?", 1);
            return code;
        }
    return 2;
}

// A descriptor of these that is closed would be the next file's: what is printed would go into it.
static void open_standard_descriptors() {
    for (int d = 0; d <= 2; ++d)
        if (fcntl(d, F_GETFD) < 0 && open("/dev/null", O_RDWR) != d) std::_Exit(1);
}

int main(int argc, char** argv) {
    open_standard_descriptors();
    install_abort_handler();
#ifdef STARPU_SIMGRID
    end_at_standstill();
#endif
    install_stop_handler();
    try {
        return run(argc, argv);
    } catch (const UsageError& e) { return fail(e.what(), e.hint(), 2); } catch (const Error& e) {
        return fail(e.what(), e.hint(), 1);
    } catch (const std::filesystem::filesystem_error& e) {
        return fail(
            "cannot use '" + e.path1().string() + "': " + e.code().message(),
            e.code() == std::errc::no_space_on_device ? "free some space there" : "is the place readable and writable?",
            1);
    } catch (const std::bad_alloc&) {
        return fail("out of memory", "choose a smaller network or batch", 1);
    } catch (const std::exception& e) { return fail(e.what(), "", 1); }
    return 1;
}
