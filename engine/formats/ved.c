#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats.h"
#include "formats/csv_file.h"
#include "formats/table.h"

typedef struct ved_args {
  const char *files, *vehicles;
  int energy;
  bool discharge_positive;
  double gap, shortest, scale;
} ved_args;

enum { TOTAL, ELECTRIC, FUEL };

/* The columns of a weekly file that are used, by the place of their names here. */
enum {
  VEHICLE,
  TRIP,
  TIME,
  SPEED,
  AIR,
  OUTSIDE,
  RATE,
  COOL_KW,
  COOL_W,
  HEAT,
  CURRENT,
  VOLTAGE,
  SHORT_1,
  SHORT_2,
  LONG_1,
  LONG_2,
  USED
};
static const char *const names[USED] = {
    "VehId",
    "Trip",
    "Timestamp(ms)",
    "Vehicle Speed[km/h]",
    "MAF[g/sec]",
    "OAT[DegC]",
    "Fuel Rate[L/hr]",
    "Air Conditioning Power[kW]",
    "Air Conditioning Power[Watts]",
    "Heater Power[Watts]",
    "HV Battery Current[A]",
    "HV Battery Voltage[V]",
    "Short Term Fuel Trim Bank 1[%]",
    "Short Term Fuel Trim Bank 2[%]",
    "Long Term Fuel Trim Bank 1[%]",
    "Long Term Fuel Trim Bank 2[%]",
};

/* The features of a trip. */
enum {
  DISTANCE,
  DURATION,
  MEAN_SPEED,
  MAX_SPEED,
  STOPS,
  ACCELERATION,
  WARMTH,
  COOLING,
  HEATING,
  WEIGHT,
  FEATURES
};

#define MOVING 1.0        /* km/h: slower is standing */
#define AIR_TO_FUEL 14.7  /* masses, of gasoline burnt whole */
#define GRAMS_A_LITRE 745 /* of gasoline */
#define KWH_A_LITRE 8.9   /* of gasoline: 33.7 kWh a US gallon, as the EPA counts */

/* A mean over time of a signal that may be missing. */
typedef struct level {
  double sum, seconds;
} level;

/* A trip while its rows are read: a signal keeps its value until the next one arrives. */
typedef struct trip {
  int32_t vehicle;
  double now[USED];                              /* NaN: not seen yet */
  double first, last;                            /* ms */
  double seconds, metres, fastest, speed_change; /* of the intervals that count */
  double joules, litres;
  bool electric, fuelled; /* the battery, the engine were seen */
  int stops;
  level outside, cooling, heating;
} trip;

typedef struct reader {
  const fl_load *how;
  const ved_args *args;
  fl_dataset *out;
  fl_names vehicles, trip_names;
  trip *trip; /* by the number of its name */
  int32_t room;
  fl_names weighed; /* vehicles with known weight */
  fl_table weight;  /* [weighed.n, 1] */
  fl_table table;   /* [trips, FEATURES + 1] */
} reader;

static fl_status find_column(const fl_csv *c, const char *name, int *out) {
  for (int i = 0; i < c->n; i++)
    if (strcmp(c->field[i], name) == 0) return *out = i, FEDLANE_OK;
  return fl_fail(FEDLANE_DATA, "%s:%lld: no column is called '%s'", c->path, (long long)c->row,
                 name);
}

static bool blank(const char *text) {
  return *text == '\0' || strcmp(text, "NaN") == 0 || strcmp(text, "nan") == 0;
}

/* What tells vehicles and trips apart: a whole number that doubles count exactly. */
static fl_status expect_number(const fl_csv *c, int column, double v) {
  if (v >= 0 && v < 9007199254740992.0 && v == floor(v)) return FEDLANE_OK;
  return fl_csv_fail(c, column, "is not a whole number from 0 to 2^53 - 1");
}

static fl_status read_values(const fl_csv *c, int width, const int column[USED], double v[USED]) {
  FL_TRY(fl_csv_expect(c, width));
  for (int i = 0; i < USED; i++) {
    v[i] = NAN;
    if (!blank(c->field[column[i]])) FL_TRY(fl_csv_number(c, column[i], &v[i]));
    if (i <= TRIP) FL_TRY(expect_number(c, column[i], v[i]));
  }
  if (!(v[TIME] >= 0)) return fl_csv_fail(c, column[TIME], "is not a number from 0");
  if (v[SPEED] < 0) return fl_csv_fail(c, column[SPEED], "is a speed below 0");
  return FEDLANE_OK;
}

/* "vehicle/trip", as the numbers are written once they are read. */
static void name_of(const double v[USED], bool with_trip, char text[64]) {
  if (with_trip)
    snprintf(text, 64, "%.0f/%.0f", v[VEHICLE], v[TRIP]);
  else
    snprintf(text, 64, "%.0f", v[VEHICLE]);
}

/* The trip of a row; a new one begins with it. */
static fl_status find_trip(reader *r, const double v[USED], trip **out) {
  char text[64];
  int32_t number;
  name_of(v, true, text);
  number = fl_names_find(&r->trip_names, text);
  if (number >= 0) return *out = &r->trip[number], FEDLANE_OK;
  if (r->trip_names.n == r->room) {
    int32_t room = r->room ? 2 * r->room : 256;
    trip *more = realloc(r->trip, (size_t)room * sizeof *more);
    if (!more) return fl_fail(FEDLANE_MEMORY, "no memory for %d trips", room);
    r->trip = more;
    r->room = room;
  }
  FL_TRY(fl_names_add(&r->trip_names, text, &number));
  *out = &r->trip[number];
  **out = (trip){.first = v[TIME], .last = v[TIME]};
  for (int i = 0; i < USED; i++) (*out)->now[i] = NAN;
  name_of(v, false, text);
  return fl_names_add(&r->vehicles, text, &(*out)->vehicle);
}

static double known(double value) { return isnan(value) ? 0 : value; }

/* Litres an hour: as told, else from the air that the engine takes in and its fuel trims. */
static double fuel_rate(const double now[USED]) {
  if (!isnan(now[RATE])) return now[RATE];
  if (isnan(now[AIR])) return NAN;
  double trim = (known(now[SHORT_1]) + known(now[LONG_1])) / 100;
  return now[AIR] / AIR_TO_FUEL * (1 + trim) * 3600 / GRAMS_A_LITRE;
}

static void add_level(level *l, double value, double seconds) {
  if (isnan(value)) return;
  l->sum += value * seconds;
  l->seconds += seconds;
}

/* Adds the interval that ends now, over which every signal had the value that it had before. */
static void pass_time(const reader *r, trip *t, double seconds) {
  const double *now = t->now;
  double rate = fuel_rate(now), power = now[CURRENT] * now[VOLTAGE];
  double cooling = isnan(now[COOL_W]) ? 1000 * now[COOL_KW] : now[COOL_W];
  t->seconds += seconds;
  t->metres += known(now[SPEED]) / 3.6 * seconds;
  t->electric |= !isnan(power);
  t->fuelled |= !isnan(rate);
  t->joules += known(r->args->discharge_positive ? power : -power) * seconds;
  t->litres += known(rate) / 3600 * seconds;
  add_level(&t->outside, now[OUTSIDE], seconds);
  add_level(&t->cooling, cooling, seconds);
  add_level(&t->heating, now[HEAT], seconds);
}

static fl_status add_row(reader *r, const fl_csv *c, const int column[USED], const double v[USED]) {
  trip *t = NULL;
  FL_TRY(find_trip(r, v, &t));
  if (v[TIME] < t->last)
    return fl_csv_fail(c, column[TIME], "is before the time of the trip's row before");
  double seconds = (v[TIME] - t->last) / 1000, before = t->now[SPEED];
  bool counts = seconds <= r->args->gap;
  if (counts) pass_time(r, t, seconds);
  t->last = v[TIME];
  for (int i = 0; i < USED; i++)
    if (!isnan(v[i])) t->now[i] = v[i];
  double speed = t->now[SPEED];
  if (isnan(speed)) return FEDLANE_OK;
  if (speed > t->fastest) t->fastest = speed;
  if (isnan(before) || !counts) return FEDLANE_OK;
  t->speed_change += fabs(speed - before) / 3.6;
  t->stops += before >= MOVING && speed < MOVING;
  return FEDLANE_OK;
}

static fl_status read_week(reader *r, const char *path) {
  fl_csv c = {0};
  fl_status status;
  bool more;
  int column[USED], width;
  double v[USED];
  FL_GO(fl_csv_open(path, ',', &c));
  FL_GO(fl_csv_next(&c, &more));
  for (int i = 0; i < USED; i++) FL_GO(find_column(&c, names[i], &column[i]));
  width = c.n;
  for (;;) {
    fl_status got = fl_csv_next(&c, &more);
    if (got == FEDLANE_OK && !more) break;
    if (got == FEDLANE_OK) got = read_values(&c, width, column, v);
    if (got == FEDLANE_OK) got = add_row(r, &c, column, v);
    FL_GO(fl_pass_over(r->how, got, &r->out->skipped));
  }
done:
  fl_csv_close(&c);
  return status;
}

/* The weights of vehicles, from the static data saved as CSV; a weight that is no number, such as
 * "NO DATA", is not known. */
static fl_status read_weights(reader *r) {
  fl_csv c = {0};
  fl_status status;
  bool more;
  int vehicle = 0, weight = 0, width;
  char *path = NULL, text[64];
  FL_GO(fl_file_beside(r->how->path, r->args->vehicles, &path));
  FL_GO(fl_csv_open(path, ',', &c));
  FL_GO(fl_csv_next(&c, &more));
  FL_GO(find_column(&c, "VehId", &vehicle));
  FL_GO(find_column(&c, "Generalized_Weight[lb]", &weight));
  width = c.n;
  r->weight.columns = 1;
  for (;;) {
    double v[USED], pounds;
    int32_t number;
    float *row;
    FL_GO(fl_csv_next(&c, &more));
    if (!more) break;
    FL_GO(fl_csv_expect(&c, width));
    FL_GO(fl_csv_number(&c, vehicle, &v[VEHICLE]));
    FL_GO(expect_number(&c, vehicle, v[VEHICLE]));
    if (!fl_csv_is_number(&c, c.field[weight], &pounds)) pounds = NAN;
    name_of(v, false, text);
    if (fl_names_find(&r->weighed, text) >= 0)
      FL_GO(fl_csv_fail(&c, vehicle, "is a vehicle that had its row before"));
    FL_GO(fl_names_add(&r->weighed, text, &number));
    FL_GO(fl_table_add(&r->weight, 0, &row));
    *row = (float)pounds;
  }
done:
  fl_csv_close(&c);
  free(path);
  return status;
}

/* What the trip took, in kWh; NaN when that is not known. */
static double energy_of(const reader *r, const trip *t) {
  double electric = t->electric ? t->joules / 3.6e6 : NAN;
  double fuel = t->fuelled ? t->litres * KWH_A_LITRE : NAN;
  if (r->args->energy == ELECTRIC) return electric;
  if (r->args->energy == FUEL) return fuel;
  return t->electric || t->fuelled ? known(electric) + known(fuel) : NAN;
}

static double mean(const level *l) { return l->seconds > 0 ? l->sum / l->seconds : NAN; }

static fl_status add_trip(reader *r, const trip *t) {
  double energy = energy_of(r, t), km = t->metres / 1000;
  float *row;
  if (isnan(energy) || t->seconds <= 0 || km < r->args->shortest) return FEDLANE_OK;
  FL_TRY(fl_table_add(&r->table, t->vehicle, &row));
  row[DISTANCE] = (float)km;
  row[DURATION] = (float)(t->seconds / 60);
  row[MEAN_SPEED] = (float)(t->metres / t->seconds * 3.6);
  row[MAX_SPEED] = (float)t->fastest;
  row[STOPS] = (float)t->stops;
  row[ACCELERATION] = (float)(t->speed_change / t->seconds);
  row[WARMTH] = (float)mean(&t->outside);
  row[COOLING] = (float)mean(&t->cooling);
  row[HEATING] = (float)mean(&t->heating);
  int32_t at = fl_names_find(&r->weighed, r->vehicles.text[t->vehicle]);
  row[WEIGHT] = at >= 0 ? r->weight.value[at] : NAN;
  row[FEATURES] = (float)(energy / r->args->scale);
  return FEDLANE_OK;
}

/* Clients are the vehicles that have trips, in the order of their numbers. */
static fl_status fill_clients(reader *r) {
  fl_dataset *d = r->out;
  fl_names with_trips = {0};
  int32_t *rank = NULL;
  fl_status status = FEDLANE_OK;
  FL_GO(fl_dataset_alloc_clients(d, 0));
  for (int64_t e = 0; e < r->table.n; e++)
    FL_GO(fl_names_add(&with_trips, r->vehicles.text[r->table.client[e]], &d->client[e]));
  FL_GO(fl_names_rank(&with_trips, &rank));
  for (int64_t e = 0; e < r->table.n; e++) d->client[e] = rank[d->client[e]];
  d->n_client = with_trips.n;
done:
  fl_names_free(&with_trips);
  free(rank);
  return status;
}

static fl_status make(reader *r) {
  fl_dataset *d = r->out;
  int features = *r->args->vehicles ? FEATURES : WEIGHT;
  r->table.columns = FEATURES + 1;
  for (int32_t i = 0; i < r->trip_names.n; i++) FL_TRY(add_trip(r, &r->trip[i]));
  if (r->table.n == 0)
    return fl_fail(FEDLANE_DATA, "%s: none of its %d trips is long enough and has its energy known",
                   r->how->path, r->trip_names.n);
  d->image = (fl_image){features, 1, 1};
  d->n_target = 1;
  d->n_train = r->table.n;
  d->raw = true;
  FL_TRY(fl_dataset_alloc(d));
  if (!(d->unit = malloc(sizeof *d->unit))) return fl_fail(FEDLANE_MEMORY, "no memory for a unit");
  *d->unit = (float)r->args->scale;
  for (int64_t e = 0; e < d->n_train; e++) {
    const float *row = r->table.value + e * (FEATURES + 1);
    memcpy((float *)d->x + e * features, row, (size_t)features * sizeof *row);
    d->target[e] = row[FEATURES];
  }
  return fill_clients(r);
}

static fl_status load(const fl_load *how, const void *args, fl_dataset *out) {
  fl_status status;
  reader r = {.how = how, .args = args, .out = out};
  fl_file_list list = {0};
  memset(out, 0, sizeof *out);
  FL_GO(fl_file_list_open(how->path, r.args->files, &list));
  if (*r.args->vehicles) FL_GO(read_weights(&r));
  for (int i = 0; i < list.n; i++) FL_GO(read_week(&r, list.path[i]));
  FL_GO(make(&r));
done:
  fl_file_list_close(&list);
  fl_names_free(&r.vehicles);
  fl_names_free(&r.trip_names);
  fl_names_free(&r.weighed);
  fl_table_free(&r.weight);
  fl_table_free(&r.table);
  free(r.trip);
  if (status != FEDLANE_OK) fl_dataset_close(out);
  return status;
}

#define NUMBER(field, value, open, measure, about)                                            \
  {                                                                                           \
    .name = #field, .type = FL_REAL, .offset = offsetof(ved_args, field), .dflt = (value),    \
    .lo = 0, .hi = INFINITY, .flags = FL_HI_OPEN | (open), .unit = (measure), .help = (about) \
  }

static const fl_param params[] = {
    {.name = "files",
     .type = FL_TEXT,
     .offset = offsetof(ved_args, files),
     .text = "VED_*_week.csv",
     .help = "which files of a folder, as patterns with commas"},
    {.name = "energy",
     .type = FL_CHOICE,
     .offset = offsetof(ved_args, energy),
     .text = "total,electric,fuel",
     .help = "of a trip: from the battery, from fuel at 8.9 kWh a litre, or both together"},
    {.name = "discharge_positive",
     .type = FL_BOOL,
     .offset = offsetof(ved_args, discharge_positive),
     .help = "a current above 0 leaves the battery, in place of one below 0"},
    {.name = "vehicles",
     .type = FL_TEXT,
     .offset = offsetof(ved_args, vehicles),
     .text = "",
     .flags = FL_SOURCE,
     .help = "the static data as a CSV file beside the others, for the weight; empty: without"},
    NUMBER(gap, 30, FL_LO_OPEN, "seconds", "an interval longer than this does not count"),
    NUMBER(shortest, 0.5, 0, "km", "trips of less are left out"),
    NUMBER(scale, 1, FL_LO_OPEN, "kWh", "energy is divided by this; metrics remain in kWh"),
};

const fl_format fl_ved = {
    .record = {.name = "ved",
               .help = "the Vehicle Energy Dataset: the energy of a trip from how and when it was "
                       "driven; a vehicle is a client",
               .paper = "Oh et al., Vehicle Energy Dataset, arXiv:1905.02081",
               .args_size = sizeof(ved_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .load = load,
};
