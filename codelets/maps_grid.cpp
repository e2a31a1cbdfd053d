#include "codelets/maps_grid.h"

namespace tessera {

std::string to_string(Extent2d e) { return std::to_string(e.height) + " x " + std::to_string(e.width); }

std::vector<int64_t> image_extents(const std::string& op, Maps x) {
    require(bool(x.tensor), op, "needs maps");
    const int64_t rows = x.tensor.shape().rows;
    const std::string images = "images of " + to_string(Extent2d(x.height, x.width)) + " pixels";
    const bool positive = x.height > 0 && x.width > 0;
    require(positive && x.height <= rows / x.width && rows % (x.height * x.width) == 0, op,
            "the rows of x must be whole " + images, {x.tensor});
    const int64_t pixels = x.height * x.width;
    std::vector<int64_t> extents;
    for (int64_t tile : x.tensor.grid().row_extents) {
        require(tile % pixels == 0, op,
                "x must be cut between " + images + ", not into tiles " + to_string(x.tensor.grid()), {x.tensor});
        extents.push_back(tile / pixels);
    }
    return extents;
}

std::vector<int64_t> rows_of_images(const std::vector<int64_t>& images, int64_t pixels) {
    std::vector<int64_t> rows;
    for (int64_t n : images) rows.push_back(n * pixels);
    return rows;
}

}  // namespace tessera
