/* Netpbm's binary P5 (grey) and P6 (colour), https://netpbm.sourceforge.net/doc/ppm.html. */
#include "image_codec.h"

static bool blank(int c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The next number of the header, after blanks and comments; -1 when there is none. */
static int64_t read_number(const fl_image_source *in, int64_t *at) {
  const unsigned char *b = in->at;
  int64_t value = 0, i = *at;
  while (i < in->size && (blank(b[i]) || b[i] == '#'))
    if (b[i++] == '#')
      while (i < in->size && b[i] != '\n') i++;
  int64_t first = i;
  while (i < in->size && b[i] >= '0' && b[i] <= '9' && i - first < 10)
    value = 10 * value + b[i++] - '0';
  *at = i;
  return i > first && i < in->size && (blank(b[i]) || b[i] == '#') ? value : -1;
}

/* Samples of up to `most` to bytes of up to 255; colour, three samples a pixel, to four bytes. */
static fl_status fill(const fl_image_source *in, int64_t at, uint32_t most, fl_pixels *out) {
  int64_t samples = out->channels == 4 ? 3 : 1, each = most > 255 ? 2 : 1;
  int64_t pixels = (int64_t)out->height * out->width, need = pixels * samples * each;
  const unsigned char *from = in->at + at;
  if (in->size - at < need)
    return fl_fail(FEDLANE_DATA, "%s: ends too early: %lld bytes of pixels, where %lld are due",
                   in->path, (long long)(in->size - at), (long long)need);
  FL_TRY(fl_pixels_alloc(in, out));
  for (int64_t i = 0; i < pixels; i++)
    for (int64_t c = 0; c < samples; c++, from += each) {
      uint32_t value = each == 1 ? from[0] : (uint32_t)from[0] << 8 | from[1];
      if (value > most)
        return fl_fail(FEDLANE_DATA, "%s: has a sample of %u, but its header allows %u", in->path,
                       value, most);
      out->at[i * out->channels + c] =
          (uint8_t)(most == 255 ? value : (value * 255 + most / 2) / most);
    }
  return FEDLANE_OK;
}

fl_status fl_image_decode_pnm(const fl_image_source *in, fl_pixels *out) {
  int64_t at = 2;
  int64_t width = read_number(in, &at), height = read_number(in, &at), most = read_number(in, &at);
  if (width < 0 || height < 0 || most < 1 || most > 65535)
    return fl_fail(FEDLANE_DATA,
                   "%s: the header is damaged; after P5 or P6 it has width, height and a largest "
                   "value of 1 to 65535",
                   in->path);
  FL_TRY(fl_pixels_size(in, height, width, out));
  out->channels = in->at[1] == '6' ? 4 : 1;
  return in->want ? fill(in, at + 1, (uint32_t)most, out) : FEDLANE_OK;
}
