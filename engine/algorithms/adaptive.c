#include "algorithms.h"

/* FedAdam, FedYogi and FedAdagrad: one server step in three flavours.
 * Server slot 0: the first moment m; slot 1: the second moment v. Both start at 0. */

typedef struct adaptive_args {
  double beta1, beta2, tau;
} adaptive_args;

static fl_status apply(const void *args, fl_server *server, float *const *mean, fl_adaptive kind) {
  const adaptive_args *a = args;
  return server->ops->adaptive(server->dev, server->P, kind, (float)server->lr, (float)a->beta1,
                               (float)a->beta2, (float)a->tau, mean[0], server->slot[0],
                               server->slot[1], server->w);
}

static fl_status apply_adam(const void *args, fl_server *server, float *const *mean) {
  return apply(args, server, mean, FL_ADAM);
}

static fl_status apply_yogi(const void *args, fl_server *server, float *const *mean) {
  return apply(args, server, mean, FL_YOGI);
}

static fl_status apply_adagrad(const void *args, fl_server *server, float *const *mean) {
  return apply(args, server, mean, FL_ADAGRAD);
}

#define BETA1(value)                                                                             \
  {                                                                                              \
    .name = "beta1", .type = FL_REAL, .offset = offsetof(adaptive_args, beta1), .dflt = (value), \
    .lo = 0, .hi = 1, .flags = FL_HI_OPEN, .help = "decay of the first moment"                   \
  }
#define BETA2                                                                                 \
  {                                                                                           \
    .name = "beta2", .type = FL_REAL, .offset = offsetof(adaptive_args, beta2), .dflt = 0.99, \
    .lo = 0, .hi = 1, .flags = FL_HI_OPEN, .help = "decay of the second moment"               \
  }
#define TAU                                                                                        \
  {                                                                                                \
    .name = "tau", .type = FL_REAL, .offset = offsetof(adaptive_args, tau), .dflt = 1e-3, .lo = 0, \
    .hi = 1e6, .flags = FL_LO_OPEN,                                                                \
    .help = "added to the root of the second moment: less is more adaptive"                        \
  }

static const fl_param moments[] = {BETA1(0.9), BETA2, TAU};
static const fl_param accumulator[] = {BETA1(0.0), TAU};

#define ADAPTIVE(label, text, params, step)                                                      \
  {                                                                                              \
    .record = {.name = (label),                                                                  \
               .help = (text),                                                                   \
               .paper =                                                                          \
                   "Reddi et al., Adaptive Federated Optimization, ICLR 2021, arXiv:2003.00295", \
               .args_size = sizeof(adaptive_args),                                               \
               .param = (params),                                                                \
               .n_param = FL_COUNT(params)},                                                     \
    .weighting = FL_BY_EXAMPLES, .server_lr = 0.01, .n_server_slot = 2, .n_update = 1,           \
    .apply = (step)                                                                              \
  }

const fl_algorithm fl_fedadam = ADAPTIVE("fedadam", "Adam on the server", moments, apply_adam);
const fl_algorithm fl_fedyogi = ADAPTIVE(
    "fedyogi", "Yogi on the server: its second moment changes slowly", moments, apply_yogi);
const fl_algorithm fl_fedadagrad =
    ADAPTIVE("fedadagrad", "Adagrad on the server", accumulator, apply_adagrad);
