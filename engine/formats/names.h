/* Names that get numbers: users, vehicles, speakers, the values of a category. */
#ifndef FL_NAMES_H
#define FL_NAMES_H

#include "status.h"

typedef struct fl_names {
  int32_t n, room;
  char **text;   /* [n] in the order in which they were added */
  int32_t *slot; /* [2 * room] hash table of numbers, -1: free */
} fl_names;

/* The number of a name, or -1. O(1). */
int32_t fl_names_find(const fl_names *names, const char *text);
/* The number of a name; a new one gets the next number. Errors: MEMORY. */
fl_status fl_names_add(fl_names *names, const char *text, int32_t *number);
/* rank[i] is the place of name i when they are sorted: numbers by value, then texts by bytes. rank
 * is the caller's to free. Errors: MEMORY. */
fl_status fl_names_rank(const fl_names *names, int32_t **rank);
void fl_names_free(fl_names *names); /* accepts a zeroed one */

#endif
