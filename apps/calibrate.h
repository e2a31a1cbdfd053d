// apps/calibrate.h - what `tessera perfmodel check` needs of calibration: measuring again what the last one measured.
#pragma once
#include "core/config.h"
#include "models/check.h"

namespace tessera {

// check_models() with a second measurement of what the command in the machine's facts had measured, for about 20 s.
// Where that command fails by now, a note on stderr says so and nothing is measured.
std::vector<Finding> check_with_drift(const Machine&, const Config&, const CheckOptions&);

}  // namespace tessera
