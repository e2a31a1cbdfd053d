#include "data/matrix_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "core/error.h"
#include "data/npy.h"

namespace tessera {
namespace fs = std::filesystem;

namespace {
constexpr int64_t call_bytes = int64_t(1) << 29;  // per system call; Linux ends each below 2 GiB anyway

// `grain`: only multiples of it count, because a direct transfer must go on where a block begins.
void read_all(int file, int64_t offset, void* to, int64_t bytes, const std::string& name, int64_t grain = 1) {
    for (auto* p = static_cast<char*>(to); bytes > 0;) {
        const ssize_t n = pread(file, p, size_t(std::min(bytes, call_bytes)), offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) check_system(false, "cannot read '" + name + "'", "is the disk sound?");
        const int64_t done = n / grain * grain;
        if (done == 0)
            throw Error("cannot read '" + name + "': it ended at byte " + std::to_string(offset + n),
                        "something else shortens the file; leave it alone during the run");
        p += done, offset += done, bytes -= done;
    }
}

void write_all(int file, int64_t offset, const void* from, int64_t bytes, const std::string& name, int64_t grain = 1) {
    for (auto* p = static_cast<const char*>(from); bytes > 0;) {
        const ssize_t n = pwrite(file, p, size_t(std::min(bytes, call_bytes)), offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            check_system(false, "cannot write '" + name + "'", "is the disk full, or its limit per file reached?");
        const int64_t done = n / grain * grain;
        if (done == 0)
            throw Error("cannot write '" + name + "': it takes no more at byte " + std::to_string(offset + n),
                        "is the disk full, or its limit per file reached?");
        p += done, offset += done, bytes -= done;
    }
}

// Refuses before a byte is taken where nobody could have so much; otherwise the file system decides.
void take_space(int file, int64_t bytes, const std::string& what) {
    struct statvfs space {};
    const bool known = fstatvfs(file, &space) == 0 && space.f_blocks > 0 && space.f_frsize > 0;
    int reason = known && uint64_t(bytes) / space.f_frsize > space.f_bfree ? ENOSPC : 0;
    if (bytes > 0 && reason == 0) do
            reason = posix_fallocate(file, 0, bytes);
        while (reason == EINTR);
    if (reason == 0) return;
    throw Error(what + ": " + std::strerror(reason) + ": " + std::to_string(bytes) + " bytes are needed" +
                    (known ? ", " + std::to_string(space.f_bavail * space.f_frsize) + " are free" : ""),
                "free some space, or choose a folder on a larger disk");
}

// transfer(byte in the file, element in memory, elements) for every stretch that is contiguous in both.
template <class Transfer>
void by_stretches(const MatrixLayout& l, int64_t row, int64_t col, int64_t rows, int64_t cols, int64_t ld,
                  Transfer transfer) {
    const bool inside = row >= 0 && col >= 0 && rows >= 0 && cols >= 0 && row <= l.rows - rows && col <= l.cols - cols;
    if (!inside || ld < cols)
        throw std::invalid_argument("'" + l.path + "' is " + std::to_string(l.rows) + " x " + std::to_string(l.cols) +
                                    "; it has no block of " + std::to_string(rows) + " x " + std::to_string(cols) +
                                    " at (" + std::to_string(row) + ", " + std::to_string(col) +
                                    "), or that does not fit a leading dimension of " + std::to_string(ld));
    if (rows == 0 || cols == 0) return;
    const auto at = [&](int64_t r) { return l.start + (r * l.cols + col) * bytes_of(l.dtype); };
    if (cols == l.cols && ld == cols) return transfer(at(row), int64_t(0), rows * cols);
    for (int64_t r = 0; r < rows; ++r) transfer(at(row + r), r * ld, cols);
}

int opened(const fs::path& path) {
    const int file =
        open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not block: it is refused later
    check_system(file >= 0, "cannot read '" + path.string() + "'", "is the path right, and the file readable?");
    return file;
}

// The header through parse_npy, which wants the whole file: it gets a mapping, of which it touches the header only.
MatrixLayout layout_of(int file, const std::string& path) {
    struct stat status {};
    check_system(fstat(file, &status) == 0, "cannot read '" + path + "'");
    if (!S_ISREG(status.st_mode)) throw Error("cannot read '" + path + "': not a regular file", "give an .npy file");
    const int64_t size = status.st_size;
    char beginning[4096];  // a disk error is an Error here; in the mapping it would be a signal
    read_all(file, 0, beginning, std::min<int64_t>(size, sizeof beginning), path);
    const std::string save =
        "save it with numpy.save(file, numpy.ascontiguousarray(array)), float32 or float64, two dimensions";
    void* map = size > 0 ? mmap(nullptr, size_t(size), PROT_READ, MAP_PRIVATE, file, 0) : nullptr;
    check_system(map != MAP_FAILED, "cannot map '" + path + "'", "is the address space limited (ulimit -v)?");
    const auto unmap = [size](void* p) { munmap(p, size_t(size)); };
    const std::unique_ptr<void, decltype(unmap)> held(map, unmap);
    const Npy array = parse_npy({static_cast<const uint8_t*>(map), size_t(size)}, path);

    if (array.shape.size() != 2) {
        std::vector<std::string> extents;
        for (const int64_t extent : array.shape) extents.push_back(std::to_string(extent));
        throw Error("'" + path + "': an array of shape (" + join(extents) + ") is no matrix; two extents are wanted",
                    save);
    }
    if (array.type != NpyType::f32 && array.type != NpyType::f64) {
        const char* const names[] = {"f32", "f64", "i32", "i64", "u8"};
        throw Error("'" + path + "': elements of type " + names[int(array.type)] + "; f32 (<f4) or f64 (<f8) is wanted",
                    save);
    }
    // rows * cols * size is the rest of the file or 0, and a header's extent has at most 18 digits: nothing overflows.
    return {path, array.type == NpyType::f32 ? DType::f32 : DType::f64, array.shape[0], array.shape[1],
            size - int64_t(array.data.size())};
}

std::string header_of(const MatrixLayout& l) {
    return npy_header(l.dtype == DType::f32 ? NpyType::f32 : NpyType::f64, {l.rows, l.cols});
}

MatrixLayout layout_for(const fs::path& path, DType dtype, int64_t rows, int64_t cols) {
    MatrixLayout l{path.string(), dtype, rows, cols, 0};
    int64_t bytes = 0;
    if (dtype != DType::f32 && dtype != DType::f64)
        throw std::invalid_argument("'" + l.path + "': .npy files hold f32 or f64, not " + std::string(name_of(dtype)));
    if (rows < 0 || cols < 0 || __builtin_mul_overflow(rows, cols, &bytes) ||
        __builtin_mul_overflow(bytes, bytes_of(dtype), &bytes) || bytes > INT64_MAX - 65536)
        throw Error("cannot write '" + l.path + "': " + std::to_string(rows) + " x " + std::to_string(cols) +
                        " elements of " + std::string(name_of(dtype)) + " are negative or exceed 2^63 bytes",
                    "give smaller sizes");
    l.start = int64_t(header_of(l).size());
    return l;
}

// What AtomicFile has just created, opened again. Its commit() syncs the file, whichever descriptor wrote to it.
int temporary_of(const fs::path& path) {
    const fs::path target = fs::is_symlink(fs::symlink_status(path)) ? fs::weakly_canonical(path) : path;
    const int file = open((target.string() + ".tmp-" + std::to_string(getpid())).c_str(), O_WRONLY | O_CLOEXEC);
    check_system(file >= 0, "cannot write '" + path.string() + "'");
    return file;
}

int unnamed_file(const fs::path& folder) {
    int file = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file < 0) {  // not every file system has them; otherwise this fails for the same reason
        std::string name = (folder / ".tessera-swap-XXXXXX").string();
        file = mkostemp(name.data(), O_CLOEXEC);
        if (file >= 0) unlink(name.c_str());
    }
    check_system(file >= 0, "cannot make a swap file in '" + folder.string() + "'",
                 "is the folder there, and writable?");
    return file;
}

// Some file systems take the flag and refuse the transfer, so one is tried.
bool try_direct(int file, int64_t bytes) {
    const int flags = fcntl(file, F_GETFL);
    if (bytes == 0 || flags < 0 || fcntl(file, F_SETFL, flags | O_DIRECT) != 0) return false;
    alignas(SwapFile::alignment) char block[SwapFile::alignment];
    if (pread(file, block, sizeof block, 0) == ssize_t(sizeof block)) return true;
    fcntl(file, F_SETFL, flags);
    return false;
}
}  // namespace

MatrixReader::MatrixReader(const fs::path& path) : file_(opened(path)) {
    layout_ = layout_of(file_.value(), path.string());
}

void MatrixReader::read(int64_t row, int64_t col, int64_t rows, int64_t cols, void* to, int64_t ld) const {
    const int64_t each = bytes_of(layout_.dtype);
    by_stretches(layout_, row, col, rows, cols, ld, [&](int64_t offset, int64_t element, int64_t count) {
        read_all(file_.value(), offset, static_cast<char*>(to) + element * each, count * each, layout_.path);
    });
}

MatrixWriter::MatrixWriter(const fs::path& path, DType dtype, int64_t rows, int64_t cols)
    : layout_(layout_for(path, dtype, rows, cols)), file_(path), positional_(temporary_of(path)) {
    take_space(positional_.value(), layout_.start + rows * cols * bytes_of(dtype),
               "cannot write '" + layout_.path + "'");
    file_.write(header_of(layout_));
}

void MatrixWriter::write(int64_t row, int64_t col, int64_t rows, int64_t cols, const void* from, int64_t ld) {
    const int64_t each = bytes_of(layout_.dtype);
    if (positional_.value() < 0) throw std::logic_error("'" + layout_.path + "': write after finish");
    by_stretches(layout_, row, col, rows, cols, ld, [&](int64_t offset, int64_t element, int64_t count) {
        write_all(positional_.value(), offset, static_cast<const char*>(from) + element * each, count * each,
                  layout_.path);
    });
}

void MatrixWriter::finish() {
    if (positional_.value() < 0) throw std::logic_error("'" + layout_.path + "': finished twice");
    check_system(close(positional_.release()) == 0, "cannot write '" + layout_.path + "'", "nothing was replaced");
    file_.commit();
}

SwapFile::SwapFile(const fs::path& folder, int64_t bytes)
    : name_(folder.string() + "/(swap file)"), bytes_(bytes), file_(unnamed_file(folder)) {
    if (bytes < 0 || bytes > INT64_MAX - alignment)
        throw std::invalid_argument("a swap file of " + std::to_string(bytes) + " bytes");
    bytes_ = (bytes + alignment - 1) / alignment * alignment;
    take_space(file_.value(), bytes_, "swap folder '" + folder.string() + "' is too small");
    direct_ = try_direct(file_.value(), bytes_);
}

void SwapFile::check(int64_t offset, int64_t bytes, const void* buffer) const {
    if (offset < 0 || bytes < 0 || offset > bytes_ - bytes || offset % alignment != 0 ||
        reinterpret_cast<uintptr_t>(buffer) % alignment != 0)
        throw std::invalid_argument("'" + name_ + "' of " + std::to_string(bytes_) + " bytes: no transfer of " +
                                    std::to_string(bytes) + " at " + std::to_string(offset) +
                                    ": offset and buffer must be multiples of " + std::to_string(alignment));
}

// Dirty pages stay when they are asked to go, so they are written first.
void SwapFile::drop_cached(int64_t offset, int64_t bytes) const {
    constexpr int64_t large_bytes = 1 << 18;
    if (direct_ || bytes < large_bytes) return;
    const unsigned now = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (sync_file_range(file_.value(), offset, bytes, now) != 0 && (errno == EIO || errno == ENOSPC))
        check_system(false, "cannot write '" + name_ + "'", "is the disk sound?");
    posix_fadvise(file_.value(), offset, bytes, POSIX_FADV_DONTNEED);
}

void SwapFile::read(int64_t offset, int64_t bytes, void* to) const {
    check(offset, bytes, to);
    const int64_t whole = bytes / alignment * alignment, rest = bytes - whole;
    read_all(file_.value(), offset, to, whole, name_, alignment);
    if (rest > 0) {
        alignas(alignment) char block[alignment];
        read_all(file_.value(), offset + whole, block, alignment, name_, alignment);
        memcpy(static_cast<char*>(to) + whole, block, size_t(rest));
    }
    drop_cached(offset, bytes);
}

void SwapFile::write(int64_t offset, int64_t bytes, const void* from) {
    check(offset, bytes, from);
    const int64_t whole = bytes / alignment * alignment, rest = bytes - whole;
    write_all(file_.value(), offset, from, whole, name_, alignment);
    if (rest > 0) {
        alignas(alignment) char block[alignment] = {};
        memcpy(block, static_cast<const char*>(from) + whole, size_t(rest));
        write_all(file_.value(), offset + whole, block, alignment, name_, alignment);
    }
    drop_cached(offset, bytes);
}

}  // namespace tessera
