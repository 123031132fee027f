/* Keys: who may take part. CURVE (elliptic-curve encryption, as in ZeroMQ) with a long-lived pair
 * of keys a machine. Keys are text: 40 characters of Z85.
 *
 * A key file is `NAME.key` with the secret key, mode 0600, beside `NAME.pub` with the public one.
 * Both are lines "fedlane public: ..." and "fedlane secret: ..."; lines that begin with '#' are
 * comments. The list of keys that a coordinator allows is a folder of .pub files, or a text file:
 * lines of a public key and, after a blank, a name; .pub files one after the other make one. It is
 * read again when it has changed, a second later at most, so a key is revoked by taking it out:
 * from then on nothing that comes from it is delivered, and nothing is sent to it. */
#ifndef FL_KEYS_H
#define FL_KEYS_H

#include "status.h"

enum { FL_KEY_CHARACTERS = 40 };

typedef struct fl_key_pair {
  char open[FL_KEY_CHARACTERS + 1];   /* public */
  char secret[FL_KEY_CHARACTERS + 1]; /* "": not known */
} fl_key_pair;

/* What a port is told of keys. Texts are the caller's; NULL or "": not given. */
typedef struct fl_security {
  const char *own;    /* file with this machine's secret key */
  const char *server; /* of a peer: the coordinator's public key, or a .pub file */
  const char *allow;  /* of a coordinator: the list of allowed keys; not given: none is allowed */
  bool insecure;      /* go without keys on any address */
} fl_security;

/* Makes a pair. Errors: UNSUPPORTED when ZeroMQ was built without CURVE. */
fl_status fl_keys_make(fl_key_pair *pair);
/* Writes folder/name.key (0600) and folder/name.pub; makes the folder (0700). Errors: USAGE when
 * one of them is there already, IO. */
fl_status fl_keys_save(const fl_key_pair *pair, const char *folder, const char *name);
/* Reads a .key or .pub file. Errors: IO, USAGE with file, line and what is allowed; also for a file
 * with a secret that others may read. Secrets never get into a sentence. */
fl_status fl_keys_load(const char *path, fl_key_pair *pair);
/* A public key from 40 characters or from a file. */
fl_status fl_keys_public(const char *text, char out[FL_KEY_CHARACTERS + 1]);

/* The list of allowed keys. Any thread may ask while one refreshes. Errors: IO, USAGE with file and
 * line. */
typedef struct fl_allow fl_allow;
fl_status fl_allow_open(const char *path, fl_allow **out);
void fl_allow_close(fl_allow **allow);
/* Whether a key may take part; *name (at most 64 bytes and 0; NULL: not
 * wanted) gets what the list calls it. Cost: a binary search. */
bool fl_allow_has(const fl_allow *allow, const char *key, char *name);
/* Reads the list again if it has changed since; *changed says so. A list that cannot be read keeps
 * the keys as they were. Cost: a stat or, of a folder, one a file. */
fl_status fl_allow_refresh(fl_allow *allow, bool *changed);

#endif
