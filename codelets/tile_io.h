// codelets/tile_io.h - tiles of matrices that are larger than host memory: read and written by tasks whose waiting is
// done by threads of their own, and products that stream them through a fixed number of tiles.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "codelets/ops.h"

namespace tessera {

// Threads that wait for disks, so that workers need not.
class IoThreads {
 public:
    explicit IoThreads(int threads);
    ~IoThreads();  // when all that was given is done
    IoThreads(const IoThreads&) = delete;
    void run(std::function<void()> work);  // must not throw

 private:
    void work();
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::function<void()>> queue_;
    bool ending_ = false;
    std::vector<std::thread> threads_;
};

// A matrix cut into equal tiles, padded with zeros beyond its last row and column. Called by several threads at once;
// what it throws stops the program like any failure in a task.
struct TileStore {
    virtual ~TileStore() = default;
    virtual void read(int64_t i, int64_t j, void* to) = 0;  // dense tile of the stated extents
    virtual void write(int64_t i, int64_t j, const void* from) = 0;
};

struct StreamedGemm {
    DType dtype = DType::f32;
    GemmOptions gemm;             // op(A) op(B): the stores hold A, B as stored
    int64_t m = 0, n = 0, k = 0;  // in tiles
    int64_t tile_m = 0, tile_n = 0, tile_k = 0;
    int64_t block_m = 1, block_n = 1;                    // of C: what stays in memory while k runs, in tiles
    int64_t depth = 2;                                   // steps of k whose tiles of A and B are in memory
    TileStore *a = nullptr, *b = nullptr, *c = nullptr;  // c is read only if beta != 0
    IoThreads* io = nullptr;
    // Tiles held at once: block_m block_n + depth (block_m + block_n), of their sizes.
    int64_t bytes() const;
};
// Adds the nodes of the whole product: block after block; k within a block; each tile of A and B is read once per
// block, each of C written once, and read once if beta != 0. Reading waits for a free tile, so no more than bytes() are
// used.
void gemm_streamed(Graph&, const StreamedGemm&);

}  // namespace tessera
