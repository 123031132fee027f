/* JPEG by libjpeg-turbo. What the library only warns of, such as an end that comes too early, is
 * damage here. */
#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>

#include "image_codec.h"

enum { SCANS_MOST = 200 }; /* of a progressive file: each costs a pass over the whole image */

/* The library's error manager, and where it jumps to. */
typedef struct manager {
  struct jpeg_error_mgr base;
  jmp_buf end;
  fl_status status; /* why it ended, when that is not the library's own reason */
  const char *path;
} manager;

static void on_error(j_common_ptr jpeg) { longjmp(((manager *)(void *)jpeg->err)->end, 1); }

static void on_message(j_common_ptr jpeg, int level) {
  if (level < 0) on_error(jpeg);
}

static void on_progress(j_common_ptr jpeg) {
  manager *m = (manager *)(void *)jpeg->err;
  if (((j_decompress_ptr)(void *)jpeg)->input_scan_number <= SCANS_MOST) return;
  m->status = fl_fail(FEDLANE_DATA, "%s: has more than %d scans", m->path, SCANS_MOST);
  on_error(jpeg);
}

static void check(j_decompress_ptr jpeg, fl_status status) {
  ((manager *)(void *)jpeg->err)->status = status;
  if (status != FEDLANE_OK) on_error((j_common_ptr)jpeg);
}

/* Rows that are cut off are read for damage, but not made into pixels. */
static void decode(j_decompress_ptr jpeg, const fl_image_source *in, fl_pixels *out) {
  jpeg_mem_src(jpeg, in->at, (unsigned long)in->size);
  jpeg_read_header(jpeg, TRUE);
  check(jpeg, fl_pixels_size(in, jpeg->image_height, jpeg->image_width, out));
  if (jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK)
    check(jpeg, fl_fail(FEDLANE_DATA, "%s: is a JPEG for printing (CMYK); save it as RGB or grey",
                        in->path));
  if (!in->want) return;
  bool grey = in->want->channels == 1 || jpeg->jpeg_color_space == JCS_GRAYSCALE;
  out->channels = grey ? 1 : 4;
  jpeg->out_color_space = grey ? JCS_GRAYSCALE : JCS_EXT_RGBX;
  while (out->shrink < 8 && 2 * out->shrink <= out->most_shrink) out->shrink *= 2;
  jpeg->scale_num = 1;
  jpeg->scale_denom = (unsigned)out->shrink;
  jpeg_start_decompress(jpeg);
  out->height = (int)jpeg->output_height;
  out->width = (int)jpeg->output_width;
  check(jpeg, fl_pixels_alloc(in, out));
  int first = in->want->top / out->shrink;
  int end = (out->full_height - in->want->bottom + out->shrink - 1) / out->shrink;
  size_t across = (size_t)out->width * (size_t)out->channels;
  if (first > 0) jpeg_skip_scanlines(jpeg, (JDIMENSION)first);
  while ((int)jpeg->output_scanline < end) {
    JSAMPROW row = out->at + jpeg->output_scanline * across;
    jpeg_read_scanlines(jpeg, &row, 1);
  }
  if (end < out->height) jpeg_skip_scanlines(jpeg, (JDIMENSION)(out->height - end));
  jpeg_finish_decompress(jpeg);
}

fl_status fl_image_decode_jpeg(const fl_image_source *in, fl_pixels *out) {
  struct jpeg_decompress_struct jpeg = {0};
  struct jpeg_progress_mgr progress = {.progress_monitor = on_progress};
  manager m = {.status = FEDLANE_OK, .path = in->path};
  char why[JMSG_LENGTH_MAX];
  jpeg.err = jpeg_std_error(&m.base);
  m.base.error_exit = on_error;
  m.base.emit_message = on_message;
  if (setjmp(m.end) == 0) {
    jpeg_create_decompress(&jpeg);
    jpeg.progress = &progress;
    decode(&jpeg, in, out);
  } else if (m.status == FEDLANE_OK) {
    m.base.format_message((j_common_ptr)&jpeg, why);
    m.status = fl_fail(FEDLANE_DATA, "%s: is a damaged JPEG: %s", in->path, why);
  }
  jpeg_destroy_decompress(&jpeg);
  return m.status;
}
