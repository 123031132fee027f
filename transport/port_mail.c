/* Letters: frames that belong together, sent and received as one. */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#include "port_parts.h"

enum {
  STREAK = 64, /* letters from control before the pipeline has its turn */
  DROPS = 64,  /* letters dropped in one call at most */
};

/* A frame that is tried at once and then, if the queue is full, for `seconds`. */
static fl_sent send_first(void *socket, zmq_msg_t *message, int more, double seconds) {
  int rc = zmq_msg_send(message, socket, ZMQ_DONTWAIT | more), ms = fl_milliseconds(seconds);
  if (rc < 0 && errno == EAGAIN && ms > 0) {
    zmq_setsockopt(socket, ZMQ_SNDTIMEO, &ms, sizeof ms);
    rc = zmq_msg_send(message, socket, more);
  }
  if (rc >= 0) return FL_SENT;
  fl_sent sent = errno == EAGAIN || errno == EINTR ? FL_SENT_FULL : FL_SENT_GONE;
  zmq_msg_close(message);
  return sent;
}

static bool copy(zmq_msg_t *message, const void *bytes, size_t n) {
  if (zmq_msg_init_size(message, n) != 0) return false;
  if (n > 0) memcpy(zmq_msg_data(message), bytes, n);
  return true;
}

/* Once the first frame is on its way the others follow, or the connection has ended in between. */
static fl_sent send_next(void *socket, zmq_msg_t *message, int more) {
  if (zmq_msg_send(message, socket, ZMQ_DONTWAIT | more) >= 0) return FL_SENT;
  zmq_msg_close(message);
  return FL_SENT_FULL;
}

static fl_sent send_frames(void *socket, const fl_route *route, double seconds, zmq_msg_t *head,
                           zmq_msg_t *body) {
  zmq_msg_t first;
  fl_sent sent = FL_SENT_FULL;
  int more = body ? ZMQ_SNDMORE : 0;
  if (!route)
    sent = send_first(socket, head, more, seconds);
  else if (copy(&first, route->at, route->n))
    sent = send_first(socket, &first, ZMQ_SNDMORE, seconds);
  if (route && sent == FL_SENT)
    sent = send_next(socket, head, more);
  else if (route)
    zmq_msg_close(head);
  if (!body) return sent;
  if (sent == FL_SENT) return send_next(socket, body, 0);
  zmq_msg_close(body);
  return sent;
}

fl_sent fl_port_send(fl_port *port, const fl_route *route, bool pipeline, double seconds,
                     const void *head, size_t n, fl_blob *body) {
  void *socket = pipeline ? port->updates : port->control;
  zmq_msg_t first, second;
  bool known = socket && port->bound == (route && route->n > 0);
  if (!known || (port->allow && !fl_allow_has(port->allow, route->key, NULL))) {
    fl_blob_close(&body);
    return FL_SENT_GONE;
  }
  if (!copy(&first, head, n)) {
    fl_blob_close(&body);
    return FL_SENT_FULL;
  }
  if (body && !fl_blob_post(body, &second)) {
    zmq_msg_close(&first);
    return FL_SENT_FULL;
  }
  return send_frames(socket, port->bound ? route : NULL, seconds, &first, body ? &second : NULL);
}

void fl_letter_close(fl_letter *letter) {
  fl_blob_close(&letter->head);
  fl_blob_close(&letter->body);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The frames of one letter as they come; those past the third are counted, not kept. */
typedef struct frames {
  fl_blob *at[3];
  int n;
} frames;

/* Reads a frame; *any stays false when none is there, which can only be so of a letter's first. */
static fl_status read_frame(void *socket, frames *f, bool *any, bool *more) {
  fl_blob *frame = NULL;
  *more = false;
  FL_TRY(fl_blob_wait(&frame));
  zmq_msg_t *message = fl_blob_message(frame);
  int rc;
  do rc = zmq_msg_recv(message, socket, ZMQ_DONTWAIT);
  while (rc < 0 && errno == EINTR && f->n > 0);
  if (rc < 0) {
    int error = errno;
    fl_blob_close(&frame);
    if (error == EAGAIN || error == EINTR) return FEDLANE_OK;
    return fl_fail(FEDLANE_IO, "nothing can be received: %s", zmq_strerror(error));
  }
  *any = true;
  *more = zmq_msg_more(message);
  fl_blob_arrived(frame);
  if (f->n < FL_COUNT(f->at))
    f->at[f->n] = frame;
  else
    fl_blob_close(&frame);
  f->n++;
  return FEDLANE_OK;
}

/* Whose frame it is, as the guard told ZeroMQ; false: one whose key is not allowed (any more). */
static bool read_key(const fl_port *port, fl_blob *frame, char key[FL_KEY_TEXT]) {
  if (!port->allow) return true;
  const char *who = zmq_msg_gets(fl_blob_message(frame), "User-Id");
  if (!who || !fl_allow_has(port->allow, who, NULL)) return false;
  memcpy(key, who, FL_KEY_TEXT);
  return true;
}

/* Makes a letter of the frames, which it takes over; false: they are none. */
static bool make_letter(const fl_port *port, frames *f, bool routed, fl_letter *out) {
  int first = routed ? 1 : 0, n = f->n - first;
  size_t route = routed ? fl_blob_size(f->at[0]) : 0;
  bool good = (n == 1 || n == 2) && fl_blob_size(f->at[first]) > 0 && route <= FL_ROUTE_BYTES &&
              routed == (route > 0);
  *out = (fl_letter){0};
  good = good && read_key(port, f->at[first], out->key);
  if (good && routed) {
    memcpy(out->route.at, fl_blob_at(f->at[0]), route);
    memcpy(out->route.key, out->key, sizeof out->key);
  }
  out->route.n = (uint8_t)(good ? route : 0);
  for (int i = 0; i < FL_COUNT(f->at); i++)
    if (good && i == first)
      out->head = f->at[i];
    else if (good && i == first + 1)
      out->body = f->at[i];
    else
      fl_blob_close(&f->at[i]);
  return good;
}

/* Takes a letter if one is there. One that is none is counted: *any, and no head. */
static fl_status take(fl_port *port, void *socket, fl_letter *out, bool *any) {
  frames f = {.n = 0};
  bool more = true;
  fl_status status = FEDLANE_OK;
  *any = false;
  if (!socket) return FEDLANE_OK;
  while (more && status == FEDLANE_OK) status = read_frame(socket, &f, any, &more);
  if (status != FEDLANE_OK || !*any) {
    for (int i = 0; i < FL_COUNT(f.at); i++) fl_blob_close(&f.at[i]);
    return status;
  }
  if (!make_letter(port, &f, port->bound && socket == port->control, out)) port->dropped++;
  return FEDLANE_OK;
}

/* Control first, but for a turn of the pipeline after a streak of its letters. */
static fl_status take_next(fl_port *port, fl_letter *out, bool *any) {
  void *updates = port->bound ? port->updates : NULL;
  bool turn = port->streak >= STREAK;
  *any = false;
  if (turn) port->streak = 0;
  if (turn) FL_TRY(take(port, updates, out, any));
  if (!*any) FL_TRY(take(port, port->control, out, any));
  if (*any && !turn) port->streak++;
  if (*any) return FEDLANE_OK;
  port->streak = 0;
  return take(port, updates, out, any);
}

/* Waits for either socket; *on is false once a signal has come. */
static fl_status wait_for_letter(fl_port *port, double seconds, bool *on) {
  zmq_pollitem_t item[] = {{.socket = port->control, .events = ZMQ_POLLIN},
                           {.socket = port->updates, .events = ZMQ_POLLIN}};
  int rc = zmq_poll(item, port->bound ? 2 : 1, fl_milliseconds(seconds));
  *on = rc >= 0;
  if (rc < 0 && errno != EINTR)
    return fl_fail(FEDLANE_IO, "nothing can be waited for: %s", zmq_strerror(errno));
  return FEDLANE_OK;
}

fl_status fl_port_receive(fl_port *port, double seconds, fl_letter *out, bool *any) {
  double end = -1;
  bool on = true;
  *out = (fl_letter){0};
  *any = false;
  for (int drops = 0; on && drops < DROPS;) {
    bool taken;
    FL_TRY(take_next(port, out, &taken));
    *any = taken && out->head;
    if (*any) return FEDLANE_OK;
    drops += taken;
    if (taken) continue;
    double t = seconds > 0 ? now() : 0;
    if (end < 0) end = t + seconds;
    if (!(t < end)) return FEDLANE_OK;
    FL_TRY(wait_for_letter(port, end - t, &on));
  }
  return FEDLANE_OK;
}

uint64_t fl_port_dropped(const fl_port *port) { return port->dropped; }
