#include "core/bounds.h"

#include <glpk.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "core/error.h"

namespace tessera {

static double solve(const std::vector<WorkClass>& classes, const std::vector<int>& workers,
                    const std::vector<double>& bytes_per_s) {
    struct Delete {
        void operator()(glp_prob* p) const { glp_delete_prob(p); }
    };
    const std::unique_ptr<glp_prob, Delete> lp(glp_create_prob());
    glp_set_obj_dir(lp.get(), GLP_MIN);
    const int kinds = int(workers.size()), n = int(classes.size());
    glp_add_rows(lp.get(), n + 2 * kinds);  // all work is done; workers; links
    glp_add_cols(lp.get(), 1);              // T
    glp_set_col_bnds(lp.get(), 1, GLP_LO, 0, 0);
    glp_set_obj_coef(lp.get(), 1, 1);
    std::vector<int> row{0}, col{0};
    std::vector<double> value{0};
    const auto entry = [&](int r, int c, double v) { row.push_back(r), col.push_back(c), value.push_back(v); };
    const auto limits = [&](int k) { return size_t(k) < bytes_per_s.size() && bytes_per_s[size_t(k)] > 0; };
    double unit = 0;  // keeps the coefficients near 1
    for (const auto& c : classes) {
        bool anywhere = false;
        for (size_t k = 0; k < workers.size(); ++k)
            if (std::isfinite(c.time_s[k]) && workers[k] > 0) unit = std::max(unit, c.time_s[k]), anywhere = true;
        if (!anywhere) throw Error("area bound: no time is known for one kind of task on any worker");
    }
    if (unit == 0) return 0;
    for (int k = 0; k < kinds; ++k) {
        glp_set_row_bnds(lp.get(), n + k + 1, GLP_UP, 0, 0);
        entry(n + k + 1, 1, -double(workers[size_t(k)]));
        glp_set_row_bnds(lp.get(), n + kinds + k + 1, GLP_UP, 0, 0);
        if (limits(k)) entry(n + kinds + k + 1, 1, -1);
    }
    for (int i = 0; i < n; ++i) {
        glp_set_row_bnds(lp.get(), i + 1, GLP_FX, classes[size_t(i)].count, classes[size_t(i)].count);
        for (int k = 0; k < kinds; ++k) {
            const double t = classes[size_t(i)].time_s[size_t(k)];
            if (!std::isfinite(t) || workers[size_t(k)] == 0) continue;
            const int x = glp_add_cols(lp.get(), 1);
            glp_set_col_bnds(lp.get(), x, GLP_LO, 0, 0);
            entry(i + 1, x, 1);
            entry(n + k + 1, x, t / unit);
            if (limits(k) && size_t(k) < classes[size_t(i)].link_bytes.size())
                if (const double b = classes[size_t(i)].link_bytes[size_t(k)]; b > 0)
                    entry(n + kinds + k + 1, x, b / bytes_per_s[size_t(k)] / unit);
        }
    }
    glp_load_matrix(lp.get(), int(row.size()) - 1, row.data(), col.data(), value.data());
    glp_smcp control;
    glp_init_smcp(&control);
    control.msg_lev = GLP_MSG_OFF;
    control.presolve = GLP_ON;
    if (glp_simplex(lp.get(), &control) != 0 || glp_get_status(lp.get()) != GLP_OPT)
        throw Error("area bound: the linear program has no solution");
    return glp_get_obj_val(lp.get()) * unit;
}

double area_bound(const std::vector<WorkClass>& classes, const std::vector<int>& workers) {
    return solve(classes, workers, {});
}

double transfer_bound(const std::vector<WorkClass>& classes, const std::vector<int>& workers,
                      const std::vector<double>& bytes_per_s) {
    return solve(classes, workers, bytes_per_s);
}

std::vector<double> host_bytes(const Plan& plan) {
    enum Writer { nobody, only_cpus, others };
    std::vector<Writer> writer(plan.tiles.size(), nobody);
    std::vector<int64_t> readers(plan.tiles.size());
    for (const TaskSpec& t : plan.tasks)
        for (const TileUse& u : t.tiles) {
            Writer& w = writer[size_t(u.tile)];
            if (u.access == Access::read) ++readers[size_t(u.tile)];
            else w = t.codelet->cuda.empty() && w != others ? only_cpus : others;
        }
    std::vector<double> bytes;
    for (const TaskSpec& t : plan.tasks) {
        double sum = 0;
        for (const TileUse& u : t.tiles)
            if (u.access == Access::read && writer[size_t(u.tile)] == only_cpus)
                sum += double(plan.tiles[size_t(u.tile)].bytes) / double(readers[size_t(u.tile)]);
        bytes.push_back(sum);
    }
    return bytes;
}

static double path_of_steps(const Plan& plan, const std::vector<double>& times, bool ordered, int steps) {
    Plan many = plan;
    std::vector<double> all = times;
    for (int i = 1; i < steps; ++i) {
        many.tasks.insert(many.tasks.end(), plan.tasks.begin(), plan.tasks.end());
        all.insert(all.end(), times.begin(), times.end());
    }
    return dag_stats(many, all, ordered).t_inf;
}

double critical_path(const Plan& plan, const std::vector<double>& times, bool ordered) {
    return path_of_steps(plan, times, ordered, 3) - path_of_steps(plan, times, ordered, 2);
}

Bound step_bound(const Plan& plan, const std::vector<double>& fastest_times, bool ordered,
                 const std::vector<WorkClass>& classes, const std::vector<int>& workers,
                 const std::vector<double>& bytes_per_s) {
    const double path = critical_path(plan, fastest_times, ordered), area = area_bound(classes, workers);
    const double transfers = bytes_per_s.empty() ? 0 : transfer_bound(classes, workers, bytes_per_s);
    if (transfers > area * (1 + 1e-9) && transfers > path) return {transfers, "transfers"};
    return path > area ? Bound{path, "critical path"} : Bound{area, "area"};
}

}  // namespace tessera
