// cusparse.h - read by headers of a StarPU with cuSPARSE, which Tessera does not use.
#pragma once
using cusparseHandle_t = struct cusparseContext*;
