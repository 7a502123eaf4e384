/* The tensor cores' product of 16-bit matrices, loads of its right operand from rows, copies to shared memory that go on while a
 * kernel computes (all from sm_80 on), and pairs of 16-bit numbers as the first takes them. */
#ifndef MASSACT_BACKEND_CUDA_TENSOR_CORE_CUH
#define MASSACT_BACKEND_CUDA_TENSOR_CORE_CUH

#include "backend/cuda/element.cuh"
#ifdef __CUDACC__
#include <cuda_bf16.h>
#endif

/* ---- c [16 8] += a [16 16] b [16 8], by the 32 lanes of a warp ----
 * Lane 4 g + t holds, two numbers a word, the lower index low (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
 *   a: (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), and the next column of each
 *   b: (2t, g), (2t + 8, g), and the next row of each
 *   c: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1) */
#ifdef __CUDACC__
__device__ inline void ma_multiply_add(ma_bf16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ inline void ma_multiply_add(ma_f16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
template <typename T>
void ma_multiply_add(T, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct given {
    uint32_t a[4], b[2];
  } mine{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, all[32];
  ma_emulation_gather(0xFFFFFFFFu, &mine, all, sizeof mine);
  const auto number = [](uint32_t pair, int i) {
    return ma_to_f32(T{static_cast<uint16_t>(i % 2 ? pair >> 16 : pair & 0xFFFF)});
  };
  for (int i = 0; i < 4; i++) {
    const int lane = ma_emulation_lane(), row = lane / 4, column = lane % 4 * 2 + i % 2;
    for (int k = 0; k < 16; k++) {
      const given &of_a = all[row * 4 + k % 8 / 2], &of_b = all[column * 4 + k % 8 / 2];
      c[i] += number(of_a.a[k / 8 * 2 + i / 2], k) * number(of_b.b[k / 8], k);
    }
  }
}
#endif

/* Right operands of two products, from 16 rows of 16 columns in shared memory: b of columns 0 - 7, and of columns 8 - 15.  `row` is
 * 8 numbers, 16-byte aligned, that the lane points out to its warp: of row lane % 16, from column lane / 16 * 8 on (PTX ISA,
 * "ldmatrix"). */
__device__ inline void ma_load_columns(uint32_t (&b)[2][2], const uint16_t *row) {
#ifdef __CUDACC__
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(b[0][0]), "=r"(b[0][1]), "=r"(b[1][0]), "=r"(b[1][1])
               : "r"(at)
               : "memory");
#else
  const uint16_t *rows[32];
  ma_emulation_gather(0xFFFFFFFFu, &row, rows, sizeof row);
  const int column = ma_emulation_lane() / 4, first = ma_emulation_lane() % 4 * 2;
  for (int i = 0; i < 4; i++) {
    const uint16_t low = rows[i * 8 + first][column], high = rows[i * 8 + first + 1][column];
    b[i / 2][i % 2] = static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 16;
  }
#endif
}

/* ---- copies ---- */

/* 16 bytes, aligned, from global to shared memory; zeros unless `is_there`: then nothing is read. */
__device__ inline void ma_copy_async(void *to, const void *from, bool is_there) {
#ifdef __CUDACC__
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(is_there ? 16 : 0) : "memory");
#else
  static const uint16_t zeros[8] = {};
  ma_emulation_copy_later(to, is_there ? from : zeros, sizeof zeros);
#endif
}

/* Until all that this thread began to copy is there; other threads see it after a barrier. */
__device__ inline void ma_copy_wait() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_all;" ::: "memory");
#else
  ma_emulation_copy_now();
#endif
}

/* ---- pairs ---- */

/* Two neighbours at an even index. */
__device__ inline uint32_t ma_pair_at(const uint16_t *at) { return *reinterpret_cast<const uint32_t *>(at); }

/* Two numbers, rounded. */
template <typename T>
__device__ inline uint32_t ma_pair_of(T, float low, float high) {
  T l, h;
  ma_from_f32(&l, low);
  ma_from_f32(&h, high);
  return static_cast<uint32_t>(l.bits) | static_cast<uint32_t>(h.bits) << 16;
}
#ifdef __CUDACC__
__device__ inline uint32_t ma_pair_of(ma_bf16, float low, float high) { /* one instruction for both */
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return static_cast<uint32_t>(__bfloat16_as_ushort(pair.x)) | static_cast<uint32_t>(__bfloat16_as_ushort(pair.y))
                                                                   << 16;
}
__device__ inline uint32_t ma_pair_of(ma_f16, float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return static_cast<uint32_t>(__half_as_ushort(__low2half(pair))) |
         static_cast<uint32_t>(__half_as_ushort(__high2half(pair))) << 16;
}
#endif
__device__ inline void ma_numbers_of(ma_bf16, uint32_t pair, float *low, float *high) {
  *low = __uint_as_float(pair << 16);
  *high = __uint_as_float(pair & 0xFFFF0000u);
}
__device__ inline void ma_numbers_of(ma_f16, uint32_t pair, float *low, float *high) {
  *low = ma_dev_f16_to_f32(static_cast<uint16_t>(pair & 0xFFFF));
  *high = ma_dev_f16_to_f32(static_cast<uint16_t>(pair >> 16));
}

/* Rounds two numbers to T. */
template <typename T>
__device__ inline void ma_round_pair(T type, float *low, float *high) {
  ma_numbers_of(type, ma_pair_of(type, *low, *high), low, high);
}

#endif
