// apps/perfmodel.h - tessera perfmodel with a way to measure again.
#pragma once
#include "apps/options.h"
#include "models/check.h"

namespace tessera {

// `remeasure` is asked by `check` about this machine's own models; without it no drift is looked for.
Command add_perfmodel(CLI::App&, Remeasure remeasure);

}  // namespace tessera
