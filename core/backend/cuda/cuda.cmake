# The CUDA backend, where MASSACT_CUDA_BACKEND (third_party/dependencies.cmake) says how it is built.
if(MASSACT_CUDA_BACKEND)
  file(GLOB kernels CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/backend/cuda/*.cu)
  massact_layer(backend/cuda massact_tensor ${CMAKE_DL_LIBS})
  target_sources(massact_backend_cuda PRIVATE ${kernels})
  target_link_libraries(massact_backend PUBLIC massact_backend_cuda)
  target_compile_definitions(massact_backend PUBLIC MASSACT_CUDA)
endif()

if(MASSACT_CUDA_BACKEND STREQUAL "CUDA")
  # The runtime is linked whole, so that the program starts where there is no driver and no toolkit.
  target_link_libraries(massact_backend_cuda PUBLIC CUDA::cudart_static)
  target_compile_definitions(massact_backend_cuda PRIVATE MASSACT_CUDA_MAJOR=${CUDAToolkit_VERSION_MAJOR}
                                                          MASSACT_CUDA_LIBRARIES="${CUDAToolkit_LIBRARY_DIR}")
elseif(MASSACT_CUDA_BACKEND STREQUAL "EMULATE")
  set(emulation ${PROJECT_SOURCE_DIR}/tests/cuda/emulation)
  file(GLOB emulation_sources CONFIGURE_DEPENDS ${emulation}/*.cpp)
  set_source_files_properties(${kernels} PROPERTIES LANGUAGE CXX)
  target_sources(massact_backend_cuda PRIVATE ${emulation_sources})
  target_include_directories(massact_backend_cuda PUBLIC ${emulation})
  target_compile_definitions(massact_backend_cuda PUBLIC MASSACT_CUDA_EMULATED)
  # gcc takes the address of a thread_local object with a constructor (threadIdx) for null.  A source's options come last.
  set_source_files_properties(${kernels} ${emulation_sources} PROPERTIES COMPILE_OPTIONS -fno-sanitize=null)
endif()
