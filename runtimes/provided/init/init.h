/*
 * The static init of a sandbox: starts the function's program and carries its TCP connections over the channel.
 * ../README.md is its contract, ../../PROTOCOL.md has the frames.
 *
 * One thread, one epoll loop, no allocation: every buffer is static and has a fixed size. What the program sends is bytes that
 * are passed on; what the agent sends is checked, and the first thing that is wrong ends the process.
 */
#ifndef LAMBDA_INIT_H
#define LAMBDA_INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  /* length, type and meta length */
  HEAD_BYTES = 9,
  /* what the length counts beside meta and body */
  LENGTH_MIN = 5,
  ID_BYTES = 4,
  DATA_BYTES_MAX = 16 * 1024,
  /* how much may be under way in each direction of a stream */
  WINDOW_BYTES = 64 * 1024,
  LENGTH_MAX = LENGTH_MIN + ID_BYTES + DATA_BYTES_MAX,
  INIT_LENGTH_MAX = 320 * 1024,
  /* opened by the program, and as many by the agent */
  STREAMS_PER_SIDE = 64,
  STREAMS = 2 * STREAMS_PER_SIDE,
};

enum frame_type {
  HELLO = 0x01,
  PONG = 0x07,
  OPEN = 0x10,
  DATA = 0x11,
  END = 0x12,
  RESET = 0x13,
  WINDOW = 0x14,
  OPENED = 0x15,
  STARTED = 0x16,
  NOT_STARTED = 0x17,
  AGENT_INIT = 0x81,
  AGENT_PING = 0x83,
  AGENT_OPEN = 0x90,
  AGENT_DATA = 0x91,
  AGENT_END = 0x92,
  AGENT_RESET = 0x93,
  AGENT_WINDOW = 0x94,
};

/* Who an epoll event belongs to; numbers below STREAMS are streams. */
enum watched { CHANNEL_IN = STREAMS, CHANNEL_OUT, LISTENER, SIGNALS, TICKS };

/* Interest of 0 stops watching: a connection that hung up would wake the loop for ever otherwise. `current` remembers. */
void watch(int fd, uint32_t who, uint32_t interest, uint32_t *current);
/* Monotonic milliseconds. */
uint64_t now_ms(void);
/* Ends the program and this process. */
_Noreturn void leave(int status);
/* The same with status 1, after one line on descriptor 2. */
_Noreturn void fail(const char *reason);

uint32_t get_u32(const uint8_t *at);
void put_u32(uint8_t *at, uint32_t value);

/* channel.c: frames to and from the agent. */
void channel_open(void);
void channel_hello(void);
void channel_readable(void);
void channel_flush(void);
bool channel_empty(void);
/* Once a second; leaves when the agent has been silent for too long. */
void channel_tick(void);
/* Whether a DATA frame fits and still leaves room for frames without data. */
bool channel_takes_data(void);
/* False when there is no room now. */
bool channel_send(enum frame_type type, const uint8_t *body, size_t bytes);
/* Where the bytes of the next DATA frame go, DATA_BYTES_MAX of them; only when channel_takes_data(). */
uint8_t *channel_data_place(void);
void channel_send_data(uint32_t id, size_t bytes);

/* streams.c: the connections. */
void streams_begin(int listener);
void streams_accept(void);
void stream_event(uint32_t slot, uint32_t events);
/* Does what became possible for any stream; to be called before the loop waits. */
void streams_settle(void);
/* How long the loop may wait, ms; -1 for ever. */
int streams_patience(void);
/* Whether nothing more can come from the program. */
bool streams_dry(void);
void stream_open_for_agent(const uint8_t *body, size_t bytes);
void stream_frame(enum frame_type type, const uint8_t *body, size_t bytes);

/* program.c: the function's program. */
void program_watch(void);
void program_start(uint8_t *body, size_t bytes);
bool program_started(void);
void program_signals(void);
/* Ends this process as the program ended, once all that it sent has left. */
void program_leave_when_dry(void);
int program_patience(void);
void program_kill(void);

#endif
