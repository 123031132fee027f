/* Joins a coordinator as one client, with data and training of its own: softmax regression, for
 * `model: {name: logistic}` and `fleet: {clients: real}`. FILE has numbers: of each example its
 * label, then its features. cc client.c $(pkg-config --cflags --libs fedlane) -lm */
#include <fedlane.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A step for one example, {label, features}, of n numbers. */
static void step(float lr, int64_t n_class, int64_t n, float *w, float *b, const float *example,
                 fedlane_trained *sum) {
  double p[256], all = 0, most = 0;
  int label = (int)example[0];
  for (int64_t c = 0; c < n_class; c++) {
    double z = b[c];
    for (int64_t i = 1; i < n; i++) z += w[c * (n - 1) + i - 1] * example[i];
    all += p[c] = exp(z);
    most = fmax(most, p[c]);
  }
  for (int64_t c = 0; c < n_class; c++) {
    float slope = lr * (float)(p[c] / all - (c == label));
    for (int64_t i = 1; i < n; i++) w[c * (n - 1) + i - 1] -= slope * example[i];
    b[c] -= slope;
  }
  sum->loss -= log(p[label] / all);
  sum->hits += p[label] >= most;
  sum->steps++;
}

int main(int argc, char **argv) {
  static float data[1 << 20];
  FILE *file = argc > 3 ? fopen(argv[2], "r") : NULL;
  if (!file) return fprintf(stderr, "usage: client ADDRESS FILE NAME [KEY SERVER]\n"), 2;
  int64_t numbers = 0, w, b, count, dim[4];
  while (numbers < 1 << 20 && fscanf(file, "%f", &data[numbers]) == 1) numbers++;
  fclose(file);

  fedlane_client *client = NULL;
  fedlane_client_options me = {.name = argv[3]};
  if (argc > 5) me.key = argv[4], me.server = argv[5];
  fedlane_task task = {0};
  fedlane_status status = fedlane_client_join(argv[1], &me, &client);
  while (status == FEDLANE_OK && task.kind != FEDLANE_TASK_DONE) {
    status = fedlane_client_next(client, 60, &task);
    if (status != FEDLANE_OK || task.kind != FEDLANE_TASK_TRAIN) continue;
    fedlane_client_tensor(client, "fc.bias", &b, &count, dim);
    fedlane_client_tensor(client, "fc.weight", &w, &count, dim); /* dim: classes, features */
    float *mine = malloc((size_t)task.elements * sizeof *mine);
    if (!mine) break;
    memcpy(mine, task.weights, (size_t)task.elements * sizeof *mine);
    int64_t n = dim[1] + 1;
    fedlane_trained trained = {.weights = mine, .examples = numbers / n};
    for (int64_t i = 0; i < task.epochs * trained.examples; i++)
      step((float)task.lr, dim[0], n, mine + w, mine + b, data + i % trained.examples * n,
           &trained);
    status = fedlane_client_send(client, &trained, NULL);
    free(mine);
  }
  if (status != FEDLANE_OK) fprintf(stderr, "%s\n", fedlane_error());
  fedlane_client_leave(&client);
  return status == FEDLANE_OK ? 0 : 1;
}
