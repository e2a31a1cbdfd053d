#include "core/product_bound.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/linear_program.h"

namespace tessera {

namespace {

// Per unit of share.
struct Traffic {
    double in = 0, out = 0;
};
Traffic traffic_of(const ProductProblem& p, const ProductDevice& d) {
    if (d.in.empty() && d.out.empty()) return {};
    const double size = double(p.element_bytes), mk = double(p.m) * double(p.k), kn = double(p.k) * double(p.n),
                 mn = double(p.m) * double(p.n);
    double in = size * (mk + kn);
    if (d.memory_bytes > 0) in = std::max(in, size * p.flops() / std::sqrt(double(d.memory_bytes) / size));
    return {in + (p.reads_c ? size * mn : 0), size * mn};
}

}  // namespace

double least_bytes(const ProductProblem& p, const std::vector<ProductDevice>& devices,
                   const std::vector<double>& share) {
    double bytes = 0;
    for (size_t d = 0; d < devices.size(); ++d) {
        const Traffic t = traffic_of(p, devices[d]);
        bytes += share[d] * (t.in + t.out);
    }
    return bytes;
}

ProductBound product_bound(const ProductProblem& p, const std::vector<ProductDevice>& devices,
                           const std::vector<double>& link_bytes_per_s) {
    double all_flops_per_s = 0;
    for (const ProductDevice& d : devices) all_flops_per_s += std::max(0.0, d.flops_per_s);
    if (!(all_flops_per_s > 0)) throw std::invalid_argument("product bound: no device computes");
    const double unit = std::max(1e-12, p.flops() / all_flops_per_s);  // keeps the coefficients near 1
    LinearProgram lp("product bound");
    const int time = lp.variable(1);
    std::vector<LinearProgram::Term> whole;
    std::vector<std::vector<LinearProgram::Term>> traffic(link_bytes_per_s.size());
    for (const ProductDevice& d : devices) {
        const Traffic bytes = traffic_of(p, d);
        if (!(d.flops_per_s > 0)) {
            whole.push_back({-1, 0});
            continue;
        }
        const int share = lp.variable(0);
        whole.push_back({share, 1});
        lp.at_most({{share, p.flops() / d.flops_per_s / unit}, {time, -1}}, 0);
        for (int l : d.in) traffic[size_t(l)].push_back({share, bytes.in});
        for (int l : d.out) traffic[size_t(l)].push_back({share, bytes.out});
    }
    std::vector<LinearProgram::Term> sum;
    for (const auto& t : whole)
        if (t.variable >= 0) sum.push_back(t);
    lp.exactly(sum, 1);
    for (size_t l = 0; l < traffic.size(); ++l) {
        if (traffic[l].empty()) continue;
        std::vector<LinearProgram::Term> row{{time, -1}};
        for (const auto& t : traffic[l]) {  // one device may cross a link both ways
            const auto same =
                std::find_if(row.begin(), row.end(), [&](const auto& r) { return r.variable == t.variable; });
            const double factor = t.factor / link_bytes_per_s[l] / unit;
            if (same != row.end()) same->factor += factor;
            else row.push_back({t.variable, factor});
        }
        lp.at_most(row, 0);
    }
    const auto x = lp.minimise();
    ProductBound bound;
    bound.seconds = x[size_t(time)] * unit;
    for (const auto& w : whole) bound.share.push_back(w.variable < 0 ? 0 : x[size_t(w.variable)]);
    bound.kind = bound.seconds <= p.flops() / all_flops_per_s * (1 + 1e-9) ? "area" : "transfers";
    return bound;
}

}  // namespace tessera
