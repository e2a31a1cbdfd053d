// host_memory_test.cpp - how much memory the host gives, and what asks for more is refused before it takes any.
#include "core/host_memory.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/file.h"
#include "tests/child.h"

namespace tessera {
namespace {
namespace fs = std::filesystem;

struct Groups {
    testing_tools::TemporaryFolder folder{"host_memory"};
    fs::path root = folder.path;
    void limit(const std::string& group, const std::string& text) const {
        fs::create_directories((root / group).parent_path());
        write_file(root / group, text);
    }
};

TEST(HostMemory, TheLeastLimitOfAGroupAndThoseAroundItCounts) {
    const Groups g;
    EXPECT_EQ(group_limit_bytes("0::/job/step\n", g.root), INT64_MAX);
    g.limit("memory.max", "max\n");
    EXPECT_EQ(group_limit_bytes("0::/job/step\n", g.root), INT64_MAX);
    g.limit("job/memory.max", "3000000000\n");
    g.limit("job/step/memory.max", "max\n");
    EXPECT_EQ(group_limit_bytes("0::/job/step\n", g.root), 3000000000);
    EXPECT_EQ(group_limit_bytes("0::/other\n", g.root), INT64_MAX);
    g.limit("job/step/memory.max", "2000000000\n");
    EXPECT_EQ(group_limit_bytes("0::/job/step\n", g.root), 2000000000);
}

TEST(HostMemory, ContainersSeeTheirOwnGroupAtTheRoot) {
    const Groups g;
    g.limit("memory.max", "1000\n");
    EXPECT_EQ(group_limit_bytes("0::/\n", g.root), 1000);
    EXPECT_EQ(group_limit_bytes("0::/system.slice/of-the-host\n", g.root), 1000);
}

TEST(HostMemory, VersionOneHasAHierarchyForMemory) {
    const Groups g;
    g.limit("memory/job/memory.limit_in_bytes", "4096\n");
    g.limit("job/memory.max", "1\n");
    EXPECT_EQ(group_limit_bytes("9:cpuset:/job\n4:cpu,memory:/job\n1:cpu:/\n", g.root), 4096);
    EXPECT_EQ(group_limit_bytes("9:cpuset:/job\n", g.root), INT64_MAX);
    EXPECT_EQ(group_limit_bytes("", g.root), INT64_MAX);
    EXPECT_EQ(group_limit_bytes("no colons\n::\n", g.root), INT64_MAX);
}

TEST(HostMemory, MoreThanThereIsIsRefused) {
    const int64_t here = host_memory_bytes();
    EXPECT_GT(here, int64_t(1) << 28);
    EXPECT_NO_THROW(require_host_memory(here / 2, "this needs", ""));
    try {
        require_host_memory(INT64_MAX / 2, "this needs", "a smaller one");
        FAIL() << "not refused";
    } catch (const Error& e) {
        EXPECT_EQ(std::string(e.what()).rfind("this needs 4398046511103 MiB of memory; there are ", 0), 0u) << e.what();
        EXPECT_EQ(e.hint(), "a smaller one");
    }
}

}  // namespace
}  // namespace tessera
