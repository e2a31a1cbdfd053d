// apps/compose.h - tessera machine compose: a machine from measured devices.
#pragma once
#include "apps/options.h"

namespace tessera {

Command add_compose(CLI::App&);

// "12GB/s", "900MB/s" to MB/s, decimal multiples as StarPU has them; throws UsageError naming `flag`.
double parse_bandwidth(const std::string& text, const std::string& flag);

}  // namespace tessera
