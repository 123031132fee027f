/* A folder for the files that a fuzz target feeds to a reader: made once, kept in memory where the
 * system has /dev/shm, removed when the program ends. */
#ifndef FL_SCRATCH_H
#define FL_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

/* The folder. Ends the program when it cannot be made. */
const char *fl_scratch(void);
/* Writes folder/name anew. */
void fl_scratch_write(const char *name, const uint8_t *data, size_t size);

#endif
