/* safetensors files: an 8-byte little-endian header length, a JSON header, then the tensors.
 * https://huggingface.co/docs/safetensors. Reading maps the file; writing goes aside and renames.
 */
#ifndef FL_SAFETENSORS_H
#define FL_SAFETENSORS_H

#include <stddef.h>

#include "status.h"

typedef enum fl_dtype {
  FL_F32,
  FL_F64,
  FL_I64,
  FL_I32,
  FL_U8,
  FL_I8,
  FL_F16,
  FL_BF16,
  FL_DTYPES
} fl_dtype;
int fl_dtype_size(fl_dtype type);
const char *fl_dtype_name(fl_dtype type); /* "F32" ... as in the format */

enum { FL_ST_DIMS = 8 };
typedef struct fl_st_tensor {
  const char *name;
  fl_dtype type;
  int n_dim;
  int64_t dim[FL_ST_DIMS];
  int64_t count;    /* product of dim */
  const void *data; /* inside the mapping (not aligned); when writing: the values */
} fl_st_tensor;

typedef struct fl_st_file fl_st_file;

/* Maps a file and checks it whole: header length, JSON, names once, types known, offsets in order,
 * without holes or overlap, and inside the file. Errors: IO (cannot open), DATA (file, reason). */
fl_status fl_st_open(const char *path, fl_st_file **out);
void fl_st_close(fl_st_file **file);
/* Closes the file but hands its mapping over, which may now be written to; nothing of that reaches
 * the file. munmap it. Tensors' data stay where they were. Errors: IO; the file is closed. */
fl_status fl_st_release(fl_st_file **file, void **map, size_t *bytes);
int fl_st_count(const fl_st_file *file);
const fl_st_tensor *fl_st_at(const fl_st_file *file, int i);              /* in order of offset */
const fl_st_tensor *fl_st_find(const fl_st_file *file, const char *name); /* NULL: not there */
/* A value of the header's __metadata__, or NULL. */
const char *fl_st_metadata(const fl_st_file *file, const char *key);

/* Writes n tensors and n_meta pairs (key, value, key, value ...) to `path` aside, syncs, renames.
 * The header is padded with spaces so that the data start at a multiple of 64 bytes.
 * Errors: IO with path and reason; an earlier file at path is then untouched. */
fl_status fl_st_write(const char *path, int n, const fl_st_tensor *tensor, int n_meta,
                      const char *const *meta);

#endif
