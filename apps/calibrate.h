// apps/calibrate.h - what `tessera perfmodel check` needs of calibration: measuring again what the last one measured.
#pragma once
#include "core/config.h"
#include "models/check.h"

namespace tessera {

// check_models() with a second measurement of what the command in the machine's facts had measured, for about 20 s.
std::vector<Finding> check_with_drift(const Machine&, const Config&, CheckOptions);

}  // namespace tessera
