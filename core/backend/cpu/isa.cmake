# rows.c holds the plain loops that the compiler turns into vector code.  It is compiled once for each
# instruction set, with MA_ISA in the name of its table of functions; isa.c picks one at run time.
set(rows_options -O3 -fopenmp-simd -fno-trapping-math -ffp-contract=fast)
if(CMAKE_C_COMPILER_ID MATCHES "Clang")
  list(APPEND rows_options -Wno-pass-failed) # says where it leaves a loop scalar
endif()
set(isa_baseline "")
set(isa_names baseline)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(isa_avx2 -mavx2 -mfma -mf16c)
  set(isa_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512)
  list(APPEND isa_names avx2 avx512)
  target_compile_definitions(massact_backend_cpu PRIVATE MASSACT_X86)
endif()
foreach(isa ${isa_names})
  add_library(massact_rows_${isa} OBJECT backend/cpu/rows.c)
  target_link_libraries(massact_rows_${isa} PRIVATE massact_options)
  target_compile_options(massact_rows_${isa} PRIVATE ${rows_options} ${isa_${isa}})
  target_compile_definitions(massact_rows_${isa} PRIVATE MA_ISA=${isa})
  target_sources(massact_backend_cpu PRIVATE $<TARGET_OBJECTS:massact_rows_${isa}>)
endforeach()

# OpenBLAS is loaded at run time (blas.c), since its kernel has to be chosen before that.
find_library(MASSACT_OPENBLAS NAMES openblas HINTS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-openmp)
if(MASSACT_OPENBLAS)
  file(REAL_PATH ${MASSACT_OPENBLAS} openblas_path)
  get_filename_component(openblas_folder ${openblas_path} DIRECTORY)
  target_compile_definitions(massact_backend_cpu
                             PRIVATE MASSACT_OPENBLAS="${openblas_folder}/libopenblas.so.0")
else()
  message(STATUS "OpenBLAS is not installed: massact will not run here (Debian: libopenblas0-openmp)")
endif()
