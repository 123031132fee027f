#include "algorithms.h"

typedef struct feddyn_args {
  double alpha;
} feddyn_args;

/* Server slot 0: h. Client slot 0: h_i, the gradient of the client's loss at its last optimum. */

/* The gradient of -<h_i, w> + alpha/2 * |w - w0|^2. */
static int terms(const void *args, const fl_lanes *lanes, fl_term *out) {
  const feddyn_args *a = args;
  out[0] = (fl_term){-1, fl_const(lanes->slot[0])};
  out[1] = (fl_term){(float)a->alpha, fl_const(lanes->w)};
  out[2] = (fl_term){(float)-a->alpha, lanes->w0};
  return 3;
}

static fl_status finish(const void *args, fl_lanes *lanes) {
  const feddyn_args *a = args;
  return fl_lanes_axpby(lanes, fl_all(-a->alpha), fl_const(lanes->up[0]), 1, lanes->slot[0]);
}

/* h -= alpha * (m/N) * mean, then w = mean of the clients' models - h / alpha. */
static fl_status apply(const void *args, fl_server *server, float *const *mean) {
  const feddyn_args *a = args;
  double share = (double)server->arrived / server->population;
  FL_TRY(fl_server_axpby(server, -a->alpha * share, mean[0], 1, server->slot[0]));
  FL_TRY(fl_server_axpby(server, server->lr, mean[0], 1, server->w));
  return fl_server_axpby(server, -server->lr / a->alpha, server->slot[0], 1, server->w);
}

static const fl_param params[] = {
    {.name = "alpha",
     .type = FL_REAL,
     .offset = offsetof(feddyn_args, alpha),
     .dflt = 0.01,
     .lo = 0,
     .hi = 1e6,
     .flags = FL_LO_OPEN,
     .help = "strength of the dynamic regulariser; larger keeps clients closer together"},
};

const fl_algorithm fl_feddyn = {
    .record = {.name = "feddyn",
               .help = "dynamic regularisation: the clients' optima agree with the server's",
               .paper = "Acar et al., Federated Learning Based on Dynamic Regularization, ICLR "
                        "2021, arXiv:2111.04263",
               .args_size = sizeof(feddyn_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .weighting = FL_UNIFORM,
    .server_lr = 1,
    .n_server_slot = 1,
    .n_client_slot = 1,
    .n_update = 1,
    .terms = terms,
    .finish = finish,
    .apply = apply,
};
