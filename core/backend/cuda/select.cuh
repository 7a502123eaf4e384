/* The element of a rank, without sorting. */
#ifndef MASSACT_BACKEND_CUDA_SELECT_CUH
#define MASSACT_BACKEND_CUDA_SELECT_CUH

#include "backend/cuda/sort.cuh"

/* Of each line, what ascending order (of magnitudes, where asked) has at `rank`, NaN being last: [n] elements of `dtype` at `out`,
 * on the device. */
ma_status ma_cuda_select(ma_device *device, void *out, ma_dtype dtype, const ma_lines &lines, bool by_magnitude,
                         int64_t rank, ma_error *err);

#endif
