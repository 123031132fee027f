#include "engine.h"
#include "port.h"

const fl_catalogue *const *fl_catalogues(int *n) {
  static const fl_catalogue *const all[] = {
      &fl_algorithms, &fl_models,   &fl_layer_kinds, &fl_formats,
      &fl_partitions, &fl_samplers, &fl_filters,     &fl_metrics,
      &fl_sinks,      &fl_backends, &fl_links,       &fl_config_sections,
  };
  *n = FL_COUNT(all);
  return all;
}
