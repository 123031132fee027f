/* The list of allowed keys: sorted, read by those who receive while the guard reads it anew. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "curve.h"

enum { NAME_BYTES = 64, PATH_BYTES = 4096, YOUNG_S = 2 };

typedef struct entry {
  char key[FL_KEY_CHARACTERS + 1], name[NAME_BYTES + 1];
} entry;

typedef struct list {
  entry *at;
  size_t n, room;
} list;

/* What tells one state of the files from another. A file that has only just been written may change
 * again under the same times, so it is not relied on. */
typedef struct mark {
  uint64_t sum;
  bool old;
} mark;

struct fl_allow {
  pthread_rwlock_t lock; /* of keys */
  list keys;
  mark mark; /* of who refreshes */
  char path[];
};

static void mix(mark *m, uint64_t x) {
  m->sum = (m->sum ^ x) * 0x9E3779B97F4A7C15u;
  m->sum ^= m->sum >> 29;
}

static void mix_file(mark *m, const char *name, const struct stat *info) {
  for (; *name; name++) mix(m, (unsigned char)*name);
  mix(m, (uint64_t)info->st_ino);
  mix(m, (uint64_t)info->st_size);
  mix(m, (uint64_t)info->st_mtim.tv_sec * 1000000000u + (uint64_t)info->st_mtim.tv_nsec);
  mix(m, (uint64_t)info->st_ctim.tv_sec * 1000000000u + (uint64_t)info->st_ctim.tv_nsec);
  m->old = m->old && info->st_ctim.tv_sec + YOUNG_S <= time(NULL);
}

static fl_status add(list *keys, const char *key, const char *name, size_t n) {
  if (keys->n == keys->room) {
    size_t room = keys->room ? 2 * keys->room : 64;
    entry *at = realloc(keys->at, room * sizeof *at);
    if (!at) return fl_fail(FEDLANE_MEMORY, "no memory for %zu allowed keys", room);
    keys->at = at;
    keys->room = room;
  }
  entry *e = &keys->at[keys->n++];
  snprintf(e->key, sizeof e->key, "%s", key);
  snprintf(e->name, sizeof e->name, "%.*s", (int)(n < NAME_BYTES ? n : NAME_BYTES), name);
  return FEDLANE_OK;
}

/* A line "KEY NAME", or one of a .pub file. No key begins with '#': it would be too large a number.
 */
static fl_status read_line(const char *path, int number, char *line, const char *fallback,
                           list *keys) {
  static const char word[] = "fedlane public:", blank[] = " \t\r\n";
  char key[FL_KEY_CHARACTERS + 1];
  char *text = line + strspn(line, blank);
  if (*text == '#' || *text == '\0') return FEDLANE_OK;
  if (strncmp(text, word, sizeof word - 1) == 0) text += sizeof word - 1;
  text += strspn(text, blank);
  size_t n = strcspn(text, blank);
  snprintf(key, sizeof key, "%.*s", n == FL_KEY_CHARACTERS ? (int)n : 0, text);
  if (!fl_curve_is_key(key))
    return fl_fail(FEDLANE_USAGE,
                   "%s:%d: a line is a public key of %d characters and a name, or begins with #",
                   path, number, FL_KEY_CHARACTERS);
  char *name = text + n + strspn(text + n, blank);
  for (n = strlen(name); n > 0 && strchr(blank, name[n - 1]);) n--;
  return n > 0 ? add(keys, key, name, n) : add(keys, key, fallback, strlen(fallback));
}

static fl_status read_file(const char *path, const char *fallback, list *keys) {
  FILE *file = fopen(path, "re");
  if (!file) return fl_fail(FEDLANE_IO, "%s cannot be read: %s", path, strerror(errno));
  char *line = NULL;
  size_t room = 0;
  fl_status status = FEDLANE_OK;
  for (int i = 1; status == FEDLANE_OK && getline(&line, &room, file) >= 0; i++)
    status = read_line(path, i, line, fallback, keys);
  if (status == FEDLANE_OK && ferror(file))
    status = fl_fail(FEDLANE_IO, "%s cannot be read: %s", path, strerror(errno));
  /* Someone may have given a .key file in place of a .pub one. */
  if (line) explicit_bzero(line, room);
  free(line);
  fclose(file);
  return status;
}

static bool is_pub(const char *name) {
  size_t n = strlen(name);
  return n > 4 && name[0] != '.' && strcmp(name + n - 4, ".pub") == 0;
}

/* Marks the .pub files of a folder and, if keys are wanted, reads them. */
static fl_status visit_folder(const char *folder, mark *m, list *keys) {
  DIR *dir = opendir(folder);
  if (!dir) return fl_fail(FEDLANE_IO, "%s cannot be read: %s", folder, strerror(errno));
  fl_status status = FEDLANE_OK;
  uint64_t sum = 0;
  for (struct dirent *d; status == FEDLANE_OK && (d = readdir(dir));) {
    char path[PATH_BYTES], name[256];
    struct stat info;
    if (!is_pub(d->d_name)) continue;
    snprintf(path, sizeof path, "%s/%s", folder, d->d_name);
    if (stat(path, &info) != 0) continue; /* taken out meanwhile */
    mark one = {.old = m->old};
    mix_file(&one, d->d_name, &info);
    sum += one.sum; /* in any order */
    m->old = one.old;
    snprintf(name, sizeof name, "%.*s", (int)(strlen(d->d_name) - 4), d->d_name);
    if (keys) status = read_file(path, name, keys);
  }
  closedir(dir);
  mix(m, sum);
  return status;
}

/* Marks the list as it is now; keys: reads it, too. */
static fl_status visit(const char *path, mark *m, list *keys) {
  struct stat info;
  *m = (mark){.old = true};
  if (stat(path, &info) != 0)
    return fl_fail(FEDLANE_IO, "%s cannot be read: %s", path, strerror(errno));
  mix_file(m, "", &info);
  if (S_ISDIR(info.st_mode)) return visit_folder(path, m, keys);
  return keys ? read_file(path, "", keys) : FEDLANE_OK;
}

static int compare(const void *a, const void *b) { return memcmp(a, b, FL_KEY_CHARACTERS); }

static bool same(const list *a, const list *b) {
  if (a->n != b->n) return false;
  for (size_t i = 0; i < a->n; i++)
    if (strcmp(a->at[i].key, b->at[i].key) != 0 || strcmp(a->at[i].name, b->at[i].name) != 0)
      return false;
  return true;
}

fl_status fl_allow_refresh(fl_allow *allow, bool *changed) {
  mark m;
  list keys = {0};
  *changed = false;
  FL_TRY(visit(allow->path, &m, NULL));
  if (m.old && allow->mark.old && m.sum == allow->mark.sum) return FEDLANE_OK;
  fl_status status = visit(allow->path, &m, &keys);
  if (status == FEDLANE_OK) {
    allow->mark = m;
    if (keys.n) qsort(keys.at, keys.n, sizeof *keys.at, compare);
    *changed = !same(&keys, &allow->keys);
  }
  if (*changed) {
    list before = allow->keys;
    pthread_rwlock_wrlock(&allow->lock);
    allow->keys = keys;
    pthread_rwlock_unlock(&allow->lock);
    keys = before;
  }
  free(keys.at);
  return status;
}

fl_status fl_allow_open(const char *path, fl_allow **out) {
  size_t n = strlen(path) + 1;
  bool changed;
  fl_allow *allow = *out = calloc(1, sizeof *allow + n);
  if (!allow) return fl_fail(FEDLANE_MEMORY, "no memory for a list of keys");
  memcpy(allow->path, path, n);
  pthread_rwlock_init(&allow->lock, NULL);
  fl_status status = fl_allow_refresh(allow, &changed);
  if (status != FEDLANE_OK) fl_allow_close(out);
  return status;
}

void fl_allow_close(fl_allow **allow) {
  if (*allow) {
    pthread_rwlock_destroy(&(*allow)->lock);
    free((*allow)->keys.at);
  }
  free(*allow);
  *allow = NULL;
}

bool fl_allow_has(const fl_allow *allow, const char *key, char *name) {
  pthread_rwlock_t *lock = &((fl_allow *)(uintptr_t)allow)->lock;
  if (strlen(key) != FL_KEY_CHARACTERS) return false;
  pthread_rwlock_rdlock(lock);
  const list *keys = &allow->keys;
  const entry *found = keys->n ? bsearch(key, keys->at, keys->n, sizeof *keys->at, compare) : NULL;
  if (found && name) memcpy(name, found->name, sizeof found->name);
  pthread_rwlock_unlock(lock);
  return found != NULL;
}
