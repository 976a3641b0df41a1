#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
  NONCE_DIGITS = 32,
  META_BYTES_MAX = 64 * 1024,
  OUT_BYTES = 256 * 1024,
  /* Kept free of DATA, so that a full channel does not hold up the frames without data for long. */
  OUT_RESERVE_BYTES = 16 * 1024,
  SILENT_TICKS_MAX = 30,
  PONGS_OWED_MAX = 100,
};

static int in_fd = -1;
static int out_fd = -1;
static uint32_t in_watched;
static uint32_t out_watched;
static char nonce[NONCE_DIGITS + 1];

static uint8_t in[HEAD_BYTES - LENGTH_MIN + INIT_LENGTH_MAX];
static size_t in_bytes;
static uint8_t out[OUT_BYTES];
static size_t out_start;
static size_t out_end;
static int silent_ticks;
static int pongs_owed;

/* Descriptors up to 2 are the program's: moves one of them away and leaves it nothing to read, or its standard error. */
static int descriptor(const char **text) {
  char *end;
  errno = 0;
  long fd = strtol(*text, &end, 10);
  if (end == *text || errno != 0 || fd < 0 || fd > 1000000 || **text < '0' || **text > '9') {
    fail("LAMBDA_CHANNEL names no descriptor");
  }
  *text = end;
  if (fd > 2) {
    if (fcntl((int)fd, F_SETFD, FD_CLOEXEC) != 0) fail("a descriptor of LAMBDA_CHANNEL is not open");
    return (int)fd;
  }
  int moved = fcntl((int)fd, F_DUPFD_CLOEXEC, 3);
  if (moved < 0) fail("a descriptor of LAMBDA_CHANNEL is not open");
  if (fd == 0) {
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int empty[2];
    if (nothing < 0 && pipe2(empty, O_CLOEXEC) == 0) {
      close(empty[1]);
      nothing = empty[0];
    }
    if (nothing < 0 || dup2(nothing, 0) < 0) fail("cannot empty the standard input");
    close(nothing);
  } else if (fd == 2 || dup2(2, 1) < 0) {
    fail("cannot give the program its standard error");
  }
  return moved;
}

static void open_descriptors(const char *text) {
  in_fd = descriptor(&text);
  if (*text != ',') fail("LAMBDA_CHANNEL is not fd:<read>,<write>");
  text += 1;
  out_fd = descriptor(&text);
  if (*text != '\0') fail("LAMBDA_CHANNEL is not fd:<read>,<write>");
}

static void open_socket(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t bytes = strlen(path);
  if (bytes == 0 || bytes >= sizeof address.sun_path) fail("LAMBDA_CHANNEL is no path of a socket");
  memcpy(address.sun_path, path, bytes);
  in_fd = out_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (in_fd < 0) fail("cannot make a socket");
  if (connect(in_fd, (struct sockaddr *)&address, sizeof address) != 0) fail("cannot connect to its agent");
}

void channel_open(void) {
  const char *place = getenv("LAMBDA_CHANNEL");
  char *proof = getenv("LAMBDA_NONCE");
  if (place == NULL || proof == NULL) fail("LAMBDA_CHANNEL and LAMBDA_NONCE must be set");
  if (strlen(proof) != NONCE_DIGITS || strspn(proof, "0123456789abcdefABCDEF") != NONCE_DIGITS) {
    fail("LAMBDA_NONCE is not 32 hexadecimal digits");
  }
  memcpy(nonce, proof, NONCE_DIGITS);
  /* Not every kernel hides a process's environment from others of its user. */
  memset(proof, '0', NONCE_DIGITS);
  if (strncmp(place, "fd:", 3) == 0) {
    open_descriptors(place + 3);
  } else {
    open_socket(place);
  }
  int in_flags = fcntl(in_fd, F_GETFL);
  int out_flags = fcntl(out_fd, F_GETFL);
  if (in_flags < 0 || out_flags < 0 || fcntl(in_fd, F_SETFL, in_flags | O_NONBLOCK) != 0 ||
      fcntl(out_fd, F_SETFL, out_flags | O_NONBLOCK) != 0) {
    fail("the channel cannot be used without blocking");
  }
  watch(in_fd, CHANNEL_IN, EPOLLIN, &in_watched);
}

static uint8_t *room(size_t bytes) {
  if (sizeof out - (out_end - out_start) < bytes) return NULL;
  if (sizeof out - out_end < bytes) {
    memmove(out, out + out_start, out_end - out_start);
    out_end -= out_start;
    out_start = 0;
  }
  return out + out_end;
}

static void put_head(uint8_t *at, enum frame_type type, size_t meta_bytes, size_t body_bytes) {
  put_u32(at, (uint32_t)(LENGTH_MIN + meta_bytes + body_bytes));
  at[4] = (uint8_t)type;
  put_u32(at + 5, (uint32_t)meta_bytes);
}

void channel_hello(void) {
  char meta[160];
  int bytes = snprintf(meta, sizeof meta, "{\"protocol\":1,\"nonce\":\"%s\",\"runtime\":\"provided\",\"version\":\"1\",\"pid\":%ld}",
                       nonce, (long)getpid());
  if (bytes < 0 || (size_t)bytes >= sizeof meta) fail("cannot greet");
  uint8_t *at = room(HEAD_BYTES + (size_t)bytes);
  if (at == NULL) fail("cannot greet");
  put_head(at, HELLO, (size_t)bytes, 0);
  memcpy(at + HEAD_BYTES, meta, (size_t)bytes);
  out_end += HEAD_BYTES + (size_t)bytes;
  memset(nonce, 0, sizeof nonce);
}

bool channel_send(enum frame_type type, const uint8_t *body, size_t bytes) {
  uint8_t *at = room(HEAD_BYTES + bytes);
  if (at == NULL) return false;
  put_head(at, type, 0, bytes);
  if (bytes > 0) memcpy(at + HEAD_BYTES, body, bytes);
  out_end += HEAD_BYTES + bytes;
  return true;
}

bool channel_takes_data(void) {
  size_t used = out_end - out_start;
  return sizeof out - used >= (size_t)HEAD_BYTES + ID_BYTES + DATA_BYTES_MAX + OUT_RESERVE_BYTES;
}

uint8_t *channel_data_place(void) {
  uint8_t *at = room(HEAD_BYTES + ID_BYTES + DATA_BYTES_MAX);
  if (at == NULL) fail("has no room for data it was about to read");
  return at + HEAD_BYTES + ID_BYTES;
}

void channel_send_data(uint32_t id, size_t bytes) {
  uint8_t *at = out + out_end;
  put_head(at, DATA, 0, ID_BYTES + bytes);
  put_u32(at + HEAD_BYTES, id);
  out_end += HEAD_BYTES + ID_BYTES + bytes;
}

bool channel_empty(void) {
  return out_start == out_end;
}

void channel_flush(void) {
  while (pongs_owed > 0 && channel_send(PONG, NULL, 0)) pongs_owed -= 1;
  while (out_start < out_end) {
    ssize_t written = write(out_fd, out + out_start, out_end - out_start);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) break;
    /* The agent is gone. */
    if (written <= 0) leave(0);
    out_start += (size_t)written;
  }
  if (out_start == out_end) out_start = out_end = 0;
  uint32_t more = out_start < out_end ? EPOLLOUT : 0;
  if (in_fd == out_fd) {
    watch(in_fd, CHANNEL_IN, EPOLLIN | more, &in_watched);
  } else {
    watch(out_fd, CHANNEL_OUT, more, &out_watched);
  }
}

void channel_tick(void) {
  silent_ticks += 1;
  if (silent_ticks >= SILENT_TICKS_MAX) leave(0);
}

static void receive(enum frame_type type, uint8_t *body, size_t bytes) {
  switch (type) {
    case AGENT_INIT:
      program_start(body, bytes);
      break;
    case AGENT_PING:
      if (bytes != 0) fail("the agent sent a PING with a body");
      pongs_owed += 1;
      if (pongs_owed > PONGS_OWED_MAX) fail("the agent sent too many PINGs");
      break;
    case AGENT_OPEN:
      stream_open_for_agent(body, bytes);
      break;
    case AGENT_DATA:
    case AGENT_END:
    case AGENT_RESET:
    case AGENT_WINDOW:
      stream_frame(type, body, bytes);
      break;
    default:
      fail("the agent sent a frame of an unknown type");
  }
}

/* Bytes of the frame at `at`, head included; 0 while its head has not arrived. */
static size_t frame_bytes(const uint8_t *at, size_t bytes, size_t *meta_bytes) {
  if (bytes < HEAD_BYTES) return 0;
  size_t length = get_u32(at);
  size_t meta = get_u32(at + 5);
  bool is_init = at[4] == AGENT_INIT;
  if (length < LENGTH_MIN || length > (is_init ? (size_t)INIT_LENGTH_MAX : (size_t)LENGTH_MAX)) {
    fail("the agent sent a frame of a wrong length");
  }
  if (meta > (is_init ? (size_t)META_BYTES_MAX : 0) || meta > length - LENGTH_MIN) {
    fail("the agent sent a frame with a wrong meta");
  }
  *meta_bytes = meta;
  return HEAD_BYTES - LENGTH_MIN + length;
}

void channel_readable(void) {
  ssize_t got = read(in_fd, in + in_bytes, sizeof in - in_bytes);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) leave(0);
  silent_ticks = 0;
  in_bytes += (size_t)got;
  size_t start = 0;
  for (;;) {
    size_t meta_bytes = 0;
    size_t whole = frame_bytes(in + start, in_bytes - start, &meta_bytes);
    if (whole == 0 || whole > in_bytes - start) break;
    receive(in[start + 4], in + start + HEAD_BYTES + meta_bytes, whole - HEAD_BYTES - meta_bytes);
    start += whole;
  }
  memmove(in, in + start, in_bytes - start);
  in_bytes -= start;
}
