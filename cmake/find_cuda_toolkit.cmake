# cmake/find_cuda_toolkit.cmake - find_package(CUDAToolkit). CMake 3.25 stops on CUDA 13, which has no nvToolsExt any more, unless
# the project asks for an older CMake: it wants to mark that library deprecated without looking whether it is there.
set(tessera_minimum_cmake ${CMAKE_MINIMUM_REQUIRED_VERSION})
set(CMAKE_MINIMUM_REQUIRED_VERSION 3.24)
find_package(CUDAToolkit REQUIRED)
set(CMAKE_MINIMUM_REQUIRED_VERSION ${tessera_minimum_cmake})
