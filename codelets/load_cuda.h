// codelets/load_cuda.h - the CUDA body of ops that gather samples: on the host, then one copy to the device.
#pragma once
#include <vector>

#include "codelets/cuda.h"

#ifdef TESSERA_CUDA
namespace tessera {

// Op::cpu into staging memory; waits for the copy, because that memory is this thread's.
template <class Op, class T>
void load_on_cuda(typename Op::Args a, Out<T> y, cudaStream_t stream) {
    thread_local std::vector<T> staging;
    staging.resize(size_t(y.size()));
    Op::cpu(a, {staging.data(), y.rows, y.cols, y.cols});
    check(cudaMemcpy2DAsync(y.data, size_t(y.ld) * sizeof(T), staging.data(), size_t(y.cols) * sizeof(T),
                            size_t(y.cols) * sizeof(T), size_t(y.rows), cudaMemcpyHostToDevice, stream),
          "cudaMemcpy2DAsync");
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

}  // namespace tessera
#endif
