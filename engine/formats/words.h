/* Vocabularies of words, as TensorFlow Federated numbers them: 0 fills up, then the known words,
 * then unknown, begin and end. */
#ifndef FL_WORDS_H
#define FL_WORDS_H

#include <stddef.h>

#include "status.h"

typedef struct fl_word {
  char *text;
  int32_t number;
} fl_word;

typedef struct fl_words_known {
  int32_t n;     /* known words */
  fl_word *word; /* [n], sorted by text */
} fl_words_known;

static inline int32_t fl_words_unknown(const fl_words_known *w) { return w->n + 1; }
static inline int32_t fl_words_begin(const fl_words_known *w) { return w->n + 2; }
static inline int32_t fl_words_end(const fl_words_known *w) { return w->n + 3; }
static inline int32_t fl_words_tokens(const fl_words_known *w) { return w->n + 4; }

/* Reads the first `most` words of a file with a word a line, the most frequent first; what follows
 * a blank, such as its count, is left aside. Errors: IO, DATA (a word twice, none at all), MEMORY.
 */
fl_status fl_words_read(const char *path, int32_t most, fl_words_known *out);
/* The number of a word; that of unknown words when it is not known. O(log n). */
int32_t fl_words_number(const fl_words_known *w, const char *text, size_t length);
void fl_words_free(fl_words_known *w);

#endif
