#include "init.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* Tests make it shorter. */
#ifndef TICK_MS
#define TICK_MS 1000
#endif

enum { EVENTS = 64 };

static int epoll_fd = -1;
static int ticks_fd = -1;

void watch(int fd, uint32_t who, uint32_t interest, uint32_t *current) {
  if (interest == *current) return;
  int change = *current == 0 ? EPOLL_CTL_ADD : interest == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
  struct epoll_event event = {.events = interest, .data.u32 = who};
  if (epoll_ctl(epoll_fd, change, fd, &event) != 0) fail("cannot watch a descriptor");
  *current = interest;
}

uint64_t now_ms(void) {
  struct timespec now;
  if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) fail("has no clock");
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

_Noreturn void leave(int status) {
  program_kill();
  _exit(status);
}

_Noreturn void fail(const char *reason) {
  static const char name[] = "lambda init: ";
  char line[256];
  size_t bytes = strnlen(reason, sizeof line - sizeof name);
  memcpy(line, name, sizeof name - 1);
  memcpy(line + sizeof name - 1, reason, bytes);
  line[sizeof name - 1 + bytes] = '\n';
  /* There is nobody left to tell when this fails. */
  ssize_t written = write(STDERR_FILENO, line, sizeof name + bytes);
  (void)written;
  leave(1);
}

uint32_t get_u32(const uint8_t *at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

void put_u32(uint8_t *at, uint32_t value) {
  at[0] = (uint8_t)(value >> 24);
  at[1] = (uint8_t)(value >> 16);
  at[2] = (uint8_t)(value >> 8);
  at[3] = (uint8_t)value;
}

static void begin(void) {
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  ticks_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (epoll_fd < 0 || ticks_fd < 0) fail("cannot make its event loop");
  const struct timespec tick = {.tv_sec = TICK_MS / 1000, .tv_nsec = TICK_MS % 1000 * 1000000L};
  struct itimerspec ticks = {.it_interval = tick, .it_value = tick};
  if (timerfd_settime(ticks_fd, 0, &ticks, NULL) != 0) fail("cannot start its timer");
  uint32_t watched = 0;
  watch(ticks_fd, TICKS, EPOLLIN, &watched);
}

static void tick(void) {
  uint64_t expirations;
  /* However many have passed they are one tick: this process may have been frozen for an hour, and its agent with it. */
  if (read(ticks_fd, &expirations, sizeof expirations) == (ssize_t)sizeof expirations) channel_tick();
}

static void handle(const struct epoll_event *event) {
  switch (event->data.u32) {
    case CHANNEL_IN:
      if ((event->events & EPOLLOUT) != 0) channel_flush();
      if ((event->events & ~(uint32_t)EPOLLOUT) != 0) channel_readable();
      break;
    case CHANNEL_OUT:
      /* A pipe whose reader is gone. */
      if ((event->events & (EPOLLERR | EPOLLHUP)) != 0) leave(0);
      channel_flush();
      break;
    case LISTENER:
      streams_accept();
      break;
    case SIGNALS:
      program_signals();
      break;
    case TICKS:
      tick();
      break;
    default:
      stream_event(event->data.u32, event->events);
  }
}

int main(void) {
  /* Same user, but no tracing, no look at memory or environment, no way to our descriptors through /proc. */
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  /* Where this fails, process 1 reaps what is left behind. */
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  signal(SIGPIPE, SIG_IGN);
  begin();
  channel_open();
  program_watch();
  channel_hello();
  for (;;) {
    streams_settle();
    channel_flush();
    program_leave_when_dry();
    int patience = streams_patience();
    int other = program_patience();
    if (patience < 0 || (other >= 0 && other < patience)) patience = other;
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll_fd, events, EVENTS, patience);
    if (count < 0 && errno != EINTR) fail("cannot wait for events");
    for (int i = 0; i < count; i += 1) handle(&events[i]);
  }
}
