/* The ledger of a round: every unit is dealt, comes back or is given up exactly once. */
#include "blocks.h"

#include <stdlib.h>

#include "suite.h"

enum { UNITS = 40 };

static int32_t cost[UNITS];

static void open_blocks(fl_blocks *b) {
  for (int i = 0; i < UNITS; i++) cost[i] = UNITS - i;
  CU_ASSERT_EQUAL_FATAL(fl_blocks_open(b, UNITS, cost), FEDLANE_OK);
}

static int deal(fl_blocks *b, int peer, int64_t of_cost, uint64_t least, uint64_t most) {
  int block = -1;
  CU_ASSERT_EQUAL_FATAL(fl_blocks_deal(b, peer, of_cost, least, most, &block), FEDLANE_OK);
  return block;
}

static uint64_t count_of(fl_blocks *b, int64_t of_cost, uint64_t least, uint64_t most) {
  int block = deal(b, 0, of_cost, least, most);
  CU_ASSERT_FATAL(block >= 0);
  return b->block[block].count;
}

static int64_t cost_of(const fl_block *block) {
  int64_t sum = 0;
  for (uint64_t i = 0; i < block->count; i++) sum += cost[block->first + i];
  return sum;
}

static void blocks_are_of_the_wanted_cost(void) {
  fl_blocks b;
  open_blocks(&b);
  CU_ASSERT_EQUAL(b.free_cost, UNITS * (UNITS + 1) / 2);
  int64_t dealt = 0;
  for (int i, peer = 0; (i = deal(&b, peer, 100, 1, UNITS)) >= 0; peer++) {
    const fl_block *block = &b.block[i];
    CU_ASSERT_EQUAL(block->cost, cost_of(block));
    CU_ASSERT(block->cost > 100 - UNITS || b.n_free == 0);
    CU_ASSERT(block->cost <= 100);
    dealt += block->cost;
    CU_ASSERT_EQUAL(b.free_cost, UNITS * (UNITS + 1) / 2 - dealt);
  }
  CU_ASSERT_EQUAL(b.free_cost, 0);
  fl_blocks_close(&b);
}

static void least_and_most_come_before_cost(void) {
  fl_blocks b;
  open_blocks(&b);
  CU_ASSERT_EQUAL(count_of(&b, 1, 7, UNITS), 7);
  CU_ASSERT_EQUAL(count_of(&b, 1000000, 1, 5), 5);
  CU_ASSERT_EQUAL(count_of(&b, 1000000, 9, 3), 3);
  CU_ASSERT_EQUAL(count_of(&b, 0, 1000, UNITS), UNITS - 15);
  CU_ASSERT_EQUAL(deal(&b, 0, 1, 1, UNITS), -1);
  fl_blocks_close(&b);
}

static void a_block_belongs_to_its_peer(void) {
  fl_blocks b;
  open_blocks(&b);
  int mine = deal(&b, 4, 100, 1, UNITS);
  CU_ASSERT_PTR_EQUAL(fl_blocks_of(&b, (uint64_t)mine, 4, FL_BLOCK_OUT), &b.block[mine]);
  CU_ASSERT_PTR_NULL(fl_blocks_of(&b, (uint64_t)mine, 5, FL_BLOCK_OUT));
  CU_ASSERT_PTR_NULL(fl_blocks_of(&b, (uint64_t)mine, 4, FL_BLOCK_TRAINED));
  CU_ASSERT_PTR_NULL(fl_blocks_of(&b, (uint64_t)mine + 1, 4, FL_BLOCK_OUT));
  CU_ASSERT_PTR_NULL(fl_blocks_of(&b, UINT64_MAX, 4, FL_BLOCK_OUT));
  fl_blocks_close(&b);
}

static void lost_units_are_dealt_again(void) {
  fl_blocks b;
  open_blocks(&b);
  int one = deal(&b, 0, 100, 1, UNITS), two = deal(&b, 1, 100, 1, UNITS);
  uint64_t first = b.block[one].first, count = b.block[one].count;
  int64_t before = b.free_cost;
  b.block[one].report.loss = calloc(1, 8);
  CU_ASSERT_EQUAL(fl_blocks_lose(&b, &b.block[one], false), FEDLANE_OK);
  CU_ASSERT_EQUAL(b.free_cost, before + b.block[one].cost);
  CU_ASSERT_PTR_NULL(b.block[one].report.loss);
  CU_ASSERT_PTR_NULL(fl_blocks_of(&b, (uint64_t)one, 0, FL_BLOCK_OUT));
  int again = deal(&b, 1, 1000000, 1, UNITS);
  CU_ASSERT(again != one && again != two);
  CU_ASSERT_EQUAL(b.block[again].first, first);
  CU_ASSERT_EQUAL(b.block[again].count, count);
  CU_ASSERT_EQUAL(b.done + b.gone, 0);
  fl_blocks_close(&b);
}

static void single_units_split_what_is_free(void) {
  fl_blocks b;
  static const uint64_t wanted[] = {0, UNITS - 1, 17, 18, 16};
  open_blocks(&b);
  int64_t left = b.free_cost;
  for (int i = 0; i < FL_COUNT(wanted); i++) {
    int block = -1;
    CU_ASSERT_EQUAL(fl_blocks_deal_unit(&b, i, wanted[i], &block), FEDLANE_OK);
    CU_ASSERT_EQUAL(b.block[block].first, wanted[i]);
    CU_ASSERT_EQUAL(b.block[block].count, 1);
    left -= cost[wanted[i]];
    CU_ASSERT_EQUAL(b.free_cost, left);
    CU_ASSERT_EQUAL(fl_blocks_deal_unit(&b, i, wanted[i], &block), FEDLANE_INTERNAL);
  }
  CU_ASSERT_EQUAL(fl_blocks_lose(&b, &b.block[2], true), FEDLANE_OK);
  CU_ASSERT_EQUAL(b.gone, 1);
  CU_ASSERT_EQUAL(b.free_cost, left);
  fl_blocks_close(&b);
}

/* Peers that lose, finish and take work in some order: every unit ends in one place. */
static void nothing_is_lost_or_counted_twice(void) {
  fl_blocks b;
  uint32_t state = 1;
  bool done[UNITS] = {false};
  open_blocks(&b);
  while (b.done + b.gone < UNITS) {
    int i = deal(&b, 0, 60, 1, UNITS);
    CU_ASSERT_FATAL(i >= 0);
    fl_block *block = &b.block[i];
    state = state * 1664525 + 1013904223;
    if (state >> 30 == 0) {
      CU_ASSERT_EQUAL_FATAL(fl_blocks_lose(&b, block, false), FEDLANE_OK);
      continue;
    }
    for (uint64_t u = block->first; u < block->first + block->count; u++) {
      CU_ASSERT_FALSE(done[u]);
      done[u] = true;
    }
    if (state >> 30 == 1) {
      CU_ASSERT_EQUAL_FATAL(fl_blocks_lose(&b, block, true), FEDLANE_OK);
    } else {
      block->state = FL_BLOCK_TRAINED;
      fl_blocks_done(&b, block);
    }
  }
  CU_ASSERT_EQUAL(b.done + b.gone, UNITS);
  CU_ASSERT_EQUAL(b.free_cost, 0);
  CU_ASSERT_EQUAL(b.n_free, 0);
  CU_ASSERT(b.done > 0);
  CU_ASSERT(b.gone > 0);
  fl_blocks_close(&b);
}

static void a_round_without_units_is_complete(void) {
  fl_blocks b;
  CU_ASSERT_EQUAL(fl_blocks_open(&b, 0, NULL), FEDLANE_OK);
  CU_ASSERT_EQUAL(deal(&b, 0, 1, 1, 1), -1);
  CU_ASSERT_EQUAL(b.n, 0);
  fl_blocks_close(&b);
}

static const fl_test tests[] = {
    {"blocks are of the wanted cost", blocks_are_of_the_wanted_cost},
    {"least and most come before cost", least_and_most_come_before_cost},
    {"a block belongs to its peer", a_block_belongs_to_its_peer},
    {"lost units are dealt again", lost_units_are_dealt_again},
    {"single units split what is free", single_units_split_what_is_free},
    {"nothing is lost or counted twice", nothing_is_lost_or_counted_twice},
    {"a round without units is complete", a_round_without_units_is_complete},
};

FL_SUITE_MAIN("blocks", tests)
