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

TEST_F(ModelFilesTest, KeepWhatOthersWroteMeanwhile) {
    for (const char* name : {"changed", "same", "ended_before"}) write(name, "before");
    {
        ModelFiles files(folder_.path);
        files.started();
        write("changed", "calibrated"), write("new", "calibrated, too");
        files.ends();
        for (const char* name : {"changed", "same", "new", "mine"}) write(name, "of this run");
    }
    EXPECT_EQ(text("changed"), "calibrated");
    EXPECT_EQ(text("new"), "calibrated, too");
    EXPECT_EQ(text("same"), "of this run");
    EXPECT_EQ(text("mine"), "of this run");
    EXPECT_EQ(text("ended_before"), "before");
}

TEST_F(ModelFilesTest, NeedNoFolder) {
    ModelFiles files(folder_.path / "not there");
    files.started();
    files.ends();
}

TEST(FolderLock, IsNotNeededWhereThereIsNone) { const FolderLock one("/proc"), two("/proc"), nowhere("/nowhere"); }

}  // namespace
}  // namespace tessera
