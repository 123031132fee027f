#include "backend.h"
#include "cuda.h"

#ifdef FL_CUDA_ON_HOST
static const char name[] = "cuda-on-host";
static const char help[] = "the CUDA kernels run by the host, a fiber a thread: slow, for tests";
#else
static const char name[] = "cuda";
static const char help[] = "our own CUDA kernels, every lane in one launch";
#endif

/* The slots in the order of ops.h. */
extern "C" const fl_ops fl_cuda_ops = {
    {name, help, NULL, 0, NULL, 0},
    false,
    fl_cuda_count,
    fl_cuda_open,
    fl_cuda_close,
    fl_cuda_room,
    fl_cuda_alloc,
    fl_cuda_release,
    fl_cuda_upload,
    fl_cuda_download,
    fl_cuda_sync,
    fl_cuda_gather,
    fl_cuda_normal,
    fl_cuda_uniform,
    fl_cuda_dense_fwd,
    fl_cuda_dense_bwd_data,
    fl_cuda_dense_bwd_weights,
    fl_cuda_conv_fwd,
    fl_cuda_conv_bwd_data,
    fl_cuda_conv_bwd_weights,
    fl_cuda_pool_fwd,
    fl_cuda_pool_bwd,
    fl_cuda_gnorm_fwd,
    fl_cuda_gnorm_bwd_data,
    fl_cuda_gnorm_bwd_weights,
    fl_cuda_act_fwd,
    fl_cuda_act_bwd,
    fl_cuda_dropout,
    fl_cuda_flatten,
    fl_cuda_depthwise_fwd,
    fl_cuda_depthwise_bwd_data,
    fl_cuda_depthwise_bwd_weights,
    fl_cuda_columns,
    fl_cuda_embed_fwd,
    fl_cuda_embed_bwd_weights,
    fl_cuda_lstm_fwd,
    fl_cuda_lstm_bwd,
    fl_cuda_gru_fwd,
    fl_cuda_gru_bwd,
    fl_cuda_last,
    fl_cuda_shift_fwd,
    fl_cuda_shift_bwd_weights,
    fl_cuda_waves,
    fl_cuda_attend_fwd,
    fl_cuda_attend_bwd,
    fl_cuda_xent,
    fl_cuda_regress,
    fl_cuda_step,
    fl_cuda_axpby,
    fl_cuda_fill,
    fl_cuda_measure,
    fl_cuda_clip,
    fl_cuda_adaptive,
    fl_cuda_mix,
    fl_cuda_add64,
    fl_cuda_unmix,
    nullptr, /* dense_bwd: the two halves have launches of their own */
    nullptr, /* fetch */
    nullptr, /* dense_pick_fwd: gather is a launch beside others */
    nullptr, /* dense_pick_bwd_weights */
    fl_cuda_conv_relu_fwd,
    fl_cuda_pool_relu_bwd,
    fl_cuda_conv_bwd_data_relu,
    fl_cuda_product_measure,
    fl_cuda_product_mix,
    fl_cuda_capture,
    fl_cuda_play,
    fl_cuda_gather64,
    fl_cuda_spread,
    fl_cuda_energy,
    fl_cuda_resident,
    &fl_cuda_tie,
};
