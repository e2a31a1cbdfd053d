// cuda_runtime_api.h - read by StarPU's headers.
#pragma once
#include "cuda_runtime.h"
