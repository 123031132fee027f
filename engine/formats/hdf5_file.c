#include "formats/hdf5_file.h"

#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fl_h5 {
  hid_t id;
  char *path;
};

/* HDF5 prints its errors unless told otherwise; whoever embeds us may have told it something. */
typedef struct hush {
  H5E_auto2_t call;
  void *data;
} hush;

static hush begin_quiet(void) {
  hush h = {0};
  H5Eget_auto2(H5E_DEFAULT, &h.call, &h.data);
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  return h;
}

static void end_quiet(hush h) { H5Eset_auto2(H5E_DEFAULT, h.call, h.data); }

fl_status fl_h5_open(const char *path, fl_h5 **out) {
  if (access(path, R_OK) != 0) return fl_fail(FEDLANE_IO, "%s cannot be read", path);
  fl_h5 *f = calloc(1, sizeof *f);
  if (f) f->path = strdup(path);
  if (!f || !f->path) {
    free(f);
    return fl_fail(FEDLANE_MEMORY, "no memory to open %s", path);
  }
  hush h = begin_quiet();
  f->id = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  end_quiet(h);
  if (f->id < 0) {
    free(f->path);
    free(f);
    return fl_fail(FEDLANE_DATA, "%s is no HDF5 file, or a damaged one", path);
  }
  *out = f;
  return FEDLANE_OK;
}

void fl_h5_close(fl_h5 **file) {
  fl_h5 *f = file ? *file : NULL;
  if (!f) return;
  hush h = begin_quiet();
  H5Fclose(f->id);
  end_quiet(h);
  free(f->path);
  free(f);
  *file = NULL;
}

bool fl_h5_has(fl_h5 *f, const char *name) {
  hush h = begin_quiet();
  H5O_info_t info;
  bool has = H5Oget_info_by_name(f->id, name, &info, H5P_DEFAULT) >= 0;
  end_quiet(h);
  return has;
}

static herr_t add_name(hid_t group, const char *name, const H5L_info_t *info, void *to) {
  (void)group, (void)info;
  fl_h5_names *names = to;
  if ((names->n & (names->n - 1)) == 0) {
    char **more = realloc(names->at, (size_t)(names->n ? 2 * names->n : 1) * sizeof *more);
    if (!more) return -1;
    names->at = more;
  }
  names->at[names->n] = strdup(name);
  return names->at[names->n] ? (names->n++, 0) : -1;
}

fl_status fl_h5_list(fl_h5 *f, const char *group, fl_h5_names *out) {
  hush h = begin_quiet();
  hid_t id = H5Gopen2(f->id, group, H5P_DEFAULT);
  *out = (fl_h5_names){0};
  bool good = id >= 0 && H5Literate(id, H5_INDEX_NAME, H5_ITER_INC, NULL, add_name, out) >= 0;
  if (id >= 0) H5Gclose(id);
  end_quiet(h);
  if (good) return FEDLANE_OK;
  fl_h5_names_free(out);
  return fl_fail(FEDLANE_DATA, "%s: there is no group '%s', or it cannot be listed", f->path,
                 group);
}

void fl_h5_names_free(fl_h5_names *names) {
  for (int64_t i = 0; i < names->n; i++) free(names->at[i]);
  free(names->at);
  *names = (fl_h5_names){0};
}

static fl_h5_class class_of(hid_t type) {
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
      return FL_H5_WHOLE;
    case H5T_FLOAT:
      return FL_H5_REAL;
    case H5T_STRING:
      return FL_H5_TEXT;
    default:
      return FL_H5_OTHER;
  }
}

/* Shape of an open array; false when it has too many dimensions. */
static bool shape_of(hid_t set, fl_h5_shape *out) {
  hid_t space = H5Dget_space(set), type = H5Dget_type(set);
  hsize_t dim[H5S_MAX_RANK] = {0};
  int n = H5Sget_simple_extent_dims(space, dim, NULL);
  *out = (fl_h5_shape){.class = class_of(type), .n_dim = n, .count = 1};
  for (int i = 0; i < n && n <= FL_H5_DIMS; i++) {
    out->dim[i] = dim[i] > INT64_MAX ? INT64_MAX : (int64_t)dim[i];
    if (__builtin_mul_overflow(out->count, out->dim[i], &out->count)) n = -1;
  }
  H5Tclose(type);
  H5Sclose(space);
  return n >= 0 && n <= FL_H5_DIMS;
}

static fl_status open_array(fl_h5 *f, const char *name, hid_t *set, fl_h5_shape *shape) {
  *set = H5Dopen2(f->id, name, H5P_DEFAULT);
  if (*set < 0) return fl_fail(FEDLANE_DATA, "%s: there is no array '%s'", f->path, name);
  if (shape_of(*set, shape)) return FEDLANE_OK;
  H5Dclose(*set);
  return fl_fail(FEDLANE_DATA, "%s: '%s' has more than %d dimensions, or too many values", f->path,
                 name, FL_H5_DIMS);
}

fl_status fl_h5_shape_of(fl_h5 *f, const char *name, fl_h5_shape *out) {
  hush h = begin_quiet();
  hid_t set;
  fl_status status = open_array(f, name, &set, out);
  if (status == FEDLANE_OK) H5Dclose(set);
  end_quiet(h);
  return status;
}

/* HDF5 stops at values that do not fit the type asked for. */
static H5T_conv_ret_t refuse_value(H5T_conv_except_t what, hid_t from, hid_t to, void *src,
                                   void *dst, void *data) {
  (void)from, (void)to, (void)src, (void)dst, (void)data;
  return what == H5T_CONV_EXCEPT_PRECISION ? H5T_CONV_UNHANDLED : H5T_CONV_ABORT;
}

static fl_status read_numbers(fl_h5 *f, const char *name, hid_t as, int64_t n, void *out) {
  hush h = begin_quiet();
  hid_t set, how = H5Pcreate(H5P_DATASET_XFER);
  fl_h5_shape shape;
  fl_status status = open_array(f, name, &set, &shape);
  if (status != FEDLANE_OK) goto done;
  H5Pset_type_conv_cb(how, refuse_value, NULL);
  if (shape.class != FL_H5_WHOLE && shape.class != FL_H5_REAL)
    status = fl_fail(FEDLANE_DATA, "%s: '%s' holds no numbers", f->path, name);
  else if (shape.count != n)
    status = fl_fail(FEDLANE_DATA, "%s: '%s' holds %lld values where %lld are expected", f->path,
                     name, (long long)shape.count, (long long)n);
  else if (shape.count > 0 && H5Dread(set, as, H5S_ALL, H5S_ALL, how, out) < 0)
    status =
        fl_fail(FEDLANE_DATA, "%s: '%s' is damaged, or has values that do not fit what is expected",
                f->path, name);
  H5Dclose(set);
done:
  H5Pclose(how);
  end_quiet(h);
  return status;
}

fl_status fl_h5_bytes(fl_h5 *f, const char *name, int64_t n, uint8_t *out) {
  return read_numbers(f, name, H5T_NATIVE_UINT8, n, out);
}

fl_status fl_h5_ints(fl_h5 *f, const char *name, int64_t n, int32_t *out) {
  return read_numbers(f, name, H5T_NATIVE_INT32, n, out);
}

fl_status fl_h5_floats(fl_h5 *f, const char *name, int64_t n, float *out) {
  return read_numbers(f, name, H5T_NATIVE_FLOAT, n, out);
}

/* The texts of an array whose elements lie `size` bytes apart; size 0: pointers to them. */
static bool copy_texts(const char *from, size_t size, int64_t n, fl_h5_names *out) {
  out->at = calloc((size_t)n + 1, sizeof *out->at);
  for (; out->at && out->n < n; out->n++) {
    const char *text = from + (size_t)out->n * size;
    if (size == 0) text = ((char *const *)(const void *)from)[out->n];
    size_t length = size == 0 ? strlen(text ? text : "") : strnlen(text, size);
    out->at[out->n] = strndup(text ? text : "", length);
    if (!out->at[out->n]) return false;
  }
  return out->at != NULL;
}

fl_status fl_h5_texts(fl_h5 *f, const char *name, fl_h5_names *out) {
  hush h = begin_quiet();
  hid_t set = -1, type = -1, space = -1;
  fl_h5_shape shape;
  void *raw = NULL;
  *out = (fl_h5_names){0};
  fl_status status = open_array(f, name, &set, &shape);
  if (status != FEDLANE_OK) goto done;
  type = H5Dget_type(set);
  space = H5Dget_space(set);
  bool variable = H5Tis_variable_str(type) > 0;
  size_t size = variable ? sizeof(char *) : H5Tget_size(type);
  if (shape.class != FL_H5_TEXT) {
    status = fl_fail(FEDLANE_DATA, "%s: '%s' holds no text", f->path, name);
    goto done;
  }
  raw = calloc((size_t)shape.count + 1, size);
  if (!raw)
    status = fl_fail(FEDLANE_MEMORY, "no memory for '%s' of %s", name, f->path);
  else if (shape.count > 0 && H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, raw) < 0)
    status = fl_fail(FEDLANE_DATA, "%s: '%s' is damaged", f->path, name);
  else if (!copy_texts(raw, variable ? 0 : size, shape.count, out))
    status = fl_fail(FEDLANE_MEMORY, "no memory for '%s' of %s", name, f->path);
  if (raw && variable) H5Dvlen_reclaim(type, space, H5P_DEFAULT, raw);
done:
  free(raw);
  if (type >= 0) H5Tclose(type);
  if (space >= 0) H5Sclose(space);
  if (set >= 0) H5Dclose(set);
  end_quiet(h);
  if (status != FEDLANE_OK) fl_h5_names_free(out);
  return status;
}
