// core/linear_program.h - a small linear program: columns are variables >= 0, rows are sums with an upper bound or a
// fixed value; solved by GLPK.
#pragma once
#include <string>
#include <vector>

namespace tessera {

class LinearProgram {
 public:
    explicit LinearProgram(std::string name) : name_(std::move(name)) {}
    // A variable >= 0 with this weight in what is minimised.
    int variable(double weight = 0);
    struct Term {
        int variable;
        double factor;
    };
    void at_most(std::vector<Term>, double limit);
    void exactly(std::vector<Term>, double value);
    // The values of all variables. Throws Error naming the program if it has no solution.
    std::vector<double> minimise() const;

 private:
    struct Row {
        std::vector<Term> terms;
        double value;
        bool fixed;
    };
    std::string name_;
    std::vector<double> weights_;
    std::vector<Row> rows_;
};

}  // namespace tessera
