// core/tile_sizes.h - what tiles take of memory that StarPU allocates. It gives the memory of one tile to another only
// if both take the same; else it frees several until there is room, and waits for that. So tiles of about one size take
// the same.
#pragma once
#include <algorithm>
#include <cstdint>
#include <set>

#include "core/plan.h"

namespace tessera {

class TileSizes {
 public:
    // The sizes of a plan's tiles that are no more than a 16th below a larger one become that.
    void add(const Plan& plan) {
        std::set<int64_t> all;
        for (const PlanTile& t : plan.tiles) all.insert(t.bytes);
        for (auto size = all.rbegin(); size != all.rend(); ++size)
            if (taken(*size) == *size) sizes_.insert(*size);
    }
    int64_t taken(int64_t bytes) const {
        const auto at_least = sizes_.lower_bound(bytes);
        return at_least != sizes_.end() && *at_least - bytes <= bytes / 16 ? *at_least : bytes;
    }

 private:
    std::set<int64_t> sizes_;
};

}  // namespace tessera
