# Builds for 64-bit ARM on another machine: cmake --toolchain scripts/cmake/arm64.cmake, with the board's
# files below FEDLANE_SYSROOT (scripts/trials/arm64 makes them of Debian's packages).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

if(NOT FEDLANE_SYSROOT)
  set(FEDLANE_SYSROOT "$ENV{FEDLANE_SYSROOT}")
endif()
set(CMAKE_SYSROOT "${FEDLANE_SYSROOT}")
set(CMAKE_FIND_ROOT_PATH "${FEDLANE_SYSROOT}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${FEDLANE_SYSROOT}")
set(ENV{PKG_CONFIG_LIBDIR} "${FEDLANE_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${FEDLANE_SYSROOT}/usr/share/pkgconfig")
