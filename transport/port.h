/* Ports: the sockets that the frames of a fleet pass. Only port.c, port_mail.c, blob.c and guard.c
 * include zmq.h.
 *
 * A coordinator binds: a ROUTER for control and a PULL for the pipeline of updates. A peer
 * connects: a DEALER, and a PUSH once it knows where. Which transport carries them is a link, a
 * record found by the address's scheme: loopback://NAME within a process, ipc://PATH within a
 * machine, tcp://HOST:PORT beyond. Lost connections are made again by themselves, but those of
 * loopback; those of tcp on which the other machine is silent are closed by the kernel after about
 * `patience`. That the other program lives it does not know.
 *
 * On addresses that other machines can reach both sides have keys (CURVE): keys.h. Nothing is
 * delivered from a key that is not allowed, or sent to one. Loopback has no keys.
 *
 * A port is used by one thread at a time; a connected one's pipeline may be used by another than
 * its control, one at a time. */
#ifndef FL_PORT_H
#define FL_PORT_H

#include "keys.h"
#include "wire.h"

/* A link: a constant record in list.c. */
typedef struct fl_link {
  fl_record record;   /* name: the scheme */
  const char *prefix; /* of ZeroMQ's endpoint, such as "inproc://" */
  bool process;       /* reaches only this process */
  bool file;          /* the endpoint is a file; updates go to another one beside it */
  bool network;       /* other machines may reach it, unless it is a loopback address */
} fl_link;

extern const fl_catalogue fl_links; /* entries are fl_link */

/* Bytes that are handed on without copies; freed when the last holder lets go. */
typedef struct fl_blob fl_blob;
fl_status fl_blob_open(size_t n, fl_blob **out);
void *fl_blob_at(const fl_blob *blob); /* may be unaligned in one that was received */
size_t fl_blob_size(const fl_blob *blob);
/* Another holder of the same bytes, which nobody may change from now on. */
fl_status fl_blob_share(const fl_blob *blob, fl_blob **out);
void fl_blob_close(fl_blob **blob);

enum { FL_ROUTE_BYTES = 16, FL_KEY_TEXT = 41 };

/* Where a peer can be reached; as long as its connection lives. n 0: nowhere. */
typedef struct fl_route {
  uint8_t n, at[FL_ROUTE_BYTES];
  char key[FL_KEY_TEXT]; /* that of the letter; filled up with 0 */
} fl_route;

/* What has arrived: one message, not yet read. */
typedef struct fl_letter {
  fl_route route;        /* n 0: from the pipeline, or from the coordinator */
  char key[FL_KEY_TEXT]; /* public key of the sender, authenticated; "": keys are not in use */
  fl_blob *head, *body;  /* body: NULL when there is one frame. Owned by the receiver */
} fl_letter;
void fl_letter_close(fl_letter *letter);

typedef enum fl_sent {
  FL_SENT,
  FL_SENT_FULL, /* the other side has not taken what was sent before; nothing was sent */
  FL_SENT_GONE, /* there is no such connection (any more), or its key is not allowed any more */
} fl_sent;

typedef struct fl_port fl_port;

typedef struct fl_port_options {
  fl_security security;
  double patience; /* seconds of silence after which a connection is closed; 0: never */
  int queue;       /* messages waiting for a peer at most; 0: 1,000. From one: as many, but 64 */
} fl_port_options;

/* Binds `address`, and an endpoint for the pipeline that belongs to it: loopback://NAME.updates,
 * ipc://PATH.updates, or the next port (port 0: any two free ones). A host of * is every interface.
 * An ipc path's file is made with mode 0600; one left behind by a dead process is replaced.
 * Errors: USAGE for an address that is none, or one that other machines can reach without keys
 * unless security.insecure; IO when it cannot be bound. */
fl_status fl_port_bind(const char *address, const fl_port_options *options, fl_port **out);
/* The address that peers connect to, with the port that was found (a host of * stays); of the
 * pipeline, where the host is always '*': peers know under which name they found this one. Owned
 * by the port. */
const char *fl_port_address(const fl_port *port);
const char *fl_port_pipeline(const fl_port *port);
/* Connects to a coordinator, which need not be there yet. Errors: USAGE as above. */
fl_status fl_port_connect(const char *address, const fl_port_options *options, fl_port **out);
/* Connects the pipeline of a connected port, with the host of its address in place of '*'. */
fl_status fl_port_join_pipeline(fl_port *port, const char *pipeline);
/* Frees it; what has been sent is given `linger` seconds to leave. Accepts NULL; nulls *port. */
void fl_port_close(fl_port **port, double linger);

/* Sends head (copied) and body (taken over, also on failure; NULL: none). route: a bound port's
 * peer; NULL for a connected port. pipeline: of a connected port through its PUSH. Never waits
 * longer than `seconds`. */
fl_sent fl_port_send(fl_port *port, const fl_route *route, bool pipeline, double seconds,
                     const void *head, size_t n, fl_blob *body);
/* Waits at most `seconds` for a letter; *any says whether one came. Letters without a first frame,
 * of more than two, or with a route that is too long are dropped and counted. Control comes before
 * the pipeline, which has its turn after 64 letters at the latest. Errors: IO, MEMORY. A signal
 * that arrives ends the waiting. */
fl_status fl_port_receive(fl_port *port, double seconds, fl_letter *out, bool *any);
/* Letters dropped so far because of their form, or of a key that is not allowed any more. */
uint64_t fl_port_dropped(const fl_port *port);

#endif
