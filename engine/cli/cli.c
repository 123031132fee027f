#include "cli.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { COLUMNS = 100, GAP = 2 };

static atomic_int stop;

static void on_signal(int number) {
  (void)number;
  if (stop) _exit(FL_EXIT_STOPPED);
  stop = 1;
}

const atomic_int *fl_cli_catch(void) {
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  return &stop;
}

void fl_cli_tell(void *of, const char *sentence) {
  (void)of;
  printf("%s\n", sentence);
  fflush(stdout);
}

const char *fl_cli_machine(void) {
  static char name[65]; /* the end stays 0 */
  gethostname(name, sizeof name - 1);
  return name;
}

void fl_cli_keep_memory(void) {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20); /* the largest that it takes */
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

int fl_cli_failure(fl_status status) {
  const char *line = fedlane_error();
  if (!*line) line = fedlane_status_text(status);
  for (const char *end; *line; line = *end ? end + 1 : end) {
    end = line + strcspn(line, "\n");
    fprintf(stderr, "fedlane: %.*s\n", (int)(end - line), line);
  }
  return status == FEDLANE_USAGE ? FL_EXIT_USAGE : FL_EXIT_FAILED;
}

int fl_cli_end(fl_status status) {
  if (status == FEDLANE_STOPPED) return FL_EXIT_STOPPED;
  return status == FEDLANE_OK ? FL_EXIT_DONE : fl_cli_failure(status);
}

/* Characters, not bytes: those that continue a UTF-8 sequence take no room. */
static int width_of(const char *text, size_t length) {
  int width = 0;
  for (size_t i = 0; i < length; i++) width += ((unsigned char)text[i] & 0xC0) != 0x80;
  return width;
}

void fl_cli_wrap(int column, int indent, const char *text) {
  int at = column;
  while (*text) {
    size_t length = strcspn(text, " ");
    int width = width_of(text, length);
    bool first = at == column || at == indent;
    if (!first && at + 1 + width > COLUMNS) {
      printf("\n%*s", indent, "");
      at = indent;
      first = true;
    }
    at += printf(first ? "" : " ") + width;
    printf("%.*s", (int)length, text);
    text += length + strspn(text + length, " ");
  }
  putchar('\n');
}

void fl_cli_table(int indent, int n_column, int n_row, const char *const *cell) {
  for (int row = 0; row < n_row; row++) {
    int at = indent;
    printf("%*s", indent, "");
    for (int column = 0; column < n_column - 1; column++) {
      int widest = 0;
      for (int i = 0; i < n_row; i++) {
        int width = width_of(cell[i * n_column + column], strlen(cell[i * n_column + column]));
        if (width > widest) widest = width;
      }
      if (widest == 0) continue;
      const char *text = cell[row * n_column + column];
      int pad = widest - width_of(text, strlen(text)) + GAP;
      printf("%s%*s", text, pad, "");
      at += widest + GAP;
    }
    fl_cli_wrap(at, at, cell[row * n_column + n_column - 1]);
  }
}
