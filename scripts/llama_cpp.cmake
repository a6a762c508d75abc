# Read by llama.cpp's own build (CMAKE_PROJECT_INCLUDE): its command-line helpers are not part of the Python package.
# A plain variable stands above the cache entry that llama-cpp-python forces.
set(LLAMA_BUILD_COMMON OFF)
