/*
 * The program of the container images in tests: static, so that it runs in an image with nothing else in it.
 *
 *   image-program api    speaks AWS's Runtime API and answers each event with what it sees
 *   image-program serve  serves HTTP on $PORT and answers each request with what it sees
 *   image-program wait   does nothing, for ever
 *   image-program exit   ends with status 3
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>


#define BYTES_MAX (7 << 20)

struct message {
  char *head;
  char *body;
  size_t body_bytes;
};

/* Reads a head and the body that it announces. */
static int read_message(int fd, struct message *message) {
  static char buffer[BYTES_MAX + 1];
  size_t bytes = 0;
  char *end = NULL;
  size_t wanted = 0;
  while (bytes < BYTES_MAX) {
    ssize_t got = read(fd, buffer + bytes, BYTES_MAX - bytes);
    if (got <= 0) return -1;
    bytes += (size_t)got;
    buffer[bytes] = 0;
    if (end == NULL && (end = strstr(buffer, "\r\n\r\n")) != NULL) {
      const char *length = strcasestr(buffer, "\r\ncontent-length:");
      wanted = length != NULL && length < end ? strtoul(length + 17, NULL, 10) : 0;
    }
    if (end != NULL && bytes >= (size_t)(end + 4 - buffer) + wanted) break;
  }
  if (end == NULL) return -1;
  *end = 0;
  message->head = buffer;
  message->body = end + 4;
  message->body_bytes = wanted;
  return 0;
}

static void write_all(int fd, const char *bytes, size_t count) {
  while (count > 0) {
    ssize_t written = write(fd, bytes, count);
    if (written <= 0) return;
    bytes += written;
    count -= (size_t)written;
  }
}

/* Whether something can be made at this path. */
static int writable(const char *path) {
  int fd = open(path, O_CREAT | O_WRONLY, 0600);
  if (fd < 0) return 0;
  close(fd);
  return 1;
}

/* What this program sees, as JSON. `said` is JSON already. */
static size_t describe(char *out, size_t size, const char *line, const char *said) {
  static int count;
  char cwd[256] = "";
  if (getcwd(cwd, sizeof cwd) == NULL) cwd[0] = 0;
  const char *names[] = {"GREETING", "PORT", "AWS_LAMBDA_FUNCTION_NAME", "_HANDLER", "LAMBDA_NONCE", "LAMBDA_CHANNEL"};
  int at = snprintf(out, size, "{\"line\":\"%s\",\"event\":%s,\"uid\":%d,\"gid\":%d,\"cwd\":\"%s\",\"count\":%d", line,
                    *said == 0 ? "null" : said, getuid(), getgid(), cwd, ++count);
  for (size_t i = 0; i < sizeof names / sizeof *names; i += 1) {
    const char *value = getenv(names[i]);
    if (value != NULL) at += snprintf(out + at, size - (size_t)at, ",\"%s\":\"%s\"", names[i], value);
  }
  at += snprintf(out + at, size - (size_t)at, ",\"rootWritable\":%s,\"tmpWritable\":%s,\"volumeWritable\":%s}",
                 writable("/made") ? "true" : "false", writable("/tmp/made") ? "true" : "false",
                 writable("/data/made") ? "true" : "false");
  return (size_t)at;
}

static int dial(const char *address, int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  inet_pton(AF_INET, address, &to.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
    perror("connect");
    exit(4);
  }
  return fd;
}

static int api(void) {
  static char answer[BYTES_MAX];
  char address[64];
  const char *where = getenv("AWS_LAMBDA_RUNTIME_API");
  if (where == NULL) return 5;
  snprintf(address, sizeof address, "%s", where);
  char *colon = strchr(address, ':');
  if (colon == NULL) return 5;
  *colon = 0;
  int port = atoi(colon + 1);
  for (;;) {
    struct message event;
    int fd = dial(address, port);
    dprintf(fd, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    if (read_message(fd, &event) != 0) return 6;
    close(fd);
    char id[64] = "";
    const char *header = strcasestr(event.head, "\r\nlambda-runtime-aws-request-id:");
    if (header == NULL || sscanf(header + 32, " %63[0-9a-zA-Z-]", id) != 1) return 7;
    event.body[event.body_bytes] = 0;
    size_t bytes = describe(answer, sizeof answer, "next", event.body);
    printf("event %s\n", id);
    fflush(stdout);
    fd = dial(address, port);
    dprintf(fd, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %zu\r\n\r\n", id, bytes);
    write_all(fd, answer, bytes);
    struct message accepted;
    if (read_message(fd, &accepted) != 0) return 8;
    close(fd);
  }
}

static int serve(void) {
  static char answer[BYTES_MAX];
  const char *port = getenv("PORT");
  if (port == NULL) return 5;
  /* The port is slow to open, as real servers are. */
  usleep(200 * 1000);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  int yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr = {INADDR_ANY}};
  if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 16) != 0) return 6;
  printf("serving\n");
  fflush(stdout);
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    struct message request;
    if (fd < 0) return 7;
    if (read_message(fd, &request) != 0) {
      close(fd);
      continue;
    }
    char line[1024] = "";
    sscanf(request.head, "%1000[^\r\n]", line);
    if (strstr(line, " /exit") != NULL) return 9;
    if (strstr(line, " /reset") != NULL) {
      close(fd);
      continue;
    }
    if (strstr(line, " /hang") != NULL) pause();
    if (strstr(line, " /close") != NULL) {
      close(listener);
      dprintf(fd, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
      close(fd);
      pause();
    }
    request.body[request.body_bytes] = 0;
    const char *status = strstr(line, " /teapot") != NULL ? "418 I'm a teapot" : "200 OK";
    size_t bytes = describe(answer, sizeof answer, line, request.body_bytes < 100000 ? request.body : "\"long\"");
    dprintf(fd, "HTTP/1.1 %s\r\ncontent-type: application/json\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: %zu\r\n\r\n", status, bytes);
    write_all(fd, answer, bytes);
    close(fd);
    printf("served %s\n", line);
    fflush(stdout);
  }
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  if (strcmp(mode, "api") == 0) return api();
  if (strcmp(mode, "serve") == 0) return serve();
  if (strcmp(mode, "wait") == 0) return pause();
  return 3;
}
