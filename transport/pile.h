/* A pile: the chunks of one upload, in whatever order they come, until all are there. */
#ifndef FL_PILE_H
#define FL_PILE_H

#include <stdbool.h>

#include "fleet.h"

/* Chunks of one stream that are there. */
typedef struct fl_pile_stream {
  uint64_t stream, payload;
  uint32_t n;    /* chunks */
  uint8_t *have; /* bit i: chunk i */
} fl_pile_stream;

typedef struct fl_pile {
  uint64_t upload;   /* number; 0: none is expected */
  uint64_t elements; /* of each stream */
  int64_t bytes;     /* of all chunks */
  bool begun;        /* `about` is there */
  fl_update about;
  uint32_t *blocks, *streams; /* copies of what is in `about` */
  fl_stretch *stretch;
  int n_stretch, room;
  fl_pile_stream *stream;
  int n_stream, room_stream;
} fl_pile;

/* Expects an upload of vectors of so many elements. */
void fl_pile_open(fl_pile *pile, uint64_t upload, uint64_t elements);
/* Frees its chunks. */
void fl_pile_close(fl_pile *pile);
/* Takes `update`. *cause: twice. Errors: MEMORY. */
fl_status fl_pile_begin(fl_pile *pile, const fl_update *about, fl_cause *cause);
/* Takes a chunk and, when *cause stays none, its body. *cause: shape, corrupt (the digest of the
 * body), twice. Errors: MEMORY. */
fl_status fl_pile_add(fl_pile *pile, const fl_chunk *about, fl_blob **body, fl_cause *cause);
/* Whether everything is there; *cause is shape when the chunks can never make it up. */
bool fl_pile_complete(const fl_pile *pile, fl_cause *cause);

#endif
