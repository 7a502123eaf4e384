/* A pass: the decoder run once, from where the request says to where it says. */
#ifndef MASSACT_MODEL_PASS_H
#define MASSACT_MODEL_PASS_H

#include "model/cache.h"
#include "model/model.h"

typedef struct ma_request {
  const int64_t *ids; /* [n_sequences, n_tokens], row-major */
  int64_t n_sequences, n_tokens;
  bool wants_logits, wants_losses;
  bool wants_mean;       /* the mean of the losses; in a recorded pass without logits that costs one product less */
  const ma_place *start; /* NULL: embed.  Else `start_value` stands in for the tensor there (which */
  const ma_tensor *start_value; /* is visited as usual) and nothing before it is computed */
  const ma_place *stop;         /* NULL: the end.  Else the last place that is computed and visited */
  ma_cache *cache;              /* keys and values of earlier tokens, NULL: none */
  bool is_recorded;   /* on the tape: what comes out can be gone back from, to weights that require a gradient ... */
  bool skips_weights; /* ... unless this says that only points count */
  bool recomputes;    /* layers keep their input only, and are computed again on the way back; but for those inside
                                 * which somebody stands: nobody is shown anything twice, and what is written stays written */
} ma_request;

typedef struct ma_result {
  ma_tensor logits; /* [B T V] f32, or empty */
  ma_tensor losses; /* [B T - 1] f32: -log p(id[t + 1]) in nats, or empty */
  ma_tensor mean;   /* one f32, or empty */
} ma_result;

/* Runs the pass; `out` is filled with new tensors (ma_result_release).  Whatever fails, a visitor's error
 * included, leaves the model as it was. */
ma_status ma_model_forward(ma_result *out, ma_model *model, const ma_request *request, ma_error *err);
void ma_result_release(ma_result *result);

/* Whether a pass can start there: the residual stream and what enters the head. */
bool ma_place_can_start(ma_place place);

#endif
