/*
 * A function in C, without a library: asks AWS's Runtime API for events and answers each with what it was given.
 * An event that holds "exit" ends it, one that holds "fail" is reported as an error.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_MAX = 16 * 1024 };

static int dial(void) {
  char address[64];
  snprintf(address, sizeof address, "%s", getenv("AWS_LAMBDA_RUNTIME_API"));
  char *colon = strchr(address, ':');
  if (colon == NULL) exit(90);
  *colon = '\0';
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(colon + 1))};
  inet_pton(AF_INET, address, &to.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) exit(91);
  return fd;
}

static void send_all(int fd, const char *bytes, size_t count) {
  while (count > 0) {
    ssize_t sent = write(fd, bytes, count);
    if (sent <= 0) exit(92);
    bytes += sent;
    count -= (size_t)sent;
  }
}

/* Reads one answer; its head into `head`, its body into memory that the caller frees. */
static char *receive(int fd, char *head, size_t *body_bytes) {
  size_t got = 0;
  char *end = NULL;
  while (end == NULL) {
    if (got == HEAD_MAX - 1) exit(93);
    ssize_t count = read(fd, head + got, HEAD_MAX - 1 - got);
    if (count <= 0) exit(94);
    got += (size_t)count;
    head[got] = '\0';
    end = strstr(head, "\r\n\r\n");
  }
  const char *length = strcasestr(head, "\r\ncontent-length:");
  *body_bytes = length == NULL ? 0 : strtoul(length + 17, NULL, 10);
  char *body = malloc(*body_bytes + 1);
  size_t have = got - (size_t)(end + 4 - head);
  memcpy(body, end + 4, have);
  while (have < *body_bytes) {
    ssize_t count = read(fd, body + have, *body_bytes - have);
    if (count <= 0) exit(95);
    have += (size_t)count;
  }
  body[*body_bytes] = '\0';
  end[0] = '\0';
  return body;
}

static void post(int fd, const char *id, const char *what, const char *body, size_t bytes) {
  char head[HEAD_MAX];
  int count = snprintf(head, sizeof head,
                       "POST /2018-06-01/runtime/invocation/%s/%s HTTP/1.1\r\nHost: runtime\r\nContent-Length: %zu\r\n\r\n", id,
                       what, bytes);
  send_all(fd, head, (size_t)count);
  send_all(fd, body, bytes);
  char answer[HEAD_MAX];
  size_t answer_bytes;
  free(receive(fd, answer, &answer_bytes));
  if (strncmp(answer, "HTTP/1.1 202", 12) != 0) exit(96);
}

int main(void) {
  static const char next[] = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: runtime\r\n\r\n";
  int fd = dial();
  printf("started %s\n", getenv("_HANDLER"));
  fflush(stdout);
  for (;;) {
    char head[HEAD_MAX];
    size_t bytes;
    send_all(fd, next, sizeof next - 1);
    char *event = receive(fd, head, &bytes);
    char id[128] = "";
    const char *at = strcasestr(head, "lambda-runtime-aws-request-id: ");
    if (at == NULL || sscanf(at + 31, "%127[^\r]", id) != 1) exit(97);
    if (bytes < 1000) {
      printf("event %s\n", event);
      fflush(stdout);
    }
    if (bytes < 1000 && strstr(event, "\"exit\"") != NULL) exit(7);
    if (bytes < 1000 && strstr(event, "\"fail\"") != NULL) {
      static const char error[] = "{\"errorMessage\":\"as asked\",\"errorType\":\"Asked\"}";
      post(fd, id, "error", error, sizeof error - 1);
    } else {
      post(fd, id, "response", event, bytes);
    }
    free(event);
  }
}
