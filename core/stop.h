// core/stop.h - what goes with the process: temporary files and folders, removed when a signal ends it. What kill -9
// leaves is removed by the next run (remove_stale_files(), ScratchFolder).
#pragma once
#include <filesystem>

namespace tessera {

// While it lives, a stop removes the file, or the folder with all that is in it. Where a hundred are there already, it
// does nothing.
class GoesWithProcess {
 public:
    explicit GoesWithProcess(const std::filesystem::path&);
    ~GoesWithProcess();
    GoesWithProcess(const GoesWithProcess&) = delete;
    GoesWithProcess& operator=(const GoesWithProcess&) = delete;

 private:
    int place_ = -1;
};

// Removes them now. For handlers of signals, and before _exit().
void remove_what_goes();

// SIGINT, SIGTERM and SIGHUP, where they would end the process, remove what goes with it first, and end it all the
// same. One that is ignored (nohup) stays so.
void install_stop_handler();

}  // namespace tessera
