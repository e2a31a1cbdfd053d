#include "graphs/checkpoint.h"

#include <algorithm>

#include "codelets/ops.h"
#include "core/error.h"

namespace tessera {

Checkpoint::Checkpoint(Executor& executor, std::vector<const Params*> all, std::filesystem::path file, Facts facts)
    : executor_(executor), file_(std::move(file)), facts_(std::move(facts)) {
    for (const Params* params : all)
        for (const auto& p : *params) params_.push_back(p.get());
}

Checkpoint::~Checkpoint() {
    if (writing_.valid()) writing_.wait();
    for (const Param* shadow : shadows_) executor_.release(*shadow);
}

void Checkpoint::save(int64_t step, const std::string& note) {
    wait();
    if (plan_ < 0) {  // made at the first save: a run without checkpoints pays nothing
        Graph g;
        for (const Param* p : params_) {
            shadows_.push_back(&shadow_storage_.add({p->name, p->shape, p->dtype, p->grid, nullptr, false}));
            assign(g.param(*shadows_.back()), g.param(*p));
        }
        plan_ = executor_.load(Plan(g), {.planned = false});
    }
    const int64_t failures = executor_.failures();
    executor_.submit(plan_, {});
    writing_ = std::async(std::launch::async, [=, this] { write(step, note, failures); });
}

void Checkpoint::wait() {
    if (writing_.valid()) writing_.get();
}

void Checkpoint::write(int64_t step, const std::string& note, int64_t failures_before) {
    std::map<std::string, std::string> metadata(facts_.begin(), facts_.end());
    metadata["step"] = std::to_string(step);
    if (!note.empty()) metadata["note"] = note;
    std::vector<TensorRecord> records;
    for (const Param* p : shadows_)
        records.push_back({p->name, std::string(facts(p->dtype).safetensors), {p->shape.rows, p->shape.cols}, 0, 0});
    SafetensorsWriter file(file_, metadata, records);
    std::vector<std::byte> row_major;
    for (const Param* p : shadows_) {
        row_major.resize(size_t(p->bytes()));
        executor_.read(*p, row_major.data());
        // The copies after a failure are not what they should be, even if it has been thrown by now.
        if (executor_.failures() != failures_before) return;
        file.write(p->name, row_major.data(), p->bytes());
    }
    file.commit();
}

static std::string shape_text(const std::vector<int64_t>& shape) {
    std::vector<std::string> extents;
    for (int64_t e : shape) extents.push_back(std::to_string(e));
    return "[" + join(extents, " x ") + "]";
}

// A value as it stands in a file, which may be anybody's.
static std::string as_one_line(const std::string& value) {
    const auto plain = [](char c) { return c >= ' ' && c <= '~'; };
    return value.size() <= 80 && std::all_of(value.begin(), value.end(), plain) ? value : in_quotes(value);
}

Checkpoint::Found Checkpoint::load() {
    const SafetensorsReader file(file_);
    const std::string name = "checkpoint '" + file_.string() + "'";
    const auto& metadata = file.header().metadata;
    for (const auto& [key, value] : facts_) {
        const auto it = metadata.find(key);
        const bool data = key == "data_crc32";
        if (it == metadata.end() && data) continue;  // older files do not say
        const std::string there = it == metadata.end() ? "absent" : as_one_line(it->second);
        if (it == metadata.end() || it->second != value)
            throw Error(name + " was made with " + key + " " + there + ", not " + value,
                        data ? "features or labels of the data are others; give those it was made with"
                             : "give the flags it was made with");
    }
    const auto step = metadata.find("step");
    if (step == metadata.end() || step->second.empty() || step->second.size() > 18 ||
        step->second.find_first_not_of("0123456789") != std::string::npos)
        throw Error(name + " does not say at which step it was made");
    std::vector<const TensorRecord*> records;  // all are checked before any is read
    for (const Param* p : params_) {
        const TensorRecord* r = file.find(p->name);
        if (!r) throw Error(name + " has no tensor '" + p->name + "'");
        if (r->shape != std::vector{p->shape.rows, p->shape.cols} || r->dtype != facts(p->dtype).safetensors)
            throw Error(name + ": tensor '" + p->name + "' is " + shape_text(r->shape) + " " + r->dtype +
                        " there and " + to_string(p->shape) + " " + std::string(facts(p->dtype).safetensors) + " here");
        records.push_back(r);
    }
    std::vector<std::byte> row_major;
    for (size_t i = 0; i < params_.size(); ++i) {
        row_major.resize(size_t(params_[i]->bytes()));
        file.read(*records[i], row_major.data());
        executor_.write(*params_[i], row_major.data());
    }
    const auto note = metadata.find("note");
    return {std::stoll(step->second), note == metadata.end() ? "" : note->second};
}

}  // namespace tessera
