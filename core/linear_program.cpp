#include "core/linear_program.h"

#include <glpk.h>

#include <memory>

#include "core/error.h"

namespace tessera {

int LinearProgram::variable(double weight) {
    weights_.push_back(weight);
    return int(weights_.size()) - 1;
}
void LinearProgram::at_most(std::vector<Term> terms, double limit) {
    rows_.push_back({std::move(terms), limit, false});
}
void LinearProgram::exactly(std::vector<Term> terms, double value) { rows_.push_back({std::move(terms), value, true}); }

std::vector<double> LinearProgram::minimise() const {
    struct Delete {
        void operator()(glp_prob* p) const { glp_delete_prob(p); }
    };
    const std::unique_ptr<glp_prob, Delete> lp(glp_create_prob());
    glp_set_obj_dir(lp.get(), GLP_MIN);
    glp_add_cols(lp.get(), int(weights_.size()));
    for (size_t v = 0; v < weights_.size(); ++v) {
        glp_set_col_bnds(lp.get(), int(v) + 1, GLP_LO, 0, 0);
        glp_set_obj_coef(lp.get(), int(v) + 1, weights_[v]);
    }
    if (!rows_.empty()) glp_add_rows(lp.get(), int(rows_.size()));
    std::vector<int> row{0}, col{0};
    std::vector<double> value{0};
    for (size_t r = 0; r < rows_.size(); ++r) {
        glp_set_row_bnds(lp.get(), int(r) + 1, rows_[r].fixed ? GLP_FX : GLP_UP, rows_[r].value, rows_[r].value);
        for (const Term& t : rows_[r].terms)
            row.push_back(int(r) + 1), col.push_back(t.variable + 1), value.push_back(t.factor);
    }
    glp_load_matrix(lp.get(), int(row.size()) - 1, row.data(), col.data(), value.data());
    glp_smcp control;
    glp_init_smcp(&control);
    control.msg_lev = GLP_MSG_OFF;
    control.presolve = GLP_ON;
    if (glp_simplex(lp.get(), &control) != 0 || glp_get_status(lp.get()) != GLP_OPT)
        throw Error(name_ + ": the linear program has no solution");
    std::vector<double> x;
    for (size_t v = 0; v < weights_.size(); ++v) x.push_back(glp_get_col_prim(lp.get(), int(v) + 1));
    return x;
}

}  // namespace tessera
