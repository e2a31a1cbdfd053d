// apps/simulated.h - what the programs under simulation share.
#pragma once
#include <string>
#include <vector>

#include "core/runtime.h"
#include "models/model_file.h"

namespace tessera {

// Kinds of workers that the models must have times for: the cores, and each GPU.
std::vector<ModelDevice> devices_of(const Runtime&);

// Where `tessera simulate` put the machine's models.
std::string folder_of_models();

}  // namespace tessera
