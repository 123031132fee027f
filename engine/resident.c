/* Local training in one launch, where the backend can keep a lane on chip: a step is written down
 * once and the backend repeats it. */
#include <stdlib.h>

#include "run.h"
#include "tape.h"

/* Writes the first step of n lanes down. */
static fl_status record(fedlane_run *run, fl_station *s, int n, fl_tape *tape) {
  const fl_ops *ops = s->lanes.ops;
  fl_dev *dev = s->lanes.dev;
  s->lanes.ops = &fl_tape_ops;
  s->lanes.dev = fl_tape_begin(tape);
  fl_status status = fl_train_piece(run, s, n, 0, fl_const(s->lanes.w));
  s->lanes.ops = ops;
  s->lanes.dev = dev;
  return status;
}

/* A station of one lane whose memory is never touched, for a step that is only written down. */
typedef struct pretence {
  fl_station station;
  float somewhere[16];
  float norm;
  uint32_t client, nth;
  int32_t rank, n_example, n_step, rows, step_rows, n_piece;
} pretence;

static void pretend(const fedlane_run *run, pretence *p) {
  fl_station *s = &p->station;
  fl_span any = {p->somewhere, 0};
  s->lanes = (fl_lanes){.C = 1,
                        .P = fl_model_about(run->model)->P,
                        .client = &p->client,
                        .nth = &p->nth,
                        .rank = &p->rank,
                        .n_example = &p->n_example,
                        .n_step = &p->n_step,
                        .coef = p->somewhere,
                        .w = any,
                        .w0 = fl_const(any)};
  for (int i = 0; i < FL_SLOTS; i++) {
    s->lanes.slot[i] = any;
    s->lanes.broadcast[i] = fl_const(any);
  }
  s->act = any;
  s->target = any;
  s->rows = &p->rows;
  s->norm = &p->norm;
  s->n_piece = &p->n_piece;
  s->index = &p->rank;
  s->source = (fl_source){
      .image = run->data.image, .n_label = run->data.n_label, .n_target = run->data.n_target};
  s->step_rows = &p->step_rows;
  p->n_example = run->schedule.batch;
  p->n_piece = run->schedule.epochs;
}

fl_status fl_resident_ask(fedlane_run *run) {
  const fl_devices *devices = &run->devices;
  if (!devices->ops->resident)
    return fl_fail(FEDLANE_UNSUPPORTED, "%s has no resident lanes", devices->ops->record.name);
  if (!run->config->train.resident) return fl_fail(FEDLANE_UNSUPPORTED, "train.resident is false");
  if (run->config->train.implicit == FL_IMPLY_ALWAYS)
    return fl_fail(FEDLANE_UNSUPPORTED, "train.implicit is always");
  if (!run->schedule.fused)
    return fl_fail(FEDLANE_UNSUPPORTED,
                   "momentum, clipping and steps from all examples need a gradient's buffer");
  if (run->data.counted) return fl_fail(FEDLANE_UNSUPPORTED, "some labels do not count");
  fl_tape *tape = malloc(sizeof *tape);
  pretence *p = calloc(1, sizeof *p);
  fl_status status = FEDLANE_OK;
  if (!tape || !p) {
    status = fl_fail(FEDLANE_MEMORY, "no memory for a tape");
    goto done;
  }
  pretend(run, p);
  FL_GO(record(run, &p->station, 1, tape));
  FL_GO(devices->ops->resident(devices->dev[0], tape, NULL));
done:
  free(tape);
  free(p);
  return status;
}

fl_status fl_resident_train(fedlane_run *run, fl_station *s, int n) {
  fl_lanes *l = &s->lanes;
  fl_tape tape;
  fl_pieces pieces = {.C = n,
                      .epochs = run->schedule.epochs,
                      .n_piece = s->n_piece + s->first,
                      .n_row = l->n_example + s->first,
                      .client = l->client + s->first,
                      .nth = l->nth + s->first};
  FL_TRY(record(run, s, n, &tape));
  return l->ops->resident(l->dev, &tape, &pieces);
}
