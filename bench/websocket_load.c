/* Load for WebSocket echo servers: each connection sends a message, waits for its echo, and sends the next one.

   websocket_load PORT PATH CONNECTIONS BYTES SECONDS [text]
   Prints one line of JSON. With one thread it keeps several of the servers under test busy. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct connection {
    int fd;
    size_t sent;     /* of the frame */
    size_t received; /* of its echo */
    double since;    /* when the frame was begun */
    int events;
};

static unsigned char *frame;
static size_t frame_size, echo_size, payload_size;
static unsigned char echo_head[10];
static size_t echo_head_size;
static char buffer[1 << 20];
static unsigned long long messages, errors;
static double *latencies;
static size_t latency_count, latency_room;
static int poller;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static size_t put_length(unsigned char *at, unsigned char mask, size_t size) {
    if (size < 126) {
        at[0] = mask | size;
        return 1;
    }
    int bytes = size < 65536 ? 2 : 8;
    at[0] = mask | (bytes == 2 ? 126 : 127);
    for (int i = 0; i < bytes; i++) at[1 + i] = (uint64_t)size >> (8 * (bytes - 1 - i));
    return 1 + bytes;
}

static void make_frame(size_t size, int is_text) {
    static const unsigned char key[4] = {0x37, 0xfa, 0x21, 0x3d};
    payload_size = size;
    frame = malloc(size + 14);
    frame[0] = 0x80 | (is_text ? 1 : 2);
    frame_size = 1 + put_length(frame + 1, 0x80, size);
    memcpy(frame + frame_size, key, 4);
    frame_size += 4;
    for (size_t i = 0; i < size; i++) frame[frame_size + i] = (unsigned char)('a' + i % 26) ^ key[i % 4];
    frame_size += size;
    echo_head[0] = frame[0];
    echo_head_size = 1 + put_length(echo_head + 1, 0, size);
    echo_size = echo_head_size + size;
}

static int open_connection(int port, const char *path) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    int size = snprintf(buffer, sizeof(buffer),
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                        path, port);
    if (write(fd, buffer, size) != size) die("write");
    size_t have = 0;
    while (have < 4 || memcmp(buffer + have - 4, "\r\n\r\n", 4)) {
        if (have == sizeof(buffer) || read(fd, buffer + have, 1) != 1) die("handshake");
        have++;
    }
    if (memcmp(buffer, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "refused: %.60s\n", buffer);
        exit(1);
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void want(struct connection *c, int events) {
    struct epoll_event event = {.events = events, .data = {.ptr = c}};
    if (c->events == events) return;
    if (epoll_ctl(poller, c->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event) < 0) die("epoll_ctl");
    c->events = events;
}

static void fail(struct connection *c) {
    errors++;
    epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    c->fd = -1;
}

static void send_some(struct connection *c) {
    while (c->sent < frame_size) {
        ssize_t size = send(c->fd, frame + c->sent, frame_size - c->sent, MSG_NOSIGNAL);
        if (size < 0 && errno == EAGAIN) break;
        if (size < 0) return fail(c);
        c->sent += size;
    }
    want(c, c->sent < frame_size ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void begin(struct connection *c) {
    c->sent = c->received = 0;
    c->since = now();
    send_some(c);
}

static void receive_some(struct connection *c) {
    size_t left = echo_size - c->received;
    ssize_t size = recv(c->fd, buffer, left < sizeof(buffer) ? left : sizeof(buffer), 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) return fail(c);
    if (c->received < echo_head_size) {
        size_t head = echo_head_size - c->received;
        if (memcmp(buffer, echo_head + c->received, (size_t)size < head ? (size_t)size : head)) return fail(c);
    }
    c->received += size;
    if (c->received < echo_size) return;
    if (buffer[size - 1] != (char)('a' + (payload_size - 1) % 26)) return fail(c);
    messages++;
    if (latency_count < latency_room) latencies[latency_count++] = now() - c->since;
    begin(c);
}

static int compare(const void *a, const void *b) {
    double difference = *(const double *)a - *(const double *)b;
    return difference < 0 ? -1 : difference > 0;
}

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    int port = atoi(argv[1]), count = atoi(argv[3]);
    double seconds = atof(argv[5]);
    make_frame(atol(argv[4]), argc > 6);
    latency_room = 1 << 22;
    latencies = malloc(latency_room * sizeof(double));
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = calloc(count, sizeof(*all));
    for (int i = 0; i < count; i++) all[i].fd = open_connection(port, argv[2]);
    double started = now(), ends = started + seconds;
    for (int i = 0; i < count; i++) begin(&all[i]);
    while (now() < ends) {
        struct epoll_event events[256];
        int ready = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->fd >= 0 && events[i].events & EPOLLOUT) send_some(c);
            if (c->fd >= 0 && events[i].events & ~EPOLLOUT) receive_some(c);
        }
    }
    double took = now() - started;
    qsort(latencies, latency_count, sizeof(double), compare);
    double sum = 0;
    for (size_t i = 0; i < latency_count; i++) sum += latencies[i];
    printf("{\"messages\": %llu, \"seconds\": %.6f, \"mean_us\": %.1f, \"p99_us\": %.1f, \"errors\": %llu}\n", messages, took,
           latency_count ? sum / latency_count * 1e6 : 0, latency_count ? latencies[latency_count * 99 / 100] * 1e6 : 0,
           errors);
    return 0;
}
