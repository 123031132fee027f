/* The reference backend: every op as plain loops over lanes, rows and elements, with sums in
 * double, written to be read. It is the oracle of the tests; image activations are simply in
 * channel-height-width order. Each function is the slot of fl_ops with the same name. */
#ifndef FL_REF_H
#define FL_REF_H

#include "ops.h"

/* Where lane c of a span starts; NULL for a span that is absent. */
static inline const float *fl_ref_in(fl_cspan s, int c) { return s.at ? s.at + c * s.stride : 0; }
static inline float *fl_ref_out(fl_span s, int c) { return s.at ? s.at + c * s.stride : 0; }

int fl_ref_count(const char **why);
fl_status fl_ref_open(const fl_dev_options *options, fl_dev **out);
void fl_ref_close(fl_dev **dev);
fl_status fl_ref_room(fl_dev *d, int64_t *bytes);
fl_status fl_ref_alloc(fl_dev *d, int64_t bytes, void **out);
void fl_ref_release(fl_dev *d, void **at);
fl_status fl_ref_upload(fl_dev *d, void *dst, const void *src, int64_t bytes);
fl_status fl_ref_download(fl_dev *d, void *dst, const void *src, int64_t bytes);
fl_status fl_ref_sync(fl_dev *d);

fl_status fl_ref_gather(fl_dev *d, fl_batch b, const fl_source *source, const int32_t *index,
                        int64_t index_stride, const fl_draw *draw, fl_span x, int32_t *label,
                        fl_span target);
fl_status fl_ref_normal(fl_dev *d, int C, int64_t n, const fl_draw *draw, fl_coef deviation,
                        fl_span x);
fl_status fl_ref_uniform(fl_dev *d, int C, int64_t n, const fl_draw *draw, float lo, float hi,
                         fl_span x);

fl_status fl_ref_dense_fwd(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y);
fl_status fl_ref_dense_bwd_data(fl_dev *d, fl_batch b, int I, int O, fl_cspan dy, fl_cspan w,
                                fl_span dx);
fl_status fl_ref_dense_bwd_weights(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                   fl_coef scale, fl_span gw, fl_span gbias);
fl_status fl_ref_conv_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                          fl_cspan bias, fl_span y);
fl_status fl_ref_conv_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy, fl_cspan w,
                               fl_span dx);
fl_status fl_ref_conv_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                  fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias);
fl_status fl_ref_pool_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_span y);
fl_status fl_ref_pool_bwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_cspan y, fl_cspan dy, fl_span dx);
fl_status fl_ref_gnorm_fwd(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y, fl_span stat);
fl_status fl_ref_gnorm_bwd_data(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                fl_cspan w, fl_cspan stat, fl_cspan dy, fl_span dx);
fl_status fl_ref_gnorm_bwd_weights(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                   fl_cspan stat, fl_cspan dy, fl_coef scale, fl_span gw,
                                   fl_span gbias);
fl_status fl_ref_act_fwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan x, fl_span y);
fl_status fl_ref_act_bwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan saved, fl_cspan dy,
                         fl_span dx);
fl_status fl_ref_dropout(fl_dev *d, fl_batch b, int64_t n, float p, const fl_draw *draw, fl_cspan x,
                         fl_span y);
fl_status fl_ref_flatten(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y);

fl_status fl_ref_embed_fwd(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan w, fl_span y);
fl_status fl_ref_embed_bwd_weights(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan dy,
                                   fl_coef scale, fl_span gw);
fl_status fl_ref_lstm_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_span y, fl_span keep);
fl_status fl_ref_lstm_bwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy,
                          fl_span keep);
fl_status fl_ref_gru_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan bias, fl_span y,
                         fl_span keep);
fl_status fl_ref_gru_bwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy,
                         fl_span keep);
fl_status fl_ref_last(fl_dev *d, fl_batch b, int T, int F, bool back, fl_cspan x, fl_span y);
fl_status fl_ref_depthwise_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                               fl_cspan bias, fl_span y);
fl_status fl_ref_depthwise_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy,
                                    fl_cspan w, fl_span dx);
fl_status fl_ref_depthwise_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                       fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias);
fl_status fl_ref_columns(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y);

fl_status fl_ref_xent(fl_dev *d, fl_batch b, int K, fl_coef norm, const int32_t *label, fl_cspan z,
                      fl_span dz, double *loss, int64_t *hit);
fl_status fl_ref_regress(fl_dev *d, fl_batch b, int T, fl_regression kind, float delta,
                         fl_coef norm, fl_cspan target, fl_cspan z, fl_span dz, double *loss);

fl_status fl_ref_step(fl_dev *d, int C, int64_t n, fl_cspan g, fl_coef lr, int n_term,
                      const fl_term *term, fl_span w);
fl_status fl_ref_axpby(fl_dev *d, int C, int64_t n, fl_coef a, fl_cspan x, fl_coef b, fl_span y);
fl_status fl_ref_fill(fl_dev *d, int C, int64_t n, float value, fl_span y);
fl_status fl_ref_measure(fl_dev *d, int C, int64_t n, fl_cspan x, fl_measure *out);
fl_status fl_ref_clip(fl_dev *d, int C, int64_t n, float limit, fl_span y);
fl_status fl_ref_adaptive(fl_dev *d, int64_t n, fl_adaptive kind, float lr, float b1, float b2,
                          float eps, const float *u, float *m, float *v, float *w);

fl_status fl_ref_mix(fl_dev *d, int C, int64_t n, fl_cspan x, const double *factor,
                     int64_t *const *acc);
fl_status fl_ref_add64(fl_dev *d, int64_t n, const int64_t *x, int64_t *y);
fl_status fl_ref_unmix(fl_dev *d, int64_t n, int n_acc, const int64_t *const *acc,
                       const double *unit, float *out);

fl_status fl_ref_product_measure(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                 bool norm, fl_measure *out);
fl_status fl_ref_product_mix(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                             const double *factor, int64_t *const *acc);

#endif
