// core/product_bound.h - how long a product of matrices in host memory must take at least on devices of given speeds,
// memories and links.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

struct ProductProblem {
    int64_t m = 0, n = 0, k = 0, element_bytes = 4;
    bool reads_c = false;  // beta != 0
    double flops() const { return 2.0 * double(m) * double(n) * double(k); }
};

struct ProductDevice {
    double flops_per_s = 0;    // in core
    int64_t memory_bytes = 0;  // what it may hold; 0: no limit
    std::vector<int> in, out;  // links on its way from and to host memory; none: it computes there
};

struct ProductBound {
    double seconds = 0;
    std::string kind;           // "area" or "transfers": the one that binds
    std::vector<double> share;  // of the work, per device
};

// The linear program min T over the devices' shares x_d of m n k, sum x_d = 1:
//   2 m n k x_d / rate_d <= T
//   in_d >= 2 m n k x_d / sqrt(S_d), S_d elements of memory (Smith, Lowery, Langou, van de Geijn, arXiv 1702.02017)
//   in_d >= x_d (m k + k n): every element that is used is there once (Loomis-Whitney)
//   in_d and C's part x_d m n (out, and in if it is read) over all links of the way, bytes <= T bandwidth per link.
// With no limit the device's memory counts as large. Throws std::invalid_argument without a device that computes.
ProductBound product_bound(const ProductProblem&, const std::vector<ProductDevice>&,
                           const std::vector<double>& link_bytes_per_s);

// Least traffic between memories if the devices compute these shares of the work: the sum of in_d and out_d.
double least_bytes(const ProductProblem&, const std::vector<ProductDevice>&, const std::vector<double>& share);

}  // namespace tessera
