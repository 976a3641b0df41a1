#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
  ARGUMENTS_MAX = 1024,
  VARIABLES_MAX = 4096,
  PATH_BYTES_MAX = 4096,
  FAILED_STATUS = 127,
  SIGNAL_STATUS = 128,
  /* For what a program sent before it ended; its connections are closed by then, so this is hardly ever needed. */
  LINGER_MS = 1000,
  POLL_MS = 10,
  BUSY_FILE_TRIES = 20,
  /* In a sandbox; only where the kernel knows no better way to close them all. */
  DESCRIPTORS_MAX = 1024,
};

enum step { STEP_PORT = 1, STEP_DIRECTORY = 2, STEP_MISSING = 3, STEP_PROGRAM = 4 };

struct failure {
  uint8_t step;
  int error;
};

static const int passed_on[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};

static int signals_fd = -1;
static bool told;    /* INIT came */
static pid_t program; /* 0: none yet, or it has ended */
static bool started;
static bool ended;
static int end_status;
static uint64_t leave_at;

static char *arguments[ARGUMENTS_MAX + 1];
/* With room for the Runtime API's address and the driver's marks. */
static char *variables[VARIABLES_MAX + 4];
static char api_variable[64];

void program_watch(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i += 1) sigaddset(&set, passed_on[i]);
  if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) fail("cannot hold signals back");
  signals_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals_fd < 0) fail("cannot receive signals");
  uint32_t watched = 0;
  watch(signals_fd, SIGNALS, EPOLLIN, &watched);
}

/* The next string of INIT's body; fails when there is none. */
static char *take(uint8_t **at, const uint8_t *end) {
  if (*at >= end) fail("the agent sent an INIT that ends too early");
  char *string = (char *)*at;
  *at += strlen(string) + 1;
  return string;
}

static unsigned long take_number(uint8_t **at, const uint8_t *end, unsigned long max) {
  const char *text = take(at, end);
  size_t digits = strspn(text, "0123456789");
  if (digits == 0 || digits > 6 || text[digits] != '\0') fail("the agent sent an INIT without a number");
  unsigned long number = strtoul(text, NULL, 10);
  if (number > max) fail("the agent sent an INIT with too large a number");
  return number;
}

/* By these the process driver finds what an agent that died left behind. */
static size_t pass_marks(size_t variable) {
  for (char **own = environ; *own != NULL; own += 1) {
    bool mark = strncmp(*own, "LAMBDA_OWNER=", 13) == 0 || strncmp(*own, "LAMBDA_SANDBOX=", 15) == 0;
    if (!mark || variable >= VARIABLES_MAX + 2) continue;
    variables[variable] = *own;
    variable += 1;
  }
  return variable;
}

/* Listens where the Runtime API is expected, or where the kernel says when that is taken. */
static int listen_on(uint16_t *port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(*port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int bound = bind(fd, (struct sockaddr *)&address, sizeof address);
  if (bound != 0 && errno == EADDRINUSE) {
    address.sin_port = 0;
    bound = bind(fd, (struct sockaddr *)&address, sizeof address);
  }
  socklen_t bytes = sizeof address;
  if (bound != 0 || listen(fd, STREAMS_PER_SIDE) != 0 || getsockname(fd, (struct sockaddr *)&address, &bytes) != 0) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  *port = ntohs(address.sin_port);
  return fd;
}

/* Comes back only when the file cannot be run; errno says why. */
static void run_file(const char *path) {
  static const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
  for (int i = 0; i < BUSY_FILE_TRIES; i += 1) {
    execve(path, arguments, variables);
    /* Another process on the host was forked while the file was written, and has not closed it yet. */
    if (errno != ETXTBSY) return;
    nanosleep(&pause, NULL);
  }
}

static const char *search_path(void) {
  for (char **variable = variables; *variable != NULL; variable += 1) {
    if (strncmp(*variable, "PATH=", 5) == 0) return *variable + 5;
  }
  return "/usr/local/bin:/usr/bin:/bin";
}

/* As a shell finds commands. A file that may not be run is named when nothing better is found. */
static struct failure run(void) {
  const char *name = arguments[0];
  if (strchr(name, '/') != NULL) {
    run_file(name);
    int error = errno;
    bool missing = error == ENOENT && access(name, F_OK) != 0;
    return (struct failure){missing ? STEP_MISSING : STEP_PROGRAM, error};
  }
  int worst = ENOENT;
  for (const char *folder = search_path();; folder += 1) {
    size_t bytes = strcspn(folder, ":");
    char path[PATH_BYTES_MAX];
    int written = snprintf(path, sizeof path, "%.*s/%s", (int)bytes, bytes == 0 ? "." : folder, name);
    if (bytes < sizeof path && written > 0 && (size_t)written < sizeof path) {
      run_file(path);
      if (errno != ENOENT && errno != ENOTDIR) worst = errno;
    }
    folder += bytes;
    if (*folder == '\0') break;
  }
  return (struct failure){worst == ENOENT ? STEP_MISSING : STEP_PROGRAM, worst};
}

/* Whatever was left open by those who started this process, too. */
static void keep_descriptors_back(void) {
#ifdef SYS_close_range
  enum { MARK_CLOSE_ON_EXEC = 4 };
  if (syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, MARK_CLOSE_ON_EXEC) == 0) return;
#endif
  for (int fd = STDERR_FILENO + 1; fd < DESCRIPTORS_MAX; fd += 1) fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static _Noreturn void become(const char *directory, pid_t parent, int failed) {
  /* It ends with this process, however that ends; unless it was too fast to be told. */
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (getppid() != parent) _exit(FAILED_STATUS);
  sigset_t none;
  sigemptyset(&none);
  signal(SIGPIPE, SIG_DFL);
  sigprocmask(SIG_SETMASK, &none, NULL);
  keep_descriptors_back();
  struct failure failure = {STEP_DIRECTORY, 0};
  if (*directory != '\0' && chdir(directory) != 0) {
    failure.error = errno;
  } else {
    failure = run();
  }
  ssize_t written = write(failed, &failure, sizeof failure);
  (void)written;
  _exit(FAILED_STATUS);
}

/* The pipe closes by itself when the program takes the child's place. */
static struct failure spawn(const char *directory) {
  int failed[2];
  if (pipe2(failed, O_CLOEXEC) != 0) return (struct failure){STEP_PROGRAM, errno};
  pid_t parent = getpid();
  pid_t child = fork();
  if (child < 0) {
    int error = errno;
    close(failed[0]);
    close(failed[1]);
    return (struct failure){STEP_PROGRAM, error};
  }
  if (child == 0) become(directory, parent, failed[1]);
  close(failed[1]);
  struct failure failure = {0};
  ssize_t got;
  do {
    got = read(failed[0], &failure, sizeof failure);
  } while (got < 0 && errno == EINTR);
  close(failed[0]);
  if (got != (ssize_t)sizeof failure) {
    program = child;
    return (struct failure){0};
  }
  waitpid(child, NULL, 0);
  return failure;
}

static void refuse(struct failure failure) {
  uint8_t body[5] = {failure.step};
  put_u32(body + 1, (uint32_t)failure.error);
  if (!channel_send(NOT_STARTED, body, sizeof body)) fail("has no room to say that the program was not started");
}

void program_start(uint8_t *body, size_t bytes) {
  if (told) fail("the agent sent INIT twice");
  told = true;
  if (bytes == 0 || body[bytes - 1] != '\0') fail("the agent sent an INIT that does not end");
  uint8_t *at = body;
  const uint8_t *end = body + bytes;
  uint16_t port = (uint16_t)take_number(&at, end, UINT16_MAX);
  const char *directory = take(&at, end);
  unsigned long count = take_number(&at, end, ARGUMENTS_MAX);
  if (count == 0) fail("the agent sent an INIT without a program");
  for (unsigned long i = 0; i < count; i += 1) arguments[i] = take(&at, end);
  size_t variable = 0;
  while (at < end) {
    if (variable == VARIABLES_MAX) fail("the agent sent an INIT with too many variables");
    variables[variable] = take(&at, end);
    variable += 1;
  }
  variable = pass_marks(variable);

  if (port != 0) {
    int listener = listen_on(&port);
    if (listener < 0) {
      refuse((struct failure){STEP_PORT, errno});
      return;
    }
    snprintf(api_variable, sizeof api_variable, "AWS_LAMBDA_RUNTIME_API=127.0.0.1:%u", (unsigned)port);
    variables[variable] = api_variable;
    streams_begin(listener);
  }
  struct failure failure = spawn(directory);
  if (failure.step != 0) {
    refuse(failure);
    return;
  }
  started = true;
  uint8_t answer[2] = {(uint8_t)(port >> 8), (uint8_t)port};
  if (!channel_send(STARTED, answer, sizeof answer)) fail("has no room to say that the program was started");
}

bool program_started(void) {
  return started;
}

static void reap(void) {
  for (;;) {
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid < 0 && errno == EINTR) continue;
    if (pid <= 0) return;
    if (pid != program) continue;
    program = 0;
    ended = true;
    end_status = status;
    leave_at = now_ms() + LINGER_MS;
  }
}

void program_signals(void) {
  struct signalfd_siginfo info;
  while (read(signals_fd, &info, sizeof info) == (ssize_t)sizeof info) {
    int number = (int)info.ssi_signo;
    if (number == SIGCHLD) {
      reap();
    } else if (program != 0) {
      kill(program, number);
    } else if (!ended && number != SIGWINCH && number != SIGCONT) {
      _exit(SIGNAL_STATUS + number);
    }
  }
}

int program_patience(void) {
  return ended ? POLL_MS : -1;
}

void program_leave_when_dry(void) {
  if (!ended || (now_ms() < leave_at && !(streams_dry() && channel_empty()))) return;
  if (WIFEXITED(end_status)) _exit(WEXITSTATUS(end_status));
  int number = WTERMSIG(end_status);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  signal(number, SIG_DFL);
  sigprocmask(SIG_UNBLOCK, &set, NULL);
  kill(getpid(), number);
  /* Process 1 of a container is not ended by its own signals. */
  _exit(SIGNAL_STATUS + number);
}

void program_kill(void) {
  if (program != 0) kill(program, SIGKILL);
}
