/* What the files of a port share: where an address points to, bytes as ZeroMQ's messages, and the
 * guard at the door. */
#ifndef FL_PORT_PARTS_H
#define FL_PORT_PARTS_H

#include "guard.h"
#include "port.h"

enum { FL_ENDPOINT_BYTES = 320, FL_HOST_BYTES = 256, FL_FILE_BYTES = 108 };

/* port_address.c: an address taken apart. */
typedef struct fl_place {
  const fl_link *link;
  char host[FL_HOST_BYTES]; /* of a network: without brackets; else the name or the whole path */
  int port;                 /* of a network; 0: any */
  bool local;               /* no other machine can reach it */
} fl_place;

/* Takes `address` apart; bind: '*' and port 0 are allowed. "localhost" becomes 127.0.0.1, a path
 * one that begins at the root. Errors: USAGE. */
fl_status fl_place_read(const char *address, bool bind, fl_place *out);
/* The place of the pipeline beside it. Errors: USAGE where there is none. */
fl_status fl_place_pipeline(const fl_place *place, fl_place *out);
/* Writes it behind a prefix: that of ZeroMQ, or as the user writes it. Port 0 becomes '*' for
 * ZeroMQ. */
void fl_place_endpoint(const fl_place *place, char out[FL_ENDPOINT_BYTES]);
void fl_place_address(const fl_place *place, char out[FL_ENDPOINT_BYTES]);
/* Errors: USAGE unless keys are given on both sides, or are not needed. */
fl_status fl_place_secure(const fl_place *place, bool bind, const fl_security *security);

/* port_file.c: a listening socket at `path`, of mode 0600 before anyone can connect. Replaces one
 * where nobody listens any more. Errors: IO; also where something listens, or lies, already. */
fl_status fl_file_listen(const char *path, int *fd);

/* port.c: the sockets. */
struct fl_port {
  void *context, *control, *updates; /* updates: NULL until a peer joins the pipeline */
  bool bound;
  int queue, patience_ms;
  fl_place place;
  char address[FL_ENDPOINT_BYTES], pipeline[FL_ENDPOINT_BYTES];
  char file[2][FL_HOST_BYTES]; /* socket files, removed at the end */
  fl_key_pair own;             /* no keys: all 0 */
  char server[FL_KEY_TEXT];    /* of a peer: the coordinator's key */
  fl_allow *allow;             /* of a bound port with keys; else NULL */
  fl_guard *guard;
  int streak; /* letters from control since the pipeline's last turn */
  uint64_t dropped;
};

/* Rounded up, so that no wait ends too early only to be taken up again. */
int fl_milliseconds(double seconds);

/* A blob for what arrives; fl_blob_message is where ZeroMQ puts it, and fl_blob_arrived then reads
 * its size. */
fl_status fl_blob_wait(fl_blob **out);
void *fl_blob_message(fl_blob *blob);
void fl_blob_arrived(fl_blob *blob);
/* Makes *message (zmq_msg_t) of a blob, which it takes over. False: no memory; the blob is closed.
 */
bool fl_blob_post(fl_blob *blob, void *message);

#endif
