#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "safetensors.h"
#include "suite.h"

fl_status fl_fixture_open(const char *text, int n, const char *const *overrides, int flags,
                          fedlane_run **out) {
  fl_config *config = NULL;
  FL_TRY(fl_config_parse("test.yaml", text, n, overrides, &config));
  fl_status status = fl_run_open(&config, flags, out);
  fl_config_close(&config);
  return status;
}

float *fl_fixture_train(const char *text, int n, const char *const *overrides, int64_t *P,
                        fedlane_metrics *last) {
  fedlane_run *run = NULL;
  fedlane_metrics m;
  float *w = NULL;
  fl_status status = fl_fixture_open(text, n, overrides, 0, &run);
  while (status == FEDLANE_OK) {
    status = fedlane_round(run, &m);
    if (status == FEDLANE_OK && last) *last = m;
  }
  CU_ASSERT_EQUAL(status, FEDLANE_DONE);
  if (status == FEDLANE_DONE) {
    *P = run->server.P;
    w = malloc((size_t)(4 * *P));
    run->server.ops->download(run->server.dev, w, run->server.w, 4 * *P);
  } else {
    printf("run failed: %s (%s)\n", fedlane_error(), fl_fail_place());
  }
  fedlane_close(&run);
  return w;
}

void fl_fixture_same(const char *text, const char *a, const char *b) {
  int64_t p = 0, q = 0;
  float *x = fl_fixture_train(text, *a != 0, &a, &p, NULL);
  float *y = fl_fixture_train(text, *b != 0, &b, &q, NULL);
  CU_ASSERT_EQUAL(p, q);
  if (x && y && p == q) {
    bool same = memcmp(x, y, (size_t)(4 * p)) == 0;
    CU_ASSERT_TRUE(same);
    if (!same) printf("different bits: '%s' and '%s'\n", a, b);
  }
  free(x);
  free(y);
}

/* Solves the n x n system a x = b by elimination with pivots; a and b are used up. */
static void solve(int n, double *a, double *b) {
  for (int k = 0; k < n; k++) {
    int pivot = k;
    for (int i = k + 1; i < n; i++)
      if (fabs(a[i * n + k]) > fabs(a[pivot * n + k])) pivot = i;
    for (int j = 0; j < n; j++) {
      double t = a[k * n + j];
      a[k * n + j] = a[pivot * n + j];
      a[pivot * n + j] = t;
    }
    double t = b[k];
    b[k] = b[pivot];
    b[pivot] = t;
    for (int i = 0; i < n; i++) {
      if (i == k) continue;
      double f = a[i * n + k] / a[k * n + k];
      for (int j = k; j < n; j++) a[i * n + j] -= f * a[k * n + j];
      b[i] -= f * b[k];
    }
  }
  for (int k = 0; k < n; k++) b[k] /= a[k * n + k];
}

/* The normal equations over all rows: every client has as many, so the mean of means is the mean.
 */
static void find_best(fl_quadratics *q) {
  int n = q->features, rows = q->n_client * q->rows;
  double *a = calloc((size_t)(n * n), sizeof *a);
  q->best = calloc((size_t)n, sizeof *q->best);
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < n; i++) {
      q->best[i] += (double)q->x[r * n + i] * q->y[r];
      for (int j = 0; j < n; j++) a[i * n + j] += (double)q->x[r * n + i] * q->x[r * n + j];
    }
  solve(n, a, q->best);
  free(a);
}

static void write_rows(const fl_quadratics *q) {
  int all = q->n_client * q->rows;
  int32_t *client = calloc((size_t)all, sizeof *client);
  for (int r = 0; r < all; r++) client[r] = r / q->rows;
  fl_st_tensor out[] = {
      {.name = "x",
       .type = FL_F32,
       .n_dim = 2,
       .dim = {all, q->features},
       .count = all * q->features,
       .data = q->x},
      {.name = "y", .type = FL_F32, .n_dim = 1, .dim = {all}, .count = all, .data = q->y},
      {.name = "client", .type = FL_I32, .n_dim = 1, .dim = {all}, .count = all, .data = client}};
  CU_ASSERT_EQUAL_FATAL(fl_st_write(q->path, 3, out, 0, NULL), FEDLANE_OK);
  free(client);
}

void fl_quadratics_open(fl_quadratics *q, int n_client, int rows, int features, uint32_t seed) {
  fl_rng rng = fl_rng_open((fl_key){.seed = seed, .purpose = FL_FOR_DATA});
  int all = n_client * rows;
  *q = (fl_quadratics){.n_client = n_client, .rows = rows, .features = features};
  q->x = calloc((size_t)(all * features), sizeof *q->x);
  q->y = calloc((size_t)all, sizeof *q->y);
  for (int c = 0; c < n_client; c++) {
    double truth[64], scale[64];
    for (int i = 0; i < features; i++) {
      truth[i] = fl_rng_normal(&rng);
      scale[i] = 0.4 + 0.8 * fl_rng_unit(&rng);
    }
    for (int r = c * rows; r < (c + 1) * rows; r++) {
      double y = 0;
      for (int i = 0; i < features; i++) {
        q->x[r * features + i] = (float)(scale[i] * fl_rng_normal(&rng));
        y += truth[i] * q->x[r * features + i];
      }
      q->y[r] = (float)(y + 0.1 * fl_rng_normal(&rng));
    }
  }
  find_best(q);
  snprintf(q->path, sizeof q->path, "%s/quadratics.safetensors", fl_test_folder());
  write_rows(q);
}

void fl_quadratics_as_classes(fl_quadratics *q) {
  for (int r = 0; r < q->n_client * q->rows; r++) q->y[r] = q->y[r] > 0;
  write_rows(q);
}

void fl_quadratics_close(fl_quadratics *q) {
  free(q->x);
  free(q->y);
  free(q->best);
  memset(q, 0, sizeof *q);
}
