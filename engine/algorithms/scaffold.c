#include "algorithms.h"

/* Server slot 0: c, the server's control variate. Client slot 0: c_i, the client's. */

static int terms(const void *args, const fl_lanes *lanes, fl_term *out) {
  (void)args;
  out[0] = (fl_term){1, lanes->broadcast[0]};
  out[1] = (fl_term){-1, fl_const(lanes->slot[0])};
  return 2;
}

/* Option II of the paper: c_i += dc with dc = -c - delta / (steps * lr). */
static fl_status finish(const void *args, fl_lanes *lanes) {
  (void)args;
  for (int c = 0; c < lanes->C; c++)
    lanes->coef[c] = (float)(-1.0 / ((double)lanes->n_step[c] * lanes->lr));
  fl_coef per_step = {0, lanes->coef};
  FL_TRY(fl_lanes_axpby(lanes, per_step, fl_const(lanes->up[0]), 0, lanes->up[1]));
  FL_TRY(fl_lanes_axpby(lanes, fl_all(-1), lanes->broadcast[0], 1, lanes->up[1]));
  return fl_lanes_axpby(lanes, fl_all(1), fl_const(lanes->up[1]), 1, lanes->slot[0]);
}

static fl_status apply(const void *args, fl_server *server, float *const *mean) {
  double share = (double)server->arrived / server->population;
  FL_TRY(fl_fedavg_apply(args, server, mean));
  return fl_server_axpby(server, share, mean[1], 1, server->slot[0]);
}

const fl_algorithm fl_scaffold = {
    .record = {.name = "scaffold",
               .help = "control variates on server and clients correct the drift of local steps",
               .paper = "Karimireddy et al., SCAFFOLD: Stochastic Controlled Averaging for "
                        "Federated Learning, ICML 2020, arXiv:1910.06378"},
    .weighting = FL_UNIFORM,
    .server_lr = 1,
    .n_server_slot = 1,
    .n_broadcast = 1,
    .n_client_slot = 1,
    .n_update = 2,
    .terms = terms,
    .finish = finish,
    .apply = apply,
};
