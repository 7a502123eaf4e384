#include "base/random.h"

#include <math.h>

/* Philox 4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), table 2. */
static void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)p1;
    c3 = (uint32_t)p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

uint64_t ma_random_u64(ma_random *r) {
  uint32_t counter[4] = {(uint32_t)r->counter, (uint32_t)(r->counter >> 32), 0, 0}, out[4];
  uint32_t key[2] = {(uint32_t)r->seed, (uint32_t)(r->seed >> 32)};
  philox(counter, key, out);
  r->counter++;
  return (uint64_t)out[1] << 32 | out[0];
}

double ma_random_uniform(ma_random *r) { return (double)(ma_random_u64(r) >> 11) * 0x1p-53; }

double ma_random_normal(ma_random *r) {
  const double two_pi = 6.283185307179586;
  double radius = sqrt(-2 * log(1 - ma_random_uniform(r)));
  return radius * cos(two_pi * ma_random_uniform(r));
}

uint64_t ma_random_below(ma_random *r, uint64_t bound) {
  uint64_t unfair = (0 - bound) % bound; /* 2^64 mod bound: the first values that occur once too often */
  for (;;) {
    uint64_t value = ma_random_u64(r);
    if (value >= unfair) return value % bound;
  }
}
