/* The `fedlane` program: finds the subcommand and hands over. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "record.h"

static const fl_command *const commands[] = {
    &fl_command_run,    &fl_command_serve, &fl_command_work, &fl_command_relay, &fl_command_join,
    &fl_command_keygen, &fl_command_list,  &fl_command_show, &fl_command_data,  &fl_command_bench,
};

static void print_help(void) {
  const char *cell[2 * FL_COUNT(commands)];
  printf("fedlane %s: trains whole cohorts of federated clients at once\n\n", fedlane_version());
  printf("usage: fedlane COMMAND [arguments]\n\n");
  for (int i = 0; i < FL_COUNT(commands); i++) {
    cell[2 * i] = commands[i]->name;
    cell[2 * i + 1] = commands[i]->help;
  }
  fl_cli_table(2, 2, FL_COUNT(commands), cell);
  printf(
      "\n`fedlane COMMAND --help`, or `fedlane help COMMAND`, tells more about one, and\n"
      "`fedlane --version` prints the version.\n"
      "Exit status: 0 done, 1 failed at run time, 2 wrong usage or configuration, 130 stopped by\n"
      "the user after writing a checkpoint.\n");
}

static int print_command_help(const fl_command *command) {
  printf("fedlane %s: %s\n\n", command->name, command->help);
  fl_line_usage(command, stdout);
  putchar('\n');
  fl_line_help(command);
  if (command->notes) printf("\n%s", command->notes);
  return FL_EXIT_DONE;
}

static int run(const fl_command *command, int argc, char **argv) {
  void *options = NULL;
  int code = fl_line_read(command, argc, argv, &options);
  if (code != FL_EXIT_DONE) return code;
  code = command->run(options);
  fl_line_close(command, options);
  return code;
}

static int unknown(const char *word) {
  const char *name[FL_COUNT(commands)];
  for (int i = 0; i < FL_COUNT(commands); i++) name[i] = commands[i]->name;
  const char *near = fl_nearest(word, FL_COUNT(commands), name);
  fprintf(stderr, "fedlane: there is no %s '%s'", word[0] == '-' ? "option" : "command", word);
  if (near) fprintf(stderr, "; did you mean '%s'?", near);
  fprintf(stderr, "\nusage: fedlane COMMAND [arguments]; `fedlane --help` lists the commands\n");
  return FL_EXIT_USAGE;
}

static bool is_help(const char *word) {
  return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* `fedlane help NAME` is `fedlane NAME --help`. */
static int help(const char *name) {
  for (int i = 0; i < FL_COUNT(commands) && name; i++)
    if (strcmp(name, commands[i]->name) == 0) return print_command_help(commands[i]);
  if (name) return unknown(name);
  print_help();
  return FL_EXIT_DONE;
}

static int dispatch(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "fedlane: which command?\n");
    fprintf(stderr, "usage: fedlane COMMAND [arguments]; `fedlane --help` lists the commands\n");
    return FL_EXIT_USAGE;
  }
  if (is_help(argv[1]) || strcmp(argv[1], "help") == 0) return help(argv[2]);
  if (strcmp(argv[1], "--version") == 0) {
    printf("fedlane %s\n", fedlane_version());
    return FL_EXIT_DONE;
  }
  for (int i = 0; i < FL_COUNT(commands); i++) {
    if (strcmp(argv[1], commands[i]->name) != 0) continue;
    for (int j = 2; j < argc; j++)
      if (is_help(argv[j])) return print_command_help(commands[i]);
    return run(commands[i], argc - 2, argv + 2);
  }
  return unknown(argv[1]);
}

/* A file that the program opens must never become its standard output. */
static void fill_standard_streams(void) {
  int fd;
  do fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
}

/* A reader that went away, as in `fedlane list | head -1`, is no failure; a full disk is. */
static int finish(int code) {
  struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
  int reason = fflush(stdout) == 0 ? EIO : errno;
  if (!ferror(stdout) || (poll(&out, 1, 0) == 1 && out.revents & POLLERR)) return code;
  fprintf(stderr, "fedlane: standard output: %s\n", strerror(reason));
  return code == FL_EXIT_DONE ? FL_EXIT_FAILED : code;
}

int main(int argc, char **argv) {
  fill_standard_streams();
  signal(SIGPIPE, SIG_IGN);
  return finish(dispatch(argc, argv));
}
