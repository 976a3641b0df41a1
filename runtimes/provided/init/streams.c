#include "init.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  RETRY_MS = 10,
  /* A reader of bulk data gets the loop for this many frames at a time. */
  READS_PER_EVENT = 4,
};

/*
 * One connection. From OPEN on, bytes go both ways under credit; each side ends its direction by itself:
 *
 *   program -> agent: read while there is credit; end of file -> say END -> end_said.
 *   agent -> program: DATA into the ring, from there into the socket; END -> agent_ended -> ring empty -> shut.
 *
 * The slot is free when both directions are over, or after RESET, sent or received.
 */
struct stream {
  uint32_t id;      /* 0: the slot is free */
  int fd;           /* -1: not connected */
  uint32_t watched; /* what epoll watches */
  uint32_t credit;  /* bytes that may still go to the agent */
  uint32_t owed;    /* bytes that the program took and no WINDOW has told */
  uint32_t start;   /* of the bytes in the ring */
  uint32_t held;    /* bytes in the ring */
  uint64_t retry_at;
  uint16_t port;
  bool wait; /* tries until the port accepts */
  bool try_ipv6;
  bool connecting;
  bool say_opened;
  bool say_reset;
  bool program_ended;
  bool end_said;
  bool agent_ended;
  bool shut;
};

static struct stream streams[STREAMS];
/* Beside the streams, not in them: pages of a ring that is never used are never touched. */
static uint8_t rings[STREAMS][WINDOW_BYTES];

static int listener_fd = -1;
static uint32_t listener_watched;
static uint32_t last_program_id; /* odd */
static uint32_t last_agent_id;   /* even */

/* The first half of the slots is the program's. */
static struct stream *free_slot(size_t from) {
  for (size_t slot = from; slot < from + STREAMS_PER_SIDE; slot += 1) {
    if (streams[slot].id == 0) return &streams[slot];
  }
  return NULL;
}

static struct stream *find(uint32_t id) {
  for (size_t slot = 0; slot < STREAMS; slot += 1) {
    if (streams[slot].id == id) return &streams[slot];
  }
  return NULL;
}

static uint32_t slot_of(const struct stream *stream) {
  return (uint32_t)(stream - streams);
}

static void disconnect(struct stream *stream) {
  if (stream->fd < 0) return;
  watch(stream->fd, slot_of(stream), 0, &stream->watched);
  close(stream->fd);
  stream->fd = -1;
}

static void forget(struct stream *stream) {
  disconnect(stream);
  stream->id = 0;
}

/* The connection is broken, and nothing that was on its way matters any more. */
static void reset(struct stream *stream) {
  disconnect(stream);
  stream->held = 0;
  stream->say_reset = true;
}

void streams_begin(int listener) {
  listener_fd = listener;
}

static void begin(struct stream *stream, uint32_t id, int fd) {
  memset(stream, 0, sizeof *stream);
  stream->id = id;
  stream->fd = fd;
  stream->credit = WINDOW_BYTES;
}

static void send_small_packets_at_once(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/*
 * A program that writes a head and then a body without TCP_NODELAY waits for our acknowledgement in between, which the kernel
 * would hold back for 40 ms. It forgets this option with every packet it sends or receives.
 */
static void acknowledge_at_once(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

void streams_accept(void) {
  for (;;) {
    struct stream *stream = free_slot(0);
    if (stream == NULL || !channel_takes_data()) return;
    int fd = accept4(listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (fd < 0 && (errno == EAGAIN || errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) return;
    if (fd < 0) fail("cannot accept connections");
    if (last_program_id > UINT32_MAX - 2) fail("the program connected too often");
    last_program_id = last_program_id == 0 ? 1 : last_program_id + 2;
    send_small_packets_at_once(fd);
    begin(stream, last_program_id, fd);
    uint8_t body[ID_BYTES];
    put_u32(body, stream->id);
    if (!channel_send(OPEN, body, sizeof body)) fail("has no room for a frame it had room for");
  }
}

static void connected(struct stream *stream) {
  stream->connecting = false;
  stream->say_opened = true;
  send_small_packets_at_once(stream->fd);
}

/* Tries the other address at once, and then both again after a pause, or gives up. */
static void refused(struct stream *stream) {
  stream->connecting = false;
  disconnect(stream);
  stream->try_ipv6 = !stream->try_ipv6;
  if (stream->try_ipv6) return;
  if (stream->wait) {
    stream->retry_at = now_ms() + RETRY_MS;
  } else {
    stream->say_reset = true;
  }
}

/* Programs that listen on "localhost" may mean either. */
static int connect_to(int fd, bool ipv6, uint16_t port) {
  if (ipv6) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    return connect(fd, (struct sockaddr *)&address, sizeof address);
  }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return connect(fd, (struct sockaddr *)&address, sizeof address);
}

static void try_connect(struct stream *stream) {
  bool ipv6 = stream->try_ipv6;
  stream->fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (stream->fd < 0) {
    refused(stream);
  } else if (connect_to(stream->fd, ipv6, stream->port) == 0) {
    connected(stream);
  } else if (errno == EINPROGRESS) {
    stream->connecting = true;
  } else {
    refused(stream);
  }
}

static void finish_connect(struct stream *stream) {
  int error = 0;
  socklen_t bytes = sizeof error;
  if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0 || error != 0) {
    refused(stream);
  } else {
    connected(stream);
  }
}

void stream_open_for_agent(const uint8_t *body, size_t bytes) {
  if (!program_started()) fail("the agent opened a stream before the program was started");
  if (bytes != ID_BYTES + 3 || body[6] > 1) fail("the agent sent a malformed OPEN");
  uint32_t id = get_u32(body);
  if (id % 2 != 0 || id <= last_agent_id) fail("the agent opened a stream with a wrong id");
  last_agent_id = id;
  struct stream *stream = free_slot(STREAMS_PER_SIDE);
  if (stream == NULL) {
    /* It counts streams as over a little earlier than they are here. */
    uint8_t refusal[ID_BYTES];
    put_u32(refusal, id);
    if (!channel_send(RESET, refusal, sizeof refusal)) fail("the agent opened too many streams");
    return;
  }
  begin(stream, id, -1);
  stream->port = (uint16_t)(body[4] << 8 | body[5]);
  stream->wait = body[6] == 1;
  try_connect(stream);
}

static void take_data(struct stream *stream, const uint8_t *bytes, size_t count) {
  if (stream->agent_ended) fail("the agent sent DATA after END");
  if (count > (size_t)WINDOW_BYTES - stream->held - stream->owed) fail("the agent sent more DATA than it may");
  if (stream->say_reset) return;
  uint8_t *ring = rings[slot_of(stream)];
  size_t at = (stream->start + stream->held) % WINDOW_BYTES;
  size_t first = count < WINDOW_BYTES - at ? count : WINDOW_BYTES - at;
  memcpy(ring + at, bytes, first);
  memcpy(ring, bytes + first, count - first);
  stream->held += (uint32_t)count;
}

void stream_frame(enum frame_type type, const uint8_t *body, size_t bytes) {
  if (bytes < ID_BYTES) fail("the agent sent a frame without a stream's id");
  uint32_t id = get_u32(body);
  if (id == 0 || id > (id % 2 == 0 ? last_agent_id : last_program_id)) fail("the agent named a stream that never was");
  size_t rest = bytes - ID_BYTES;
  size_t expected = type == AGENT_DATA ? rest : type == AGENT_WINDOW ? 4 : 0;
  if (rest != expected || (type == AGENT_DATA && rest == 0)) fail("the agent sent a stream's frame of a wrong length");
  struct stream *stream = find(id);
  /* It crossed the end of its stream. */
  if (stream == NULL) return;
  switch (type) {
    case AGENT_DATA:
      take_data(stream, body + ID_BYTES, rest);
      break;
    case AGENT_END:
      if (stream->agent_ended) fail("the agent sent END twice");
      stream->agent_ended = true;
      break;
    case AGENT_WINDOW: {
      uint32_t more = get_u32(body + ID_BYTES);
      if (more == 0 || more > WINDOW_BYTES - stream->credit) fail("the agent sent a WINDOW that is too wide");
      stream->credit += more;
      break;
    }
    default:
      forget(stream);
  }
}

static void read_program(struct stream *stream) {
  for (int i = 0; i < READS_PER_EVENT; i += 1) {
    if (stream->program_ended || stream->credit == 0 || !channel_takes_data()) return;
    size_t most = stream->credit < DATA_BYTES_MAX ? stream->credit : DATA_BYTES_MAX;
    ssize_t got = read(stream->fd, channel_data_place(), most);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got < 0) {
      reset(stream);
      return;
    }
    if (got == 0) {
      stream->program_ended = true;
      return;
    }
    stream->credit -= (uint32_t)got;
    channel_send_data(stream->id, (size_t)got);
    if ((size_t)got < most) {
      acknowledge_at_once(stream->fd);
      return;
    }
  }
}

static void write_program(struct stream *stream) {
  const uint8_t *ring = rings[slot_of(stream)];
  if (stream->held == 0) return;
  while (stream->held > 0) {
    size_t straight = WINDOW_BYTES - stream->start;
    if (straight > stream->held) straight = stream->held;
    ssize_t written = write(stream->fd, ring + stream->start, straight);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) return;
    if (written <= 0) {
      reset(stream);
      return;
    }
    stream->start = (uint32_t)((stream->start + (size_t)written) % WINDOW_BYTES);
    stream->held -= (uint32_t)written;
    stream->owed += (uint32_t)written;
  }
  acknowledge_at_once(stream->fd);
}

void stream_event(uint32_t slot, uint32_t events) {
  if (slot >= STREAMS) fail("woke up for nothing");
  struct stream *stream = &streams[slot];
  /* An event of a connection that an earlier event of the same turn closed. A spurious one costs a read in vain. */
  if (stream->id == 0 || stream->fd < 0) return;
  if (stream->connecting) {
    finish_connect(stream);
  } else if ((events & ~(uint32_t)EPOLLOUT) != 0 && !stream->say_opened) {
    read_program(stream);
  }
}

static bool say(enum frame_type type, uint32_t id) {
  uint8_t body[ID_BYTES];
  put_u32(body, id);
  return channel_send(type, body, sizeof body);
}

/* Tells the agent what it has to know. False when there is no room for it now. */
static bool tell(struct stream *stream) {
  if (stream->say_reset) {
    if (!say(RESET, stream->id)) return false;
    forget(stream);
    return true;
  }
  if (stream->say_opened) {
    if (!say(OPENED, stream->id)) return false;
    stream->say_opened = false;
  }
  if (stream->owed >= WINDOW_BYTES / 2 && !stream->agent_ended) {
    uint8_t body[ID_BYTES + 4];
    put_u32(body, stream->id);
    put_u32(body + ID_BYTES, stream->owed);
    if (!channel_send(WINDOW, body, sizeof body)) return false;
    stream->owed = 0;
  }
  if (stream->program_ended && !stream->end_said) {
    if (!say(END, stream->id)) return false;
    stream->end_said = true;
  }
  return true;
}

static void settle(struct stream *stream) {
  while (stream->fd < 0 && !stream->say_reset && now_ms() >= stream->retry_at) try_connect(stream);
  bool up = stream->fd >= 0 && !stream->connecting;
  if (up) write_program(stream);
  if (up && stream->fd >= 0 && stream->agent_ended && stream->held == 0 && !stream->shut) {
    stream->shut = true;
    /* A broken connection shows when it is read. */
    shutdown(stream->fd, SHUT_WR);
  }
  bool told = tell(stream);
  if (stream->id == 0) return;
  if (told && stream->end_said && stream->shut) {
    forget(stream);
    return;
  }
  if (stream->fd < 0) return;
  uint32_t interest = 0;
  if (stream->connecting || stream->held > 0) interest |= EPOLLOUT;
  bool reads = !stream->connecting && !stream->say_opened && !stream->program_ended;
  if (reads && stream->credit > 0 && channel_takes_data()) interest |= EPOLLIN;
  watch(stream->fd, slot_of(stream), interest, &stream->watched);
}

void streams_settle(void) {
  for (size_t slot = 0; slot < STREAMS; slot += 1) {
    if (streams[slot].id != 0) settle(&streams[slot]);
  }
  if (listener_fd < 0) return;
  bool accepts = free_slot(0) != NULL && channel_takes_data();
  watch(listener_fd, LISTENER, accepts ? EPOLLIN : 0, &listener_watched);
}

int streams_patience(void) {
  for (size_t slot = STREAMS_PER_SIDE; slot < STREAMS; slot += 1) {
    const struct stream *stream = &streams[slot];
    if (stream->id != 0 && stream->fd < 0 && !stream->say_reset) return RETRY_MS;
  }
  return -1;
}

bool streams_dry(void) {
  for (size_t slot = 0; slot < STREAMS; slot += 1) {
    const struct stream *stream = &streams[slot];
    if (stream->id != 0 && stream->fd >= 0 && !stream->end_said) return false;
  }
  return true;
}
