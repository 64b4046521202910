/* The load of bench/bench_datapath.py: as little of our own as possible between the kernel and the clock.
 *
 *   load serve PORT                        PORT answers what it gets, PORT+1 closes at once, PORT+2 swallows all
 *   load latency ADDRESS PORT MS           microseconds that one byte takes there and back on one connection: the median
 *   load connections ADDRESS PORT MS       connections opened and closed by both ends, one after the other, in one second
 *   load throughput ADDRESS PORT MS        gigabits in one second on one connection
 *
 * Both ends block and take turns, so that on one processor the figure is what all of the work costs. Whatever the time, one call is made. Errors end it with 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ANSWERS, CLOSES, SWALLOWS, SERVERS };

static char part[1 << 17];

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int made(void) {
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0) err(1, "socket");
    return fd;
}

static struct sockaddr_in place(const char *address, int port) {
    struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &found.sin_addr) != 1) errx(1, "%s is no address", address);
    return found;
}

static int listening(int port) {
    struct sockaddr_in at = place("0.0.0.0", port);
    int yes = 1, fd = made();
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 1024) < 0) err(1, "port %d", port);
    return fd;
}

static void serve_one(int listener, int what) {
    for (;;) {
        ssize_t got;
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        if (what != CLOSES)
            while ((got = read(fd, part, sizeof part)) > 0)
                if (what == ANSWERS && write(fd, part, (size_t)got) != got) break;
        close(fd);
    }
}

static void serve(int port) {
    for (int what = 0; what < SERVERS; what++) {
        int listener = listening(port + what);
        pid_t pid = fork();
        if (pid < 0) err(1, "fork");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve_one(listener, what);
        }
        close(listener);
    }
    puts("ready");
    fflush(stdout);
    while (wait(NULL) > 0) {}
}

static int dialled(const struct sockaddr_in *to) {
    int fd = made();
    if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0) err(1, "connect");
    return fd;
}

static int ascending(const void *one, const void *other) {
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static void latency(struct sockaddr_in to, long milliseconds) {
    static int64_t took[1 << 20];
    int fd = dialled(&to);
    int64_t at = now(), counted = at + milliseconds * 100000LL, end = at + milliseconds * 1000000LL;  /* a tenth to get warm */
    size_t count = 0;
    while ((at < end || !count) && count < sizeof took / sizeof *took) {
        int64_t started = at;
        if (write(fd, part, 1) != 1 || read(fd, part, 1) != 1) err(1, "connection");
        at = now();
        if (started >= counted) took[count++] = at - started;
    }
    qsort(took, count, sizeof *took, ascending);
    printf("%.3f\n", (double)took[count / 2] / 1e3);
}

static void connections(struct sockaddr_in to, long milliseconds) {
    int64_t started = now(), end = started + milliseconds * 1000000LL;
    long count = 0;
    for (; now() < end || !count; count++) {
        int fd = dialled(&to);
        if (read(fd, part, 1) != 0) errx(1, "the connection was not closed in order");
        close(fd);
    }
    printf("%.1f\n", (double)count * 1e9 / (double)(now() - started));
}

static void throughput(struct sockaddr_in to, long milliseconds) {
    int fd = dialled(&to);
    int64_t started = now(), end = started + milliseconds * 1000000LL;
    double sent = 0;
    while (now() < end || !sent) {
        ssize_t wrote = write(fd, part, sizeof part);
        if (wrote < 0) err(1, "connection");
        sent += (double)wrote;
    }
    shutdown(fd, SHUT_WR);
    if (read(fd, part, 1) != 0) errx(1, "not everything has arrived");
    printf("%.3f\n", sent * 8 / (double)(now() - started));
}

int main(int count, char **words) {
    if (count == 3 && !strcmp(words[1], "serve")) {
        serve(atoi(words[2]));
        return 1;
    }
    if (count != 5) errx(2, "see the head of load.c");
    struct sockaddr_in to = place(words[2], atoi(words[3]));
    long much = atol(words[4]);
    if (!strcmp(words[1], "latency")) latency(to, much);
    else if (!strcmp(words[1], "connections")) connections(to, much);
    else if (!strcmp(words[1], "throughput")) throughput(to, much);
    else errx(2, "see the head of load.c");
    return 0;
}
