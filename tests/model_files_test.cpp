// model_files_test.cpp - what others write to the files of performance models while a program runs stays when it ends.
#include "core/model_files.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <string>

#include "tests/child.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

class ModelFilesTest : public testing::Test {
 protected:
    ModelFilesTest() { fs::create_directories(folder_.path / "codelets" / "45"); }
    fs::path path(const char* name) const { return folder_.path / "codelets" / "45" / name; }
    // A second after any other: file systems may count in whole ones.
    void write(const char* name, const std::string& text) {
        std::ofstream(path(name)) << text;
        fs::last_write_time(path(name), fs::file_time_type::clock::now() + std::chrono::seconds(++written_));
    }
    std::string text(const char* name) const {
        std::ifstream in(path(name));
        return {std::istreambuf_iterator<char>(in), {}};
    }
    testing_tools::TemporaryFolder folder_{"model_files"};
    int written_ = 0;
};

// A model of one row, as far as its lines go.
std::string model(const std::string& row) {
    return "##################\n# Performance Model Version\n45\n\n####\n# COMBs\n# number of combinations\n1\n"
           "# number of types devices\n1\n# type\n0\n# id\n0\n# cores\n1\n# number of implementations\n1\n"
           "#####\n# number of entries\n1\n# sumlnx\n0 0 0 0 nan nan 0 0 0\n# a\nnan nan nan\n# multiple\n0\n# hash\n" +
           row + "\n\n";
}

TEST_F(ModelFilesTest, KeepWhatOthersWroteMeanwhile) {
    for (const char* name : {"changed", "same", "ended_before"}) write(name, model("before"));
    {
        ModelFiles files(folder_.path);
        files.started();
        write("changed", model("calibrated")), write("new", model("calibrated, too"));
        files.ends();
        for (const char* name : {"changed", "same", "new", "mine"}) write(name, model("of this run"));
    }
    EXPECT_EQ(text("changed"), model("calibrated"));
    EXPECT_EQ(text("new"), model("calibrated, too"));
    EXPECT_EQ(text("same"), model("of this run"));
    EXPECT_EQ(text("mine"), model("of this run"));
    EXPECT_EQ(text("ended_before"), model("before"));
}

TEST_F(ModelFilesTest, AreWholeOrCutOff) {
    const std::string whole = model("0000beef 8 0 1.5 0 15 22.5 10");
    EXPECT_TRUE(is_whole_model(whole));
    for (size_t n = 0; n + 1 < whole.size(); ++n) EXPECT_FALSE(is_whole_model(whole.substr(0, n))) << n;
    EXPECT_TRUE(is_whole_model("45\n0\n")) << "a codelet that was met and never run";
    for (const char* text : {"", "45\n", "45\n-1\n", "45\nx\n", "45\n9999999999999999999\n"})
        EXPECT_FALSE(is_whole_model(text)) << text;
}

// What StarPU leaves on a full disk: files of any length, and new ones.
TEST_F(ModelFilesTest, ArePutBackWhereThereWasNoRoom) {
    const std::string before = model("0000beef 8 0 1.5 0 15 22.5 10"), after = model("0000beef 8 0 2.5 0 50 125 20");
    for (const char* name : {"torn", "empty", "written", "left"}) write(name, before);
    write("damaged_before", "4");
    testing::internal::CaptureStderr();
    {
        ModelFiles files(folder_.path);
        files.started();
        files.ends();
        write("torn", after.substr(0, 100)), write("empty", ""), write("written", after);
        write("new_torn", after.substr(0, 100)), write("new_whole", after);
    }
    const std::string said = testing::internal::GetCapturedStderr();
    for (const char* name : {"torn", "empty", "written", "left"}) EXPECT_EQ(text(name), before) << name;
    EXPECT_EQ(text("damaged_before"), "4");
    for (const char* name : {"new_torn", "new_whole"}) EXPECT_FALSE(fs::exists(path(name))) << name;
    EXPECT_EQ(said.find("note: no room in '" + folder_.path.string()), 0u) << said;
    EXPECT_NE(said.find("the performance models are as they were\n"), std::string::npos) << said;
}

TEST_F(ModelFilesTest, ThatWereDamagedBeforeAreNoReasonToPutBack) {
    const std::string before = model("0000beef 8 0 1.5 0 15 22.5 10"), after = model("0000beef 8 0 2.5 0 50 125 20");
    write("good", before), write("damaged", "4");
    testing::internal::CaptureStderr();
    {
        ModelFiles files(folder_.path);
        files.started();
        files.ends();
        write("good", after);
    }
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
    EXPECT_EQ(text("good"), after);
}

TEST_F(ModelFilesTest, NeedNoFolder) {
    ModelFiles files(folder_.path / "not there");
    files.started();
    files.ends();
}

TEST(FolderLock, IsNotNeededWhereThereIsNone) { const FolderLock one("/proc"), two("/proc"), nowhere("/nowhere"); }

}  // namespace
}  // namespace tessera
