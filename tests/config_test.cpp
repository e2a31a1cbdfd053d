// config_test.cpp - TESSERA_* variables are read strictly, sizes as people write them, and the page lists every
// variable.
#include "core/config.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>

#include "core/error.h"

namespace tessera {
namespace {

Config read(std::vector<std::string> entries) {
    std::vector<char*> environment;
    for (auto& e : entries) environment.push_back(e.data());
    environment.push_back(nullptr);
    return read_config(environment.data());
}

// The message and hint of the UsageError that `f` throws, or "" and a failure.
template <class F>
std::string usage_error(F&& f) {
    try {
        f();
    } catch (const UsageError& e) { return std::string(e.what()) + " | " + e.hint(); }
    ADD_FAILURE() << "no UsageError";
    return "";
}

TEST(Config, DefaultsWithoutVariables) {
    const Config c = read({});
    EXPECT_FALSE(c.check_nan);
    EXPECT_EQ(c.steps_in_flight, 3);
    EXPECT_EQ(c.workspace_bytes, int64_t(256) << 20);
    EXPECT_FALSE(c.cache.empty());
}

TEST(Config, ReadsEveryVariable) {
    const Config c =
        read({"HOME=/x", "TESSERA_CHECK_NAN=1", "TESSERA_STEPS_IN_FLIGHT=64", "TESSERA_WORKSPACE=2M",
              "TESSERA_CACHE=somewhere/else=there", "TESSERA_DATA=d", "TESSERA_STARPU_PREFIX=p", "NOT_OURS="});
    EXPECT_TRUE(c.check_nan);
    EXPECT_EQ(c.steps_in_flight, 64);
    EXPECT_EQ(c.workspace_bytes, int64_t(2) << 20);
    EXPECT_EQ(c.cache, "somewhere/else=there");  // a value may hold '='
    EXPECT_FALSE(read({"TESSERA_CHECK_NAN=0"}).check_nan);
    EXPECT_EQ(read({"TESSERA_STEPS_IN_FLIGHT=1"}).steps_in_flight, 1);
    EXPECT_EQ(read({"TESSERA_STALL_S=0"}).stall_s, 0);
    EXPECT_EQ(read({"TESSERA_STALL_S=86400"}).stall_s, 86400);
}

TEST(Config, CacheFollowsTheXdgRules) {
    const char* before = std::getenv("XDG_CACHE_HOME");
    const std::string saved = before ? before : "";
    setenv("XDG_CACHE_HOME", "/some/cache", 1);
    EXPECT_EQ(read({}).cache, "/some/cache/tessera");
    unsetenv("XDG_CACHE_HOME");
    EXPECT_TRUE(read({}).cache.string().ends_with(".cache/tessera")) << read({}).cache;
    if (before) setenv("XDG_CACHE_HOME", saved.c_str(), 1);
}

TEST(Config, AnUnknownNameIsRefusedWithASuggestion) {
    const std::string close = usage_error([] { read({"TESSERA_CHEK_NAN=1"}); });
    EXPECT_NE(close.find("TESSERA_CHEK_NAN"), std::string::npos) << close;
    EXPECT_NE(close.find("did you mean 'TESSERA_CHECK_NAN'?"), std::string::npos) << close;
    const std::string far = usage_error([] { read({"TESSERA_SOMETHING_ELSE_ALTOGETHER=1"}); });
    EXPECT_EQ(far.find("did you mean"), std::string::npos) << far;
    // Names are compared whole, and case matters.
    usage_error([] { read({"TESSERA_CHECK_NA=1"}); });
    usage_error([] { read({"TESSERA_CHECK_NAN2=1"}); });
    usage_error([] { read({"TESSERA_=1"}); });
    EXPECT_NO_THROW(read({"tessera_check_nan=7"}));
}

TEST(Config, ABadValueIsRefusedAndNamed) {
    const std::vector<std::pair<std::string, std::vector<std::string>>> bad = {
        {"TESSERA_CHECK_NAN", {"", "2", "yes", "true", " 1", "1 ", "01", "-1"}},
        {"TESSERA_STEPS_IN_FLIGHT",
         {"", "0", "-1", "65", "3x", "3.5", "three", " 3", "3 ", "+3", "99999999999999999999", "0x3"}},
        {"TESSERA_STALL_S", {"", "-1", "86401", "1.5", "x"}},
        {"TESSERA_WORKSPACE", {"", "0", "-1", "12Q", "M", "1.5G", "256 M", "99999999999T"}},
        {"TESSERA_CACHE", {""}}};
    for (auto& [name, values] : bad)
        for (auto& value : values) {
            SCOPED_TRACE(name + "=" + value);
            const std::string text = usage_error([&] { read({name + "=" + value}); });
            EXPECT_NE(text.find(name), std::string::npos) << text;
        }
}

TEST(ParseSize, EveryUnit) {
    EXPECT_EQ(parse_size("1", "x"), 1);
    EXPECT_EQ(parse_size("4096", "x"), 4096);
    EXPECT_EQ(parse_size("3K", "x"), 3 * 1024);
    EXPECT_EQ(parse_size("250M", "x"), int64_t(250) << 20);
    EXPECT_EQ(parse_size("4G", "x"), int64_t(4) << 30);
    EXPECT_EQ(parse_size("2T", "x"), int64_t(2) << 40);
    EXPECT_EQ(parse_size("007", "x"), 7);
}

TEST(ParseSize, UpToTheLargestAndNotBeyond) {
    constexpr int64_t most = std::numeric_limits<int64_t>::max();
    EXPECT_EQ(parse_size(std::to_string(most), "x"), most);
    EXPECT_EQ(parse_size(std::to_string(most >> 10) + "K", "x"), most >> 10 << 10);
    EXPECT_EQ(parse_size(std::to_string(most >> 40) + "T", "x"), most >> 40 << 40);
    for (const std::string& over : {std::string("9223372036854775808"), std::to_string((most >> 10) + 1) + "K",
                                    std::to_string((most >> 40) + 1) + "T", std::string("99999999999999999999999M")})
        usage_error([&] { parse_size(over, "--limit"); });
}

TEST(ParseSize, GarbageIsRefusedByName) {
    for (const char* bad : {"",   "0",   "0G",   "-1",   "-5M", "+1",   " 1",    "1 ",  "1 M", "M",   "1m",
                            "1k", "1MB", "1MiB", "1.5G", "1e6", "0x10", "1,000", "nan", "inf", "1M1", "\n"}) {
        SCOPED_TRACE(bad);
        const std::string text = usage_error([&] { parse_size(bad, "--gpu-memory"); });
        EXPECT_NE(text.find("--gpu-memory '" + std::string(bad) + "'"), std::string::npos) << text;
    }
}

// The names in the page's table, each with a value that its row allows.
TEST(EnvironmentPage, ListsExactlyTheKnownVariables) {
    const std::string page = environment_page();
    std::vector<std::string> listed;
    for (size_t at = 0; (at = page.find("\n| `TESSERA_", at)) != std::string::npos; ++at) {
        const size_t begin = at + 4;
        listed.push_back(page.substr(begin, page.find('`', begin) - begin));
    }
    const std::vector<std::string> known = {"TESSERA_CACHE",    "TESSERA_CHECK_NAN",     "TESSERA_DATA",
                                            "TESSERA_STALL_S",  "TESSERA_STARPU_PREFIX", "TESSERA_STEPS_IN_FLIGHT",
                                            "TESSERA_WORKSPACE"};
    EXPECT_EQ(listed, known);
    for (auto& name : listed) EXPECT_NO_THROW(read({name + "=1"})) << name;
    EXPECT_NE(page.find("STARPU_SCHED"), std::string::npos);
}

TEST(Suggestion, TheClosestKnownWordIfOneIsClose) {
    EXPECT_EQ(suggestion("dmdass", {"eager", "dmda", "dmdas"}), "did you mean 'dmdas'?");
    EXPECT_EQ(suggestion("egaer", {"eager", "dmda"}), "did you mean 'eager'?");
    EXPECT_EQ(suggestion("completely different", {"eager", "dmda"}), "");
    EXPECT_EQ(suggestion("x", {}), "");
    EXPECT_EQ(suggestion("help", {"gemm", "train"}), "") << "three edits of four letters";
    EXPECT_EQ(suggestion("trian", {"gemm", "train"}), "did you mean 'train'?");
    EXPECT_EQ(suggestion("xyz", {"abc"}), "");  // as many edits as letters is no likeness
}

}  // namespace
}  // namespace tessera
