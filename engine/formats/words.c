#include "formats/words.h"

#include <stdlib.h>
#include <string.h>

#include "files.h"

static int by_text(const void *a, const void *b) {
  return strcmp(((const fl_word *)a)->text, ((const fl_word *)b)->text);
}

static fl_status split_lines(const char *path, char *text, int32_t most, fl_words_known *out) {
  char *rest = text;
  for (char *line; out->n < most && (line = strsep(&rest, "\n"));) {
    size_t length = strcspn(line, " \t\r");
    if (length == 0) continue;
    char *word = strndup(line, length);
    if (!word) return fl_fail(FEDLANE_MEMORY, "no memory for the words of %s", path);
    out->word[out->n] = (fl_word){word, out->n + 1};
    out->n++;
  }
  if (out->n == 0) return fl_fail(FEDLANE_DATA, "%s holds no words", path);
  qsort(out->word, (size_t)out->n, sizeof *out->word, by_text);
  for (int32_t i = 1; i < out->n; i++)
    if (by_text(&out->word[i - 1], &out->word[i]) == 0)
      return fl_fail(FEDLANE_DATA, "%s: the word '%s' stands there twice", path, out->word[i].text);
  return FEDLANE_OK;
}

fl_status fl_words_read(const char *path, int32_t most, fl_words_known *out) {
  unsigned char *data = NULL;
  char *text = NULL;
  int64_t size = 0;
  fl_status status;
  *out = (fl_words_known){0};
  FL_GO(fl_read_all(path, &data, &size));
  if (memchr(data, '\0', (size_t)size))
    FL_GO(fl_fail(FEDLANE_DATA, "%s: is no text: it holds a zero byte", path));
  text = strndup((const char *)data, (size_t)size);
  out->word = calloc((size_t)most + 1, sizeof *out->word);
  if (!text || !out->word)
    status = fl_fail(FEDLANE_MEMORY, "no memory for the words of %s", path);
  else
    status = split_lines(path, text, most, out);
done:
  free(text);
  free(data);
  if (status != FEDLANE_OK) fl_words_free(out);
  return status;
}

int32_t fl_words_number(const fl_words_known *w, const char *text, size_t length) {
  int32_t lo = 0, hi = w->n;
  while (lo < hi) {
    int32_t middle = (lo + hi) / 2;
    const char *known = w->word[middle].text;
    int order = strncmp(known, text, length);
    if (order == 0 && known[length] == '\0') return w->word[middle].number;
    if (order < 0)
      lo = middle + 1;
    else
      hi = middle;
  }
  return fl_words_unknown(w);
}

void fl_words_free(fl_words_known *w) {
  for (int32_t i = 0; i < w->n; i++) free(w->word[i].text);
  free(w->word);
  *w = (fl_words_known){0};
}
