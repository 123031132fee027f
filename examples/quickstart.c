/* Trains a configuration through the library: cc quickstart.c $(pkg-config --cflags --libs fedlane)
 */
#include <fedlane.h>
#include <stdio.h>

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: quickstart CONFIG [key.path=value ...]\n");
    return 2;
  }
  fedlane_run *run = NULL;
  fedlane_metrics m;
  fedlane_status status = fedlane_open(argv[1], argc - 2, (const char *const *)argv + 2, 0, &run);
  while (status == FEDLANE_OK && (status = fedlane_round(run, &m)) == FEDLANE_OK)
    printf("round %d of %d: loss %.4f, accuracy %.4f\n", m.round, m.rounds, m.train_loss,
           m.train_accuracy);
  if (status == FEDLANE_DONE) status = fedlane_save(run, "quickstart.safetensors");
  if (status != FEDLANE_OK) fprintf(stderr, "%s\n", fedlane_error());
  fedlane_close(&run);
  return status == FEDLANE_OK ? 0 : 1;
}
