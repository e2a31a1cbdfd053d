// links_test.cpp - which links transfers take: those of the platform's routes, numbered once; else one per pair.
#include "models/links.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

using Way = std::vector<int>;

TEST(Links, RoutesShareWhatTheyHaveInCommon) {
    Platform p;
    p.hosts = {{"RAM", {}}, {"CUDA0", {}}, {"CUDA1", {}}};
    p.links = {{"host", 10e9, 0}, {"down0", 8e9, 0}, {"down1", 6e9, 0}, {"up0", 7e9, 0}};
    p.routes = {{"RAM", "CUDA0", {"host", "down0"}}, {"RAM", "CUDA1", {"host", "down1"}}, {"CUDA0", "RAM", {"up0"}}};
    Links links(p);
    EXPECT_EQ(links.between("RAM", "CUDA0", 1e9), (Way{0, 1}));
    EXPECT_EQ(links.between("RAM", "CUDA1", 1e9), (Way{0, 2}));
    EXPECT_EQ(links.between("CUDA0", "RAM", 1e9), (Way{3}));
    EXPECT_EQ(links.between("RAM", "CUDA0", 1e9), (Way{0, 1})) << "numbered once";
    EXPECT_EQ(links.between("CUDA0", "CUDA1", 5e9), (Way{4})) << "the platform has no such route";
    EXPECT_EQ(links.bytes_per_s, (std::vector<double>{10e9, 8e9, 6e9, 7e9, 5e9}));
}

TEST(Links, WithoutAPlatformEveryPairHasItsOwn) {
    Links links(nullptr);
    EXPECT_EQ(links.between("RAM", "CUDA0", 3e9), (Way{0}));
    EXPECT_EQ(links.between("CUDA0", "RAM", 4e9), (Way{1}));
    EXPECT_EQ(links.between("RAM", "CUDA0", 3e9), (Way{0}));
    EXPECT_EQ(links.between("CUDA0", "CUDA1", 0), Way{}) << "no rate: no way";
    EXPECT_EQ(links.bytes_per_s, (std::vector<double>{3e9, 4e9}));
}

}  // namespace
}  // namespace tessera
