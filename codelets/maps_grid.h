// codelets/maps_grid.h - how feature maps are cut, for the ops on them: rows between images only.
#pragma once
#include <string>
#include <vector>

#include "codelets/maps.h"
#include "core/examples.h"

namespace tessera {

// Images of each row tile of x. Throws std::invalid_argument naming the op unless the rows of x are whole images of
// its height and width, and every row tile holds whole images.
std::vector<int64_t> image_extents(const std::string& op, Maps x);

// Rows of tiles that hold so many images of `pixels` pixels.
std::vector<int64_t> rows_of_images(const std::vector<int64_t>& images, int64_t pixels);

std::string to_string(Extent2d);  // "3 x 5"

// Sizes of examples (core/examples.h): square maps.
struct MapsSize {
    int64_t images, side, channels;
};
inline constexpr MapsSize maps_sizes[] = {{16, 8, 64}, {16, 16, 64}, {16, 32, 64}};
inline Maps input_maps(ExampleGraph& e, MapsSize s) {
    return {e.input({s.images * s.side * s.side, s.channels}), s.side, s.side};
}

}  // namespace tessera
