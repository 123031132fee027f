#include "formats/sequences.h"

#include <stdlib.h>
#include <string.h>

static fl_status make_room(fl_sequences *s) {
  int64_t room = s->room ? 2 * s->room : 64;
  if (s->n < s->room) return FEDLANE_OK;
  int32_t *token = realloc(s->token, (size_t)room * (size_t)(s->T + 1) * sizeof *token);
  if (token) s->token = token;
  int32_t *client = token ? realloc(s->client, (size_t)room * sizeof *client) : NULL;
  if (!client) return fl_fail(FEDLANE_MEMORY, "no memory for %lld sequences", (long long)room);
  s->client = client;
  s->room = room;
  return FEDLANE_OK;
}

fl_status fl_sequences_add(fl_sequences *s, int32_t client, int64_t n, const int32_t *token) {
  int64_t width = s->T + 1;
  for (int64_t at = 0; at + 1 < n; at += width) {
    int64_t left = n - at < width ? n - at : width;
    FL_TRY(make_room(s));
    int32_t *to = s->token + s->n * width;
    memcpy(to, token + at, (size_t)left * sizeof *to);
    for (int64_t i = left; i < width; i++) to[i] = FL_TOKEN_PAD;
    s->client[s->n++] = client;
  }
  return FEDLANE_OK;
}

void fl_sequences_free(fl_sequences *s) {
  free(s->token);
  free(s->client);
  *s = (fl_sequences){.T = s->T};
}

static void fill(const fl_sequences *s, int64_t at, fl_dataset *out) {
  int T = s->T;
  for (int64_t e = 0; e < s->n; e++) {
    const int32_t *token = s->token + e * (T + 1);
    for (int t = 0; t < T; t++) {
      int64_t i = (at + e) * T + t;
      if (out->bytes)
        ((uint8_t *)out->x)[i] = (uint8_t)token[t];
      else
        ((float *)out->x)[i] = (float)token[t];
      out->label[i] = token[t + 1] == FL_TOKEN_PAD ? -1 : token[t + 1];
    }
  }
}

fl_status fl_sequences_finish(fl_sequences *train, fl_sequences *test, int tokens, int32_t n_client,
                              fl_dataset *out) {
  fl_status status;
  out->image = (fl_image){1, 1, 1, train->T};
  out->tokens = out->classes = tokens;
  out->n_label = train->T;
  out->n_train = train->n;
  out->n_test = test->n;
  out->bytes = tokens <= UINT8_MAX + 1;
  FL_GO(fl_dataset_alloc(out));
  fill(train, 0, out);
  fill(test, train->n, out);
  out->client = train->client;
  out->n_client = n_client;
  train->client = NULL;
done:
  fl_sequences_free(train);
  fl_sequences_free(test);
  return status;
}
