// codelets/gemm.h - one task of a product, for nodes that lower to products of their own.
#pragma once
#include "codelets/ops.h"
#include "core/plan.h"

namespace tessera {

// c := alpha op(a) op(b) + beta c on tiles. c is written, added to, or both, as its Ref says; Lowering::first goes with
// beta = 0.
void gemm_task(Lowering& to, DType type, const GemmOptions& options, Lowering::Ref a, Lowering::Ref b, Lowering::Ref c);

}  // namespace tessera
