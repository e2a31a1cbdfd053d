// losses_main.cpp - prints the first losses of the reference trainer on MNIST, one "step,loss" a line, and at the end
// the accuracy on the samples kept back (to stderr). Options have the names and meaning that they have in the program
// under test. Images are scaled to pixel / 255. Needs zlib.
#include <zlib.h>

#include <cmath>
#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <sstream>

#include "mlp.h"

using namespace tessera::reference;

namespace {

struct Options {
    Config config;
    std::vector<int64_t> hidden = {64, 32};
    std::string data, dtype = "f64";
    double validation = 0;  // this last fraction of the samples is not trained on
    int64_t steps = 10;
};

// IDX: 0, 0, type (8: bytes), number of extents; the extents as big-endian 32-bit integers; the data.
std::vector<uint8_t> read_idx(const std::string& path, std::vector<int64_t>& extents) {
    // gzopen reads files that are not compressed as they are
    const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
    uint8_t head[4];
    if (!file || gzread(file.get(), head, 4) != 4 || head[0] || head[1] || head[2] != 8 || head[3] < 1 || head[3] > 3)
        throw std::runtime_error(path + " cannot be read, or is no IDX file of bytes");
    size_t size = 1;
    for (int k = 0; k < head[3]; ++k) {
        uint8_t b[4];
        if (gzread(file.get(), b, 4) != 4) throw std::runtime_error(path + " ends within its header");
        extents.push_back(int64_t(b[0]) << 24 | b[1] << 16 | b[2] << 8 | b[3]);
        size *= size_t(extents.back());
        if (size > (1u << 30)) throw std::runtime_error(path + " says that it is larger than 1 GiB");
    }
    std::vector<uint8_t> data(size);
    if (gzread(file.get(), data.data(), unsigned(size)) != int(size)) throw std::runtime_error(path + " is too short");
    return data;
}

// The training files if they are there, else the test files; .gz or plain.
std::string find(const std::string& folder, const std::string& kind) {
    for (const char* part : {"train", "t10k"})
        for (const char* end : {".gz", ""}) {
            const std::string path = folder + "/" + part + "-" + kind + "-ubyte" + end;
            if (FILE* file = std::fopen(path.c_str(), "rb")) {
                std::fclose(file);
                return path;
            }
        }
    throw std::runtime_error("no train or t10k " + kind + " file in " + folder);
}

std::vector<int64_t> integers(const std::string& text) {
    std::vector<int64_t> values;
    std::istringstream in(text);
    for (std::string item; std::getline(in, item, ',');) values.push_back(std::stoll(item));
    return values;
}

Options parse(int argc, char** argv) {
    Options o;
    Config& c = o.config;
    const auto text = [](std::string& to) { return [&to](const std::string& v) { to = v; }; };
    const auto real = [](double& to) { return [&to](const std::string& v) { to = std::stod(v); }; };
    const auto integer = [](int64_t& to) { return [&to](const std::string& v) { to = std::stoll(v); }; };
    const std::map<std::string, std::function<void(const std::string&)>> flags = {
        {"--data", text(o.data)},
        {"--dtype", text(o.dtype)},
        {"--steps", integer(o.steps)},
        {"--validation", real(o.validation)},
        {"--hidden", [&](const std::string& v) { o.hidden = integers(v); }},
        {"--activation", text(c.activation)},
        {"--optimizer", text(c.optimizer)},
        {"--lr", real(c.lr)},
        {"--momentum", real(c.momentum)},
        {"--weight-decay", real(c.weight_decay)},
        {"--clip", real(c.clip)},
        {"--label-smoothing", real(c.label_smoothing)},
        {"--batch", integer(c.batch)},
        {"--epochs", integer(c.epochs)},
        {"--seed", [&](const std::string& v) { c.seed = std::stoull(v); }},
        {"--schedule", [&](const std::string& v) {
             const size_t colon = v.find(':');
             c.schedule = v.substr(0, colon);
             if (colon != v.npos) c.warmup = std::stoll(v.substr(colon + 1));
         }}};
    for (int k = 1; k < argc; ++k) {
        if (argv[k] == std::string("--nesterov")) {
            c.nesterov = true;
            continue;
        }
        const auto flag = flags.find(argv[k]);
        if (flag == flags.end() || k + 1 == argc)
            throw std::invalid_argument(std::string("unknown option, or one without its value: ") + argv[k]);
        flag->second(argv[++k]);
    }
    if (o.dtype != "f32" && o.dtype != "f64") throw std::invalid_argument("--dtype is f32 or f64");
    return o;
}

template <class Real>
void print_losses(Options o) {
    std::vector<int64_t> extents, label_extents;
    const std::vector<uint8_t> images = read_idx(find(o.data, "images-idx3"), extents),
                               labels = read_idx(find(o.data, "labels-idx1"), label_extents);
    if (extents.size() != 3 || label_extents.size() != 1 || extents[0] != label_extents[0])
        throw std::runtime_error("the images and the labels don't belong together");
    const int64_t features = extents[1] * extents[2], kept = std::lround(double(extents[0]) * o.validation),
                  n = extents[0] - kept;
    std::vector<float> x;
    for (uint8_t pixel : images) x.push_back(float(pixel) / 255.0f);
    const std::vector<int32_t> y(labels.begin(), labels.end());

    o.config.widths = o.hidden;
    o.config.widths.insert(o.config.widths.begin(), features);
    o.config.widths.push_back(10);
    Trainer<Real> trainer(o.config, x.data(), y.data(), n);
    for (int64_t s = 0; s < o.steps; ++s) std::printf("%lld,%.12g\n", static_cast<long long>(s), trainer.step());
    if (kept > 0)
        std::fprintf(stderr, "accuracy on the last %lld: %g\n", static_cast<long long>(kept),
                     trainer.accuracy(x.data() + n * features, y.data() + n, kept));
}

}  // namespace

int main(int argc, char** argv) try {
    const Options o = parse(argc, argv);
    o.dtype == "f32" ? print_losses<float>(o) : print_losses<double>(o);
    return 0;
} catch (const std::invalid_argument& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 2;
} catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
}
