// What SimGrid would end the program for is refused before, in one line that names file and line.
#include "models/platform.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/error.h"
#include "models/bus.h"

namespace tessera {
namespace {

// As StarPU writes them: a link for each direction, one that all share.
const std::string whole = R"(<?xml version="1.0"?>
<!DOCTYPE platform SYSTEM "http://simgrid.gforge.inria.fr/simgrid/simgrid.dtd">
<platform version="4">
 <config id="General">
  <prop id="network/TCP-gamma" value="-1"></prop>
 </config>
 <AS  id="AS0"  routing="Full">
  <host id="MAIN" speed="1f"/>
  <host id="CPU0" speed="2000000000f"/>
  <host id="CUDA0" speed="2000000000f">
   <prop id="model" value="Tesla K40m"/>
   <prop id="memsize" value="12079136768"/>
  </host>
  <host id="RAM" speed="1f"/>
  <link id="Host" bandwidth="10521832623.517040Bps" latency="0.000000s"/>
  <link id="RAM-CUDA0" bandwidth="10.5GBps" latency="10us"/>
  <link id="CUDA0-RAM" bandwidth="10521832623.517040Bps" latency="0.000010s"/>
  <route src="RAM" dst="CUDA0" symmetrical="NO"><link_ctn id="RAM-CUDA0"/><link_ctn id="Host"/></route>
  <route src="CUDA0" dst="RAM" symmetrical="NO"><link_ctn id="CUDA0-RAM"/><link_ctn id="Host"/></route>
 </AS>
</platform>
)";

std::string replaced(const std::string& what, const std::string& with) {
    std::string text = whole;
    const size_t at = text.find(what);
    EXPECT_NE(at, std::string::npos) << what;
    return text.replace(at, what.size(), with);
}

std::string message_of(const std::string& text) {
    try {
        parse_platform(text, "m.xml");
    } catch (const Error& e) { return e.what(); }
    return "nothing";
}

TEST(Platform, IsReadAsStarPuWritesIt) {
    const Platform p = parse_platform(whole, "m.xml");
    EXPECT_EQ(p.version, 4);
    EXPECT_EQ(p.hosts.size(), 4u);
    EXPECT_EQ(p.host("CUDA0")->properties.at("model"), "Tesla K40m");
    EXPECT_DOUBLE_EQ(p.link("RAM-CUDA0")->bytes_per_s, 10.5e9);
    EXPECT_DOUBLE_EQ(p.link("RAM-CUDA0")->latency_s, 1e-5);
    ASSERT_EQ(p.routes.size(), 2u);
    EXPECT_EQ(p.route("CUDA0", "RAM")->links, (std::vector<std::string>{"CUDA0-RAM", "Host"}));
}

// StarPU writes such links for machines without GPUs.
TEST(Platform, ALinkThatNothingUsesMayHaveNoBandwidth) {
    const std::string text =
        replaced("  <link id=\"Host\"", "  <link id=\"NUMA0\" bandwidth=\"0.000000Bps\"/><link id=\"Host\"");
    EXPECT_EQ(parse_platform(text, "m.xml").link("NUMA0")->bytes_per_s, 0);
}

TEST(Platform, ARouteForBothDirectionsIsTwo) {
    std::string text = replaced(R"( symmetrical="NO"><link_ctn id="RAM)", R"(><link_ctn id="RAM)");
    EXPECT_NE(message_of(text).find("from CUDA0 to RAM is there twice"), std::string::npos);
    const size_t second = text.find(R"(<route src="CUDA0")");
    text.erase(second, text.find('\n', second) - second);
    EXPECT_EQ(parse_platform(text, "m.xml").route("CUDA0", "RAM")->links,
              (std::vector<std::string>{"Host", "RAM-CUDA0"}));
}

TEST(Platform, MistakesAreOneLineWithItsNumber) {
    struct Mistake {
        const char *what, *with;
        int line;
        const char* reason;
    };
    const Mistake mistakes[] = {
        {"</platform>\n", "", 21, "cut off"},
        {" </AS>", "", 21, "mismatched tag"},
        {"K40m", "K40m & more", 11, "not well-formed"},
        {"id=\"Host\"", "id=\"Host\" id=\"Hose\"", 15, "duplicate attribute"},
        {"version=\"4\"", "version=\"2\"", 3, "version '2'"},
        {"version=\"4\"", "version=\"five\"", 3, "version 'five'"},
        {"<platform version=\"4\">", "<machine version=\"4\">", 3, "no element <machine>"},
        {"<platform version=\"4\">", "<host id=\"a\">", 3, "not what a platform starts with"},
        {"<host id=\"MAIN\"", "<hose id=\"MAIN\"", 8, "no element <hose>"},
        {"<host id=\"MAIN\"", "<host id=\"MAIN\" weight=\"1\"", 8, "no attribute 'weight'"},
        {"<link_ctn id=\"RAM", "<link id=\"RAM", 18, "<link> inside <route>"},
        {"id=\"CPU0\"", "id=\"MAIN\"", 9, "host 'MAIN' is there twice"},
        {"id=\"CPU0\"", "name=\"CPU0\"", 9, "<host> without 'id'"},
        {" speed=\"1f\"", "", 8, "<host> without 'speed'"},
        {"speed=\"1f\"", "speed=\"1\"", 8, "with a unit"},
        {"speed=\"1f\"", "speed=\"0f\"", 8, "not a positive number"},
        {"10.5GBps", "10500000000", 16,
         "bandwidth '10500000000' of link 'RAM-CUDA0' is not a positive number with a unit"},
        {"10.5GBps", "0Bps", 16, "bandwidth 0 of link 'RAM-CUDA0', which the route from RAM to CUDA0 uses"},
        {"10.5GBps", "-1Bps", 16, "not a positive number"},
        {"10.5GBps", "nanBps", 16, "not a positive number"},
        {"10.5GBps", "fastBps", 16, "not a positive number"},
        {"10us", "-10us", 16, "latency '-10us'"},
        {"10us", "10", 16, "with a unit"},
        {"id=\"CUDA0-RAM\"", "id=\"Host\"", 17, "link 'Host' is there twice"},
        {"dst=\"CUDA0\"", "dst=\"CUDA1\"", 18, "no device CUDA1"},
        {"<link_ctn id=\"Host\"", "<link_ctn id=\"Hose\"", 18, "'Hose', which is not there"},
        {"<link_ctn id=\"RAM-CUDA0\"/><link_ctn id=\"Host\"/>", "", 18, "has no link"},
        {"src=\"CUDA0\" dst=\"RAM\"", "src=\"RAM\" dst=\"CUDA0\"", 19, "from RAM to CUDA0 is there twice"},
        {"symmetrical=\"NO\"", "symmetrical=\"no\"", 18, "symmetrical 'no'"},
        {"network/TCP-gamma", "network/TCP-gama", 5, "no setting 'network/TCP-gama'"},
        {"value=\"-1\"", "value=\"low\"", 5, "'network/TCP-gamma' is 'low', not a number"},
        {"routing=\"Full\"", "routing=\"None\"", 7, "routing 'None'"},
        {" </AS>", " </AS><AS id=\"b\" routing=\"Full\"/>", 20, "a second <AS>"},
    };
    for (const Mistake& m : mistakes) {
        const std::string message = message_of(replaced(m.what, m.with));
        EXPECT_EQ(message.find("'m.xml', line " + std::to_string(m.line) + ": "), 0u) << m.with << ": " << message;
        EXPECT_NE(message.find(m.reason), std::string::npos) << m.with << ": " << message;
        EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 0) << message;
    }
    EXPECT_EQ(message_of(""), "'m.xml', line 1: the file is cut off");
    std::string below =
        replaced("  <link id=\"CUDA0-RAM\" bandwidth=\"10521832623.517040Bps\" latency=\"0.000010s\"/>\n", "");
    below.insert(below.find(" </AS>"), "  <link id=\"CUDA0-RAM\" bandwidth=\"1GBps\" latency=\"0s\"/>\n");
    EXPECT_EQ(message_of(below),
              "'m.xml', line 18: the route from CUDA0 to RAM uses link 'CUDA0-RAM', which stands below it, in line 19");
}

}  // namespace
}  // namespace tessera
