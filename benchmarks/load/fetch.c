/* COUNT clients that download the same thing at once, as cheaply as a client can: one thread, epoll, the body thrown
 * away inside the kernel (MSG_TRUNC, tcp(7)), so that on a small machine the servers are compared and not their readers.
 *
 *     fetch PORT PATH COUNT [again]
 *
 * Connects to 127.0.0.1. When all are done, a line for each on stdout: status, Content-Length, bytes of body received,
 * seconds to the first byte of the body, seconds to the last. With "again" each begins anew when it is done, for ever.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 16384, GULP = 1 << 20, SECONDS = 900 };

struct client {
    int fd, status;
    size_t filled; /* of head, until the header is complete */
    long long length, body;
    double first, last;
    char head[HEAD];
};

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void start(struct client *client, int epoll, int port, const char *path)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *client = (struct client){ .length = -1 };
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&to, sizeof to))
        err(1, "connect to port %d", port);
    dprintf(client->fd, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nConnection: close\r\n\r\n", path);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event))
        err(1, "epoll_ctl");
}

static ssize_t read_head(struct client *client)
{
    ssize_t got = recv(client->fd, client->head + client->filled, HEAD - 1 - client->filled, MSG_DONTWAIT);
    if (got <= 0)
        return got;
    client->head[client->filled += (size_t)got] = 0;
    char *end = strstr(client->head, "\r\n\r\n");
    if (!end)
        return client->filled < HEAD - 1 ? got : 0;
    char *length = strcasestr(client->head, "\r\ncontent-length:");
    sscanf(client->head, "HTTP/1.%*d %d", &client->status);
    client->length = length && length < end ? atoll(length + 17) : -1;
    client->body = (long long)client->filled - (end + 4 - client->head);
    return got;
}

static int step(struct client *client, double begun) /* whether there is more to come */
{
    ssize_t got;
    if (!client->status) {
        got = read_head(client);
    } else {
        got = recv(client->fd, NULL, GULP, MSG_TRUNC | MSG_DONTWAIT);
        client->body += got > 0 ? got : 0;
    }
    if (client->body > 0 && client->first == 0)
        client->first = now() - begun;
    if (got < 0 && errno == EAGAIN)
        return 1;
    client->last = now() - begun;
    return got > 0 && (client->length < 0 || client->body < client->length);
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc > 5)
        errx(2, "usage: fetch PORT PATH COUNT [again]");
    int count = atoi(argv[3]), left = count, epoll = epoll_create1(0);
    struct client *clients = calloc((size_t)count, sizeof *clients);
    struct epoll_event events[64];
    double begun = now();
    alarm(SECONDS); /* a server that hangs must not hang the benchmark */
    for (int i = 0; i < count; i++)
        start(&clients[i], epoll, atoi(argv[1]), argv[2]);
    while (left > 0) {
        int ready = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (step(client, begun))
                continue;
            close(client->fd);
            if (argc == 5 && (client->status != 200 || client->body != client->length))
                errx(1, "not served whole: status %d, %lld of %lld bytes", client->status, client->body, client->length);
            if (argc == 5)
                start(client, epoll, atoi(argv[1]), argv[2]);
            else
                left--;
        }
    }
    for (int i = 0; i < count; i++)
        printf("%d %lld %lld %.6f %.6f\n", clients[i].status, clients[i].length, clients[i].body, clients[i].first, clients[i].last);
    return 0;
}
