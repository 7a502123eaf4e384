# What massact builds on.  Everything comes from the system's packages (bootstrap.sh installs them on Debian 12);
# nothing is vendored.  A required package that is missing ends the configuration with its Debian name, an
# optional one is listed in the summary at the end of it.
set(MASSACT_CUDA AUTO CACHE STRING "CUDA backend: AUTO, ON or OFF")
set_property(CACHE MASSACT_CUDA PROPERTY STRINGS AUTO ON OFF)

# Finds a pkg-config module as PkgConfig::NAME, or says which package has it.
function(massact_require name module package)
  pkg_check_modules(${name} QUIET IMPORTED_TARGET GLOBAL ${module})
  if(NOT ${name}_FOUND)
    message(FATAL_ERROR "massact needs ${module} (Debian: ${package}); third_party/bootstrap.sh packages installs all")
  endif()
  message(STATUS "  ${module} ${${name}_VERSION}")
endfunction()

message(STATUS "massact ${PROJECT_VERSION} uses:")
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS C)
find_package(PNG REQUIRED)
find_package(PkgConfig REQUIRED)
massact_require(LUA lua5.4 liblua5.4-dev)
massact_require(CAIRO cairo libcairo2-dev)
massact_require(PANGO pangocairo>=1.44 libpango1.0-dev) # 1.44: glyphs at fractions of a pixel
massact_require(PCRE2 libpcre2-8>=10.40 libpcre2-dev) # 10.40: \p{Alphabetic} and its like
massact_require(UTF8PROC libutf8proc libutf8proc-dev)
massact_require(JANSSON jansson>=2.10 libjansson-dev)
massact_require(ZLIB zlib zlib1g-dev)
massact_require(ZSTD libzstd libzstd-dev)
massact_require(LIBEDIT libedit libedit-dev)
massact_require(CRYPTO libcrypto libssl-dev)

# The CUDA backend's folder is empty in this version, and the option says so.
if(MASSACT_CUDA STREQUAL "ON")
  message(FATAL_ERROR "MASSACT_CUDA=ON: massact ${PROJECT_VERSION} has no CUDA backend; use MASSACT_CUDA=OFF or AUTO")
elseif(MASSACT_CUDA STREQUAL "AUTO")
  find_package(CUDAToolkit QUIET)
  if(CUDAToolkit_FOUND)
    message(STATUS "  CUDA: toolkit ${CUDAToolkit_VERSION} is here, but this version has no CUDA backend: CPU only")
  else()
    message(STATUS "  CUDA: no toolkit found, and this version has no CUDA backend: CPU only")
  endif()
elseif(NOT MASSACT_CUDA STREQUAL "OFF")
  message(FATAL_ERROR "MASSACT_CUDA is '${MASSACT_CUDA}'; it may be AUTO, ON or OFF")
endif()

# What only the tests and checks use; the build goes on without it.
foreach(tool busted:lua-busted luacheck:lua-check)
  string(REPLACE ":" ";" tool_and_package ${tool})
  list(GET tool_and_package 0 program)
  list(GET tool_and_package 1 package)
  find_program(MASSACT_PROGRAM_${program} ${program})
  mark_as_advanced(MASSACT_PROGRAM_${program})
  if(NOT MASSACT_PROGRAM_${program})
    message(STATUS "  ${program} is missing, only tests and checks want it (Debian: ${package})")
  endif()
endforeach()
