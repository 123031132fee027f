/* Sets of text: Shakespeare by role, in characters; Stack Overflow by author, in words. */
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "formats/sequences.h"
#include "formats/table.h"
#include "formats/tff.h"
#include "formats/words.h"

/* The characters of Shakespeare and Dickens in the order that gives them their numbers, from 1. */
static const char characters[] =
    "dhlptx@DHLPTX $(,048cgkoswCGKOSW[_#'/37;?bfjnrvzBFJNRVZ\"&*.26:\n"
    "aeimquyAEIMQUY]!%)-159\r";
enum { N_CHARACTERS = sizeof characters - 1 };

/* How text becomes tokens. */
typedef struct text_set {
  const char *file[2];
  const char *x;
  int sequence; /* the usual number of steps */
} text_set;

static const text_set texts[] = {
    [FL_TFF_SHAKESPEARE] = {{"shakespeare_train.h5", "shakespeare_test.h5"}, "snippets", 80},
    [FL_TFF_STACKOVERFLOW] = {{"stackoverflow_train.h5", "stackoverflow_test.h5"}, "tokens", 20},
};

typedef struct text_reader {
  const fl_tff_args *args;
  fl_words_known words; /* empty: characters */
  int32_t number[256];  /* of characters */
  int T, tokens;
  int32_t *token; /* scratch */
  int64_t room;
} text_reader;

static fl_status begin_text(const char *folder, const fl_tff_args *a, text_reader *r) {
  r->args = a;
  r->T = a->sequence > 0 ? (int)a->sequence : texts[a->set].sequence;
  if (a->set == FL_TFF_STACKOVERFLOW) {
    char *path = fl_path_join(folder, "stackoverflow.word_count");
    if (!path) return fl_fail(FEDLANE_MEMORY, "no memory for the name of a file");
    fl_status status = fl_words_read(path, (int32_t)a->vocabulary, &r->words);
    free(path);
    r->tokens = fl_words_tokens(&r->words);
    return status;
  }
  for (int i = 0; i < 256; i++) r->number[i] = N_CHARACTERS + 1;
  for (int i = 0; i < N_CHARACTERS; i++) r->number[(unsigned char)characters[i]] = i + 1;
  r->tokens = N_CHARACTERS + 4;
  return FEDLANE_OK;
}

/* Begin, the characters, end. */
static int64_t tokens_of_characters(const text_reader *r, const char *text, int64_t length) {
  int64_t n = 0;
  r->token[n++] = N_CHARACTERS + 2;
  for (int64_t i = 0; i < length; i++) r->token[n++] = r->number[(unsigned char)text[i]];
  r->token[n++] = N_CHARACTERS + 3;
  return n;
}

/* Begin, at most T words, and, when they are fewer, end. */
static int64_t tokens_of_words(const text_reader *r, const char *text) {
  int64_t n = 0;
  r->token[n++] = fl_words_begin(&r->words);
  while (*text && n <= r->T) {
    size_t length = strcspn(text, " ");
    if (length > 0) r->token[n++] = fl_words_number(&r->words, text, length);
    text += length + (text[length] == ' ');
  }
  if (n <= r->T) r->token[n++] = fl_words_end(&r->words);
  return n;
}

static fl_status add_text(text_reader *r, const char *text, int32_t client, fl_sequences *to) {
  int64_t length = (int64_t)strlen(text), need = length + 2 > r->T + 2 ? length + 2 : r->T + 2;
  if (need > r->room) {
    int32_t *token = realloc(r->token, (size_t)need * sizeof *token);
    if (!token)
      return fl_fail(FEDLANE_MEMORY, "no memory for a text of %lld characters", (long long)length);
    r->token = token;
    r->room = need;
  }
  int64_t n = r->words.n > 0 ? tokens_of_words(r, text) : tokens_of_characters(r, text, length);
  return fl_sequences_add(to, client, n, r->token);
}

static fl_status read_texts(const fl_load *how, text_reader *r, const fl_tff_part *p, int64_t most,
                            fl_sequences *to, fl_dataset *out) {
  for (int64_t c = 0; c < p->client.n; c++) {
    fl_h5_names text;
    fl_dataset_tell(c, p->client.n);
    fl_status status = fl_h5_texts(p->file, fl_tff_array(p, c, texts[r->args->set].x).at, &text);
    if (status != FEDLANE_OK) {
      FL_TRY(fl_pass_over(how, status, &out->skipped));
      continue;
    }
    int64_t n = most > 0 && most < text.n ? most : text.n;
    for (int64_t i = 0; status == FEDLANE_OK && i < n; i++)
      status = add_text(r, text.at[i], (int32_t)c, to);
    fl_h5_names_free(&text);
    FL_TRY(status);
  }
  return FEDLANE_OK;
}

fl_status fl_tff_text(const fl_load *how, const fl_tff_args *a, fl_tff_part *p, fl_dataset *out) {
  text_reader r = {0};
  fl_sequences to[2] = {{0}, {0}};
  fl_status status;
  FL_GO(begin_text(how->path, a, &r));
  for (int i = 0; i < 2; i++) {
    to[i].T = r.T;
    FL_GO(fl_tff_open(how->path, texts[a->set].file[i], a->clients, &p[i]));
    FL_GO(read_texts(how, &r, &p[i], i == 0 ? a->most : 0, &to[i], out));
  }
  FL_GO(fl_sequences_finish(&to[0], &to[1], r.tokens, (int32_t)p[0].client.n, out));
done:
  fl_sequences_free(&to[0]);
  fl_sequences_free(&to[1]);
  fl_words_free(&r.words);
  free(r.token);
  return status;
}
