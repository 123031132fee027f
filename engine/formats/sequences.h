/* Token sequences on their way into a data set: inputs of T steps, and after each of them the next
 * token as its label. */
#ifndef FL_SEQUENCES_H
#define FL_SEQUENCES_H

#include "dataset.h"

enum { FL_TOKEN_PAD = 0 }; /* the number that fills up; as a label it is not counted */

typedef struct fl_sequences {
  int T; /* steps; set by the caller */
  int64_t n, room;
  int32_t *token;  /* [n, T+1] */
  int32_t *client; /* [n] */
} fl_sequences;

/* Cuts n tokens of a client into sequences of T+1, the last one filled up, none of them with fewer
 * than two tokens of its own. Errors: MEMORY. */
fl_status fl_sequences_add(fl_sequences *s, int32_t client, int64_t n, const int32_t *token);
void fl_sequences_free(fl_sequences *s);
/* Makes them a data set of classification, a label a step, and frees both. tokens: how many there
 * are; n_client: of the training part. Errors: DATA when there is nothing to train on, MEMORY. */
fl_status fl_sequences_finish(fl_sequences *train, fl_sequences *test, int tokens, int32_t n_client,
                              fl_dataset *out);

#endif
