/* The sockets of a port. */
#include "port.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "port_parts.h"

enum {
  QUEUE = 1000,  /* messages waiting for a peer, unless told otherwise */
  QUEUE_IN = 64, /* messages waiting from a peer, or in a pipeline: they may be of FL_FRAME_BYTES */
  HANDSHAKE_MS = 5000,
  CONNECT_MS = 10000,
  RECONNECT_MS = 100,
  RECONNECT_MAX_MS = 2000,
  BACKLOG = 4096,
  SOCKETS = 65535, /* of the context that all of a process's loopback ports share */
};

/* Loopback: ports of one process meet in one context, which lives as long as any of them. */
static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static void *shared_context;
static int shared_users;

static void *take_shared(void) {
  pthread_mutex_lock(&shared_lock);
  if (!shared_context) {
    shared_context = zmq_ctx_new();
    if (shared_context) zmq_ctx_set(shared_context, ZMQ_MAX_SOCKETS, SOCKETS);
  }
  void *context = shared_context;
  shared_users += context != NULL;
  pthread_mutex_unlock(&shared_lock);
  return context;
}

static void end_context(void *context) {
  while (zmq_ctx_term(context) != 0 && errno == EINTR) continue;
}

static void leave_shared(void) {
  pthread_mutex_lock(&shared_lock);
  if (--shared_users == 0) {
    end_context(shared_context);
    shared_context = NULL;
  }
  pthread_mutex_unlock(&shared_lock);
}

int fl_milliseconds(double seconds) {
  if (!(seconds > 0)) return 0;
  return seconds > 1e6 ? 1000000000 : (int)ceil(seconds * 1e3);
}

static fl_status set(void *socket, int option, int value) {
  if (zmq_setsockopt(socket, option, &value, sizeof value) == 0) return FEDLANE_OK;
  return fl_fail(FEDLANE_INTERNAL, "ZeroMQ does not take %d for its option %d: %s", value, option,
                 zmq_strerror(errno));
}

/* What the kernel does with a connection on which nothing comes back: one that is idle is asked
 * three times within the patience, and one whose data are not taken is closed after it. ZeroMQ's
 * own heartbeats are not used: one that is due when the queue is full and the other side has gone
 * ends the process (libzmq's assertions !_io_error and _input_stopped). */
static fl_status set_patience(void *socket, int ms) {
  enum { ASKED = 3, PERIOD_MAX = 32767 }; /* the kernel's bound, in seconds */
  if (ms == 0) return FEDLANE_OK;
  int period = ms / (1000 * ASKED);
  period = period < 1 ? 1 : period > PERIOD_MAX ? PERIOD_MAX : period;
  FL_TRY(set(socket, ZMQ_TCP_KEEPALIVE_IDLE, period));
  FL_TRY(set(socket, ZMQ_TCP_KEEPALIVE_INTVL, period));
  FL_TRY(set(socket, ZMQ_TCP_KEEPALIVE_CNT, ASKED - 1));
  return set(socket, ZMQ_TCP_MAXRT, ms);
}

static fl_status open_socket(fl_port *port, int type, void **out) {
  const struct {
    int option, value;
  } options[] = {
      {ZMQ_LINGER, 0},
      {ZMQ_SNDHWM, type == ZMQ_PUSH && port->queue > QUEUE_IN ? QUEUE_IN : port->queue},
      {ZMQ_RCVHWM, port->queue < QUEUE_IN ? port->queue : QUEUE_IN},
      {ZMQ_IPV6, 1},
      {ZMQ_TCP_KEEPALIVE, 1},
      {ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS},
      {ZMQ_CONNECT_TIMEOUT, CONNECT_MS},
      {ZMQ_RECONNECT_IVL, RECONNECT_MS},
      {ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS},
      {ZMQ_BACKLOG, BACKLOG},
  };
  int64_t longest = FL_FRAME_BYTES;
  void *socket = *out = zmq_socket(port->context, type);
  if (!socket) return fl_fail(FEDLANE_IO, "there is no socket left: %s", zmq_strerror(errno));
  for (int i = 0; i < FL_COUNT(options); i++)
    FL_TRY(set(socket, options[i].option, options[i].value));
  if (zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &longest, sizeof longest) != 0)
    return fl_fail(FEDLANE_INTERNAL, "ZeroMQ takes no limit of a message's size");
  if (type == ZMQ_ROUTER) FL_TRY(set(socket, ZMQ_ROUTER_MANDATORY, 1));
  if (*port->own.secret)
    FL_TRY(fl_guard_arm(socket, &port->own, port->bound ? NULL : port->server));
  return set_patience(socket, port->patience_ms);
}

static fl_status take_keys(fl_port *port, const fl_security *security) {
  FL_TRY(fl_keys_load(security->own, &port->own));
  if (!*port->own.secret)
    return fl_fail(FEDLANE_USAGE, "%s has no secret key; one's own is in a .key file",
                   security->own);
  if (!port->bound) return fl_keys_public(security->server, port->server);
  FL_TRY(fl_allow_open(security->allow, &port->allow));
  return fl_guard_open(port->context, port->allow, &port->guard);
}

static fl_status open_port(const char *address, bool bind, const fl_port_options *options,
                           fl_port **out) {
  fl_place place;
  FL_TRY(fl_place_read(address, bind, &place));
  if (!place.link->process) FL_TRY(fl_place_secure(&place, bind, &options->security));
  fl_port *port = *out = calloc(1, sizeof *port);
  if (!port) return fl_fail(FEDLANE_MEMORY, "no memory for a port");
  port->place = place;
  port->bound = bind;
  port->queue = options->queue > 0 ? options->queue : QUEUE;
  port->patience_ms = fl_milliseconds(options->patience);
  port->context = place.link->process ? take_shared() : zmq_ctx_new();
  if (!port->context) return fl_fail(FEDLANE_IO, "%s: %s", address, zmq_strerror(errno));
  fl_place_address(&place, port->address);
  if (!place.link->process && options->security.own && *options->security.own)
    FL_TRY(take_keys(port, &options->security));
  return open_socket(port, bind ? ZMQ_ROUTER : ZMQ_DEALER, &port->control);
}

/* The socket file is made here, because ZeroMQ would leave its mode to the process's umask and
 * remove whatever lies there. */
static fl_status bind_file(void *socket, const fl_place *place, char *file) {
  int fd = -1;
  FL_TRY(fl_file_listen(place->host, &fd));
  snprintf(file, FL_HOST_BYTES, "%s", place->host);
  return set(socket, ZMQ_USE_FD, fd);
}

/* Binds and finds out which port it was. */
static fl_status bind_socket(void *socket, fl_place *place, char *file) {
  char endpoint[FL_ENDPOINT_BYTES];
  size_t n = sizeof endpoint;
  if (place->link->file) FL_TRY(bind_file(socket, place, file));
  fl_place_endpoint(place, endpoint);
  if (zmq_bind(socket, endpoint) != 0 ||
      zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &n) != 0) {
    int error = errno;
    fl_place_address(place, endpoint);
    return fl_fail(FEDLANE_IO, "%s cannot be listened at: %s", endpoint, zmq_strerror(error));
  }
  const char *colon = strrchr(endpoint, ':');
  if (place->link->network && colon) place->port = (int)strtol(colon + 1, NULL, 10);
  return FEDLANE_OK;
}

static fl_status bind_port(fl_port *port) {
  fl_place beside;
  FL_TRY(fl_place_pipeline(&port->place, &beside));
  FL_TRY(open_socket(port, ZMQ_PULL, &port->updates));
  FL_TRY(bind_socket(port->control, &port->place, port->file[0]));
  FL_TRY(bind_socket(port->updates, &beside, port->file[1]));
  fl_place_address(&port->place, port->address);
  if (beside.link->network) snprintf(beside.host, sizeof beside.host, "*");
  fl_place_address(&beside, port->pipeline);
  return FEDLANE_OK;
}

fl_status fl_port_bind(const char *address, const fl_port_options *options, fl_port **out) {
  *out = NULL;
  fl_status status = open_port(address, true, options, out);
  if (status == FEDLANE_OK) status = bind_port(*out);
  if (status != FEDLANE_OK) fl_port_close(out, 0);
  return status;
}

static fl_status connect_socket(void *socket, const fl_place *place) {
  char endpoint[FL_ENDPOINT_BYTES];
  fl_place_endpoint(place, endpoint);
  if (zmq_connect(socket, endpoint) == 0) return FEDLANE_OK;
  int error = errno;
  fl_place_address(place, endpoint);
  return fl_fail(FEDLANE_USAGE, "%s cannot be connected to: %s", endpoint, zmq_strerror(error));
}

fl_status fl_port_connect(const char *address, const fl_port_options *options, fl_port **out) {
  *out = NULL;
  fl_status status = open_port(address, false, options, out);
  if (status == FEDLANE_OK) status = connect_socket((*out)->control, &(*out)->place);
  if (status != FEDLANE_OK) fl_port_close(out, 0);
  return status;
}

fl_status fl_port_join_pipeline(fl_port *port, const char *pipeline) {
  fl_place place;
  FL_TRY(fl_place_read(pipeline, true, &place));
  if (place.link != port->place.link || (place.link->network && place.port == 0))
    return fl_fail(FEDLANE_USAGE, "%s: no pipeline of %s lies there", pipeline, port->address);
  if (strcmp(place.host, "*") == 0) memcpy(place.host, port->place.host, sizeof place.host);
  if (port->updates) zmq_close(port->updates);
  FL_TRY(open_socket(port, ZMQ_PUSH, &port->updates));
  return connect_socket(port->updates, &place);
}

const char *fl_port_address(const fl_port *port) { return port->address; }

const char *fl_port_pipeline(const fl_port *port) { return port->pipeline; }

static void close_socket(void *socket, int linger_ms) {
  if (!socket) return;
  zmq_setsockopt(socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
  zmq_close(socket);
}

void fl_port_close(fl_port **port, double linger) {
  fl_port *p = *port;
  *port = NULL;
  if (!p) return;
  /* First, while no other process can have put its own in their place. */
  for (int i = 0; i < 2; i++)
    if (*p->file[i]) unlink(p->file[i]);
  close_socket(p->control, fl_milliseconds(linger));
  close_socket(p->updates, fl_milliseconds(linger));
  if (p->context && p->place.link->process) {
    leave_shared();
  } else if (p->context) {
    zmq_ctx_shutdown(p->context);
    fl_guard_close(&p->guard);
    end_context(p->context);
  }
  fl_allow_close(&p->allow);
  explicit_bzero(&p->own, sizeof p->own);
  free(p);
}
