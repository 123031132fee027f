/* A pile: the chunks of one upload, in whatever order they come, until all are there. */
#ifndef FL_PILE_H
#define FL_PILE_H

#include <stdbool.h>

#include "fleet.h"

/* Chunks of one stream that are there. */
typedef struct fl_pile_stream {
  uint64_t stream, payload;
  uint64_t n;    /* chunks */
  uint8_t *have; /* bit i: chunk i */
} fl_pile_stream;

typedef struct fl_pile {
  uint64_t upload;   /* number; 0: none is expected */
  uint64_t elements; /* of each stream */
  uint32_t most;     /* streams */
  int64_t bytes;     /* of all chunks */
  bool begun;        /* `about` is there */
  fl_update about;
  uint32_t *blocks, *streams; /* copies of what is in `about` */
  int n_tied;                 /* streams behind those of `about` that do not come in chunks */
  fl_stretch *stretch;
  int n_stretch, room;
  int n_mixed; /* the first stretches, which the host has added to its sums */
  fl_pile_stream *stream;
  int n_stream, room_stream, n_full; /* n_full: all of whose chunks are there */
} fl_pile;

/* Expects an upload of at most so many streams, vectors of so many elements. */
void fl_pile_open(fl_pile *pile, uint64_t upload, uint64_t elements, uint32_t most);
/* Frees its chunks. */
void fl_pile_close(fl_pile *pile);
/* Takes `update`. Streams at the end of its list that are marked FL_TIED are not expected here, and
 * not among those of pile->about. *cause: twice. Errors: MEMORY. */
fl_status fl_pile_begin(fl_pile *pile, const fl_update *about, fl_cause *cause);
/* Takes a chunk and, when *cause stays none, its body. *cause: shape, corrupt (the digest of the
 * body), twice. Errors: MEMORY. Cost: a digest of the body, and a search through the streams, which
 * is short when they come one after the other. */
fl_status fl_pile_add(fl_pile *pile, const fl_chunk *about, fl_blob **body, fl_cause *cause);
/* Whether everything is there: the streams that `about` lists, each once, and no others. *cause is
 * shape when the chunks can never make it up. */
fl_status fl_pile_complete(const fl_pile *pile, bool *complete, fl_cause *cause);

#endif
