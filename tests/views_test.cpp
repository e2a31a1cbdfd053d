// views_test: what a body sees of StarPU's matrix, vector and CSR interfaces, made by hand; no runtime.
#include <gtest/gtest.h>

#include "core/codelet.h"

namespace tessera {
namespace {

TEST(Views, OfAMatrix) {
    std::vector<float> data(40);
    starpu_matrix_interface m{};
    m.id = STARPU_MATRIX_INTERFACE_ID;
    m.ptr = reinterpret_cast<uintptr_t>(data.data());
    m.nx = 3, m.ny = 5, m.ld = 8, m.elemsize = sizeof(float);
    void* buffers[] = {&m};
    const auto view = detail::FromInterface<Out<float>>::get(buffers, 1);
    EXPECT_EQ(view.rows, 5);
    EXPECT_EQ(view.cols, 3);
    EXPECT_EQ(view.ld, 8);
    view(4, 2) = 7;
    EXPECT_EQ(data[34], 7);
    EXPECT_EQ(view.row(2), data.data() + 16);
}

TEST(Views, OfAVectorIsOneRow) {
    std::vector<double> data = {1, 2, 3, 4};
    starpu_vector_interface v{};
    v.id = STARPU_VECTOR_INTERFACE_ID;
    v.ptr = reinterpret_cast<uintptr_t>(data.data());
    v.nx = 4, v.elemsize = sizeof(double);
    void* buffers[] = {&v};
    const auto view = detail::FromInterface<In<double>>::get(buffers, 1);
    EXPECT_EQ(view.rows, 1);
    EXPECT_EQ(view.cols, 4);
    EXPECT_GE(view.ld, 4);
    EXPECT_EQ(view(0, 3), 4);
}

TEST(Views, OfCompressedRows) {  // [[0 5 0] [6 0 7]]
    std::vector<float> values = {5, 6, 7};
    std::vector<uint32_t> columns = {1, 0, 2}, row_start = {0, 1, 3};
    starpu_csr_interface c{};
    c.id = STARPU_CSR_INTERFACE_ID;
    c.nnz = 3, c.nrow = 2, c.firstentry = 0, c.elemsize = sizeof(float);
    c.nzval = reinterpret_cast<uintptr_t>(values.data()), c.colind = columns.data(), c.rowptr = row_start.data();
    void* buffers[] = {&c};
    const auto view = detail::FromInterface<InCsr<float>>::get(buffers, 1);
    EXPECT_EQ(view.rows, 2);
    EXPECT_EQ(view.nonzeros, 3);
    double dense[2][3] = {};
    for (int64_t i = 0; i < view.rows; ++i)
        for (uint32_t k = view.row_start[i]; k < view.row_start[i + 1]; ++k)
            dense[i][view.columns[k]] = double(view.values[k]);
    EXPECT_EQ(dense[0][1], 5);
    EXPECT_EQ(dense[1][0], 6);
    EXPECT_EQ(dense[1][2], 7);
}

TEST(Views, OfAList) {
    std::vector<float> data = {0, 1, 2};
    std::vector<starpu_matrix_interface> tiles(3);
    void* buffers[3];
    for (size_t i = 0; i < 3; ++i) {
        tiles[i] = {};
        tiles[i].id = STARPU_MATRIX_INTERFACE_ID, tiles[i].ptr = reinterpret_cast<uintptr_t>(&data[i]);
        tiles[i].nx = tiles[i].ny = tiles[i].ld = 1;
        buffers[i] = &tiles[i];
    }
    const auto list = detail::FromInterface<InList<float>>::get(buffers, 3);
    ASSERT_EQ(list.count, 3);
    for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(list[i](0, 0), float(i));
    EXPECT_EQ(detail::FromInterface<InList<float>>::get(buffers, 0).count, 0);
}

// --- more buffers than StarPU's fixed number -----------------------------------------------------------------------

}  // namespace
}  // namespace tessera
