/* Counter-based random numbers (Philox 4x32-10, Salmon et al. 2011): the i-th number depends on the
 * seed and i alone, so results are the same for any number of threads. */
#ifndef MASSACT_BASE_RANDOM_H
#define MASSACT_BASE_RANDOM_H

#include <stdint.h>

typedef struct ma_random {
  uint64_t seed, counter;
} ma_random;

uint64_t ma_random_u64(ma_random *r);
double ma_random_uniform(ma_random *r); /* [0, 1), 53 bits */
double ma_random_normal(ma_random *r);  /* mean 0, standard deviation 1 (Box-Muller) */
/* Uniform integer in [0, bound), without modulo bias; bound > 0. */
uint64_t ma_random_below(ma_random *r, uint64_t bound);

#endif
