#include "formats/names.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/. */
static uint32_t hash(const char *text) {
  uint32_t h = 2166136261u;
  for (; *text; text++) h = (h ^ (unsigned char)*text) * 16777619u;
  return h;
}

/* The slot of a name, or the free one where it belongs. */
static int32_t *slot_of(const fl_names *names, const char *text) {
  uint32_t slots = 2 * (uint32_t)names->room;
  for (uint32_t i = hash(text) % slots;; i = (i + 1) % slots) {
    int32_t number = names->slot[i];
    if (number < 0 || strcmp(names->text[number], text) == 0) return &names->slot[i];
  }
}

int32_t fl_names_find(const fl_names *names, const char *text) {
  return names->n > 0 ? *slot_of(names, text) : -1;
}

static fl_status make_room(fl_names *names) {
  int32_t room = names->room ? 2 * names->room : 16;
  char **text = realloc(names->text, (size_t)room * sizeof *text);
  if (text) names->text = text;
  int32_t *slot = text ? realloc(names->slot, 2 * (size_t)room * sizeof *slot) : NULL;
  if (!slot) return fl_fail(FEDLANE_MEMORY, "no memory for %d names", room);
  names->slot = slot;
  names->room = room;
  for (int32_t i = 0; i < 2 * room; i++) slot[i] = -1;
  for (int32_t i = 0; i < names->n; i++) *slot_of(names, text[i]) = i;
  return FEDLANE_OK;
}

fl_status fl_names_add(fl_names *names, const char *text, int32_t *number) {
  if (names->n == names->room) FL_TRY(make_room(names));
  int32_t *slot = slot_of(names, text);
  if (*slot < 0) {
    if (!(names->text[names->n] = strdup(text)))
      return fl_fail(FEDLANE_MEMORY, "no memory for the name '%s'", text);
    *slot = names->n++;
  }
  *number = *slot;
  return FEDLANE_OK;
}

typedef struct entry {
  const char *text;
  double value;
  bool numeric;
  int32_t number;
} entry;

static int by_value(const void *left, const void *right) {
  const entry *a = left, *b = right;
  if (a->numeric != b->numeric) return a->numeric ? -1 : 1;
  if (a->numeric && a->value != b->value) return a->value < b->value ? -1 : 1;
  return strcmp(a->text, b->text);
}

fl_status fl_names_rank(const fl_names *names, int32_t **rank) {
  size_t n = (size_t)names->n;
  entry *sorted = malloc((n + 1) * sizeof *sorted);
  locale_t locale = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
  *rank = malloc((n + 1) * sizeof **rank);
  fl_status status = FEDLANE_OK;
  if (!sorted || !*rank || !locale) {
    status = fl_fail(FEDLANE_MEMORY, "no memory for %zu names", n);
    goto done;
  }
  for (int32_t i = 0; i < names->n; i++) {
    char *end;
    double value = strtod_l(names->text[i], &end, locale);
    bool numeric = end != names->text[i] && *end == '\0' && value == value;
    sorted[i] = (entry){names->text[i], value, numeric, i};
  }
  qsort(sorted, n, sizeof *sorted, by_value);
  for (int32_t i = 0; i < names->n; i++) (*rank)[sorted[i].number] = i;
done:
  if (locale) freelocale(locale);
  free(sorted);
  return status;
}

void fl_names_free(fl_names *names) {
  for (int32_t i = 0; i < names->n; i++) free(names->text[i]);
  free(names->text);
  free(names->slot);
  *names = (fl_names){0};
}
