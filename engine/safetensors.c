#include "safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are stored little-endian");

enum { HEADER_MOST = 100000000, PREFIX = 8, ALIGNMENT = 64 };
static const char metadata_key[] = "__metadata__";

typedef struct dtype_info {
  const char *name;
  int size;
} dtype_info;

static const dtype_info dtypes[FL_DTYPES] = {
    [FL_F32] = {"F32", 4}, [FL_F64] = {"F64", 8}, [FL_I64] = {"I64", 8}, [FL_I32] = {"I32", 4},
    [FL_U8] = {"U8", 1},   [FL_I8] = {"I8", 1},   [FL_F16] = {"F16", 2}, [FL_BF16] = {"BF16", 2},
};

int fl_dtype_size(fl_dtype type) { return dtypes[type].size; }
const char *fl_dtype_name(fl_dtype type) { return dtypes[type].name; }

/* The parsed header owns the names of the tensors. */
struct fl_st_file {
  char *path;
  const unsigned char *map;
  int64_t size;
  json_t *header;
  int n;
  fl_st_tensor *tensor;
};

static fl_status map_file(const char *path, fl_st_file *file) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fl_fail(FEDLANE_IO, "cannot read %s: %s", path, strerror(errno));
  fl_status status = FEDLANE_OK;
  struct stat info;
  if (fstat(fd, &info) != 0) {
    status = fl_fail(FEDLANE_IO, "cannot read %s: %s", path, strerror(errno));
  } else if (!S_ISREG(info.st_mode)) {
    status = fl_fail(FEDLANE_IO, "cannot read %s: it is not a regular file", path);
  } else if (info.st_size < PREFIX + 2) {
    status = fl_fail(FEDLANE_DATA, "%s: %lld bytes are too few for a safetensors file", path,
                     (long long)info.st_size);
  } else {
    void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
      status = fl_fail(FEDLANE_IO, "cannot map %s: %s", path, strerror(errno));
    } else {
      file->map = map;
      file->size = info.st_size;
    }
  }
  close(fd);
  return status;
}

/* Parses the header; *data is where the tensors begin. */
static fl_status parse_header(fl_st_file *file, int64_t *data) {
  uint64_t length;
  memcpy(&length, file->map, PREFIX);
  if (length > HEADER_MOST || (int64_t)length > file->size - PREFIX)
    return fl_fail(FEDLANE_DATA,
                   "%s: a header of %llu bytes does not fit; the file has %lld bytes and a header "
                   "at most %d",
                   file->path, (unsigned long long)length, (long long)file->size, HEADER_MOST);
  const char *text = (const char *)file->map + PREFIX;
  json_error_t error;
  file->header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
  if (!file->header)
    return fl_fail(FEDLANE_DATA, "%s: the header is not valid JSON: %s (byte %d)", file->path,
                   error.text, error.position);
  if (text[0] != '{' || !json_is_object(file->header))
    return fl_fail(FEDLANE_DATA, "%s: the header is not a JSON object", file->path);
  *data = PREFIX + (int64_t)length;
  return FEDLANE_OK;
}

static fl_status check_metadata(const fl_st_file *file) {
  json_t *all = json_object_get(file->header, metadata_key), *value;
  const char *key;
  if (!all) return FEDLANE_OK;
  if (!json_is_object(all))
    return fl_fail(FEDLANE_DATA, "%s: %s is not an object", file->path, metadata_key);
  json_object_foreach(all, key, value) if (!json_is_string(value)) return fl_fail(
      FEDLANE_DATA, "%s: the value of '%s' in %s is not a string", file->path, key, metadata_key);
  return FEDLANE_OK;
}

static fl_status parse_type(const char *path, const char *name, const json_t *value,
                            fl_dtype *out) {
  const char *text = json_string_value(value);
  for (int i = 0; text && i < FL_DTYPES; i++)
    if (strcmp(text, dtypes[i].name) == 0) {
      *out = (fl_dtype)i;
      return FEDLANE_OK;
    }
  return fl_fail(FEDLANE_DATA,
                 "%s: tensor '%s' has the type %s; F32, F64, I64, I32, U8, I8, F16 and BF16 are "
                 "known",
                 path, name, text ? text : "(none)");
}

static fl_status parse_shape(const char *path, const json_t *shape, fl_st_tensor *t) {
  if (!json_is_array(shape) || json_array_size(shape) > FL_ST_DIMS)
    return fl_fail(FEDLANE_DATA, "%s: the shape of tensor '%s' is not a list of at most %d sizes",
                   path, t->name, FL_ST_DIMS);
  t->n_dim = (int)json_array_size(shape);
  t->count = 1;
  bool empty = false;
  for (int i = 0; i < t->n_dim; i++) {
    const json_t *size = json_array_get(shape, (size_t)i);
    t->dim[i] = json_integer_value(size);
    if (!json_is_integer(size) || t->dim[i] < 0)
      return fl_fail(FEDLANE_DATA, "%s: size %d of tensor '%s' is not a whole number from 0 up",
                     path, i, t->name);
    empty |= t->dim[i] == 0;
    if (t->dim[i] > 0 && __builtin_mul_overflow(t->count, t->dim[i], &t->count))
      return fl_fail(FEDLANE_DATA, "%s: the shape of tensor '%s' is too large", path, t->name);
  }
  if (empty) t->count = 0;
  return FEDLANE_OK;
}

/* room: bytes of the file after the header. */
static fl_status parse_offsets(const char *path, const json_t *offsets, int64_t room,
                               const unsigned char *data, fl_st_tensor *t) {
  const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
  if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second))
    return fl_fail(FEDLANE_DATA, "%s: the data_offsets of tensor '%s' are not two whole numbers",
                   path, t->name);
  int64_t begin = json_integer_value(first), end = json_integer_value(second), bytes;
  if (begin < 0 || begin > end || end > room)
    return fl_fail(FEDLANE_DATA,
                   "%s: tensor '%s' lies at bytes %lld .. %lld; the file has %lld bytes of data",
                   path, t->name, (long long)begin, (long long)end, (long long)room);
  if (__builtin_mul_overflow(t->count, dtypes[t->type].size, &bytes) || bytes != end - begin)
    return fl_fail(FEDLANE_DATA, "%s: tensor '%s' has %lld values of %s but %lld bytes", path,
                   t->name, (long long)t->count, dtypes[t->type].name, (long long)(end - begin));
  t->data = data + begin;
  return FEDLANE_OK;
}

static fl_status parse_tensor(const fl_st_file *file, const char *name, const json_t *entry,
                              int64_t data, fl_st_tensor *t) {
  t->name = name;
  if (!json_is_object(entry) || json_object_size(entry) != 3)
    return fl_fail(FEDLANE_DATA, "%s: tensor '%s' must have dtype, shape and data_offsets",
                   file->path, name);
  FL_TRY(parse_type(file->path, name, json_object_get(entry, "dtype"), &t->type));
  FL_TRY(parse_shape(file->path, json_object_get(entry, "shape"), t));
  return parse_offsets(file->path, json_object_get(entry, "data_offsets"), file->size - data,
                       file->map + data, t);
}

static int64_t tensor_bytes(const fl_st_tensor *t) { return t->count * dtypes[t->type].size; }

/* By offset; an empty tensor comes before the one that begins where it lies. */
static int by_offset(const void *a, const void *b) {
  const fl_st_tensor *x = a, *y = b;
  if (x->data != y->data)
    return (const unsigned char *)x->data < (const unsigned char *)y->data ? -1 : 1;
  return (tensor_bytes(x) > 0) - (tensor_bytes(y) > 0);
}

static fl_status check_cover(const fl_st_file *file, int64_t data) {
  const unsigned char *at = file->map + data, *end = file->map + file->size;
  for (int i = 0; i < file->n; i++) {
    const fl_st_tensor *t = &file->tensor[i];
    if (t->data != at)
      return fl_fail(FEDLANE_DATA, "%s: tensor '%s' %s", file->path, t->name,
                     (const unsigned char *)t->data < at ? "overlaps the one before it"
                                                         : "leaves a hole before it");
    at += tensor_bytes(t);
  }
  if (at != end)
    return fl_fail(FEDLANE_DATA, "%s: %lld bytes after the last tensor belong to none", file->path,
                   (long long)(end - at));
  return FEDLANE_OK;
}

static fl_status parse_tensors(fl_st_file *file, int64_t data) {
  const char *name;
  json_t *entry;
  file->tensor = calloc(json_object_size(file->header) + 1, sizeof *file->tensor);
  if (!file->tensor) return fl_fail(FEDLANE_MEMORY, "no memory for the header of %s", file->path);
  json_object_foreach(file->header, name, entry) {
    if (strcmp(name, metadata_key) == 0) continue;
    FL_TRY(parse_tensor(file, name, entry, data, &file->tensor[file->n]));
    file->n++;
  }
  qsort(file->tensor, (size_t)file->n, sizeof *file->tensor, by_offset);
  return check_cover(file, data);
}

fl_status fl_st_open(const char *path, fl_st_file **out) {
  fl_status status;
  int64_t data;
  *out = NULL;
  fl_st_file *file = calloc(1, sizeof *file);
  if (!file || !(file->path = strdup(path))) {
    status = fl_fail(FEDLANE_MEMORY, "no memory to open %s", path);
    goto done;
  }
  FL_GO(map_file(path, file));
  FL_GO(parse_header(file, &data));
  FL_GO(check_metadata(file));
  FL_GO(parse_tensors(file, data));
  *out = file;
  file = NULL;
done:
  fl_st_close(&file);
  return status;
}

void fl_st_close(fl_st_file **file) {
  if (!file || !*file) return;
  fl_st_file *f = *file;
  if (f->map) munmap((void *)(uintptr_t)f->map, (size_t)f->size);
  json_decref(f->header);
  free(f->tensor);
  free(f->path);
  free(f);
  *file = NULL;
}

fl_status fl_st_release(fl_st_file **file, void **map, size_t *bytes) {
  fl_st_file *f = *file;
  void *at = (void *)(uintptr_t)f->map;
  fl_status status = FEDLANE_OK;
  if (mprotect(at, (size_t)f->size, PROT_READ | PROT_WRITE) != 0) {
    status = fl_fail(FEDLANE_IO, "cannot map %s: %s", f->path, strerror(errno));
  } else {
    *map = at;
    *bytes = (size_t)f->size;
    f->map = NULL;
  }
  fl_st_close(file);
  return status;
}

int fl_st_count(const fl_st_file *file) { return file->n; }

const fl_st_tensor *fl_st_at(const fl_st_file *file, int i) { return &file->tensor[i]; }

const fl_st_tensor *fl_st_find(const fl_st_file *file, const char *name) {
  for (int i = 0; i < file->n; i++)
    if (strcmp(file->tensor[i].name, name) == 0) return &file->tensor[i];
  return NULL;
}

const char *fl_st_metadata(const fl_st_file *file, const char *key) {
  return json_string_value(json_object_get(json_object_get(file->header, metadata_key), key));
}

static json_t *describe(const fl_st_tensor *t, int64_t begin) {
  json_t *shape = json_array();
  for (int i = 0; i < t->n_dim; i++) json_array_append_new(shape, json_integer(t->dim[i]));
  return json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtypes[t->type].name, "shape", shape,
                   "data_offsets", (json_int_t)begin, (json_int_t)(begin + tensor_bytes(t)));
}

/* The header as text (free it), or NULL when memory is exhausted or a name is not valid UTF-8. */
static char *make_header(int n, const fl_st_tensor *tensor, int n_meta, const char *const *meta) {
  json_t *header = json_object(), *pairs = json_object();
  int64_t begin = 0;
  int failed = 0;
  for (int i = 0; i < n_meta; i++)
    failed |= json_object_set_new(pairs, meta[2 * i], json_string(meta[2 * i + 1]));
  if (n_meta > 0) failed |= json_object_set(header, metadata_key, pairs);
  for (int i = 0; i < n; i++) {
    failed |= json_object_get(header, tensor[i].name) != NULL;
    failed |= json_object_set_new(header, tensor[i].name, describe(&tensor[i], begin));
    begin += tensor_bytes(&tensor[i]);
  }
  char *text = failed ? NULL : json_dumps(header, JSON_COMPACT);
  json_decref(pairs);
  json_decref(header);
  return text;
}

static bool write_parts(FILE *file, const char *header, int n, const fl_st_tensor *tensor) {
  size_t length = strlen(header);
  size_t padded = (PREFIX + length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT - PREFIX;
  uint64_t prefix = padded;
  bool good = fwrite(&prefix, 1, PREFIX, file) == PREFIX &&
              fprintf(file, "%-*s", (int)padded, header) == (int)padded;
  for (int i = 0; i < n && good; i++) {
    size_t bytes = (size_t)tensor_bytes(&tensor[i]);
    good = bytes == 0 || fwrite(tensor[i].data, 1, bytes, file) == bytes;
  }
  return good;
}

fl_status fl_st_write(const char *path, int n, const fl_st_tensor *tensor, int n_meta,
                      const char *const *meta) {
  char *header = make_header(n, tensor, n_meta, meta);
  if (!header)
    return fl_fail(FEDLANE_INTERNAL,
                   "no header for %s: a tensor name is taken twice or is not UTF-8", path);
  fl_aside aside;
  fl_status status;
  FL_GO(fl_aside_open(path, &aside));
  if (write_parts(aside.file, header, n, tensor)) {
    status = fl_aside_commit(&aside);
  } else {
    status = fl_fail(FEDLANE_IO, "cannot write %s: %s", path, strerror(errno));
    fl_aside_abandon(&aside);
  }
done:
  free(header);
  return status;
}
