// Prints the simulated seconds of 200 products of 960 x 960 tiles that StarPU's published chol_model_gemm times on each
// device, and how many of them each GPU ran. The machine is what STARPU_HOSTNAME says. See sim_machine.sh.
#include <starpu.h>  // under simulation it renames main

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

static void submit(starpu_codelet& gemm, starpu_data_handle_t a, starpu_data_handle_t b, starpu_data_handle_t c) {
    starpu_task* task = starpu_task_create();
    task->cl = &gemm;
    task->handles[0] = a, task->handles[1] = b, task->handles[2] = c;
    task->flops = 2.0 * 960 * 960 * 960;
    if (starpu_task_submit(task) != 0) std::exit(1);
}

int main(int, char**) {  // with parameters: StarPU declares it so
    constexpr int tile = 960, products = 200;
    if (starpu_init(nullptr) != 0) return 1;
    starpu_perfmodel model{};
    model.type = STARPU_HISTORY_BASED;
    model.symbol = "chol_model_gemm";
    starpu_codelet gemm{};
    gemm.cpu_funcs[0] = reinterpret_cast<starpu_cpu_func_t>(1);
    gemm.cuda_funcs[0] = reinterpret_cast<starpu_cuda_func_t>(1);
    gemm.nbuffers = 3;
    gemm.modes[0] = gemm.modes[1] = STARPU_R, gemm.modes[2] = STARPU_RW;
    gemm.model = &model;
    std::vector<starpu_data_handle_t> tiles(products + 2);
    for (auto& t : tiles) {
        void* memory = nullptr;
        starpu_malloc_flags(&memory, size_t(tile) * tile * 4, STARPU_MALLOC_SIMULATION_FOLDED);
        starpu_matrix_data_register(&t, STARPU_MAIN_RAM, uintptr_t(memory), tile, tile, tile, sizeof(float));
    }
    const double start = starpu_timing_now();
    for (int i = 0; i < products; ++i) submit(gemm, tiles[0], tiles[1], tiles[size_t(i) + 2]);
    starpu_task_wait_for_all();
    std::printf("%.9f", (starpu_timing_now() - start) * 1e-6);
    for (unsigned w = 0; w < starpu_worker_get_count(); ++w)
        if (starpu_worker_get_type(int(w)) == STARPU_CUDA_WORKER) {
            starpu_profiling_worker_info info{};
            starpu_profiling_worker_get_info(int(w), &info);
            std::printf(" %d", info.executed_tasks);
        }
    std::printf("\n");
    for (auto& t : tiles) starpu_data_unregister(t);
    starpu_shutdown();
    return 0;
}
