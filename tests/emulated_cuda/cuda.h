// cuda.h - read by StarPU's headers.
#pragma once
#include "cuda_runtime.h"
