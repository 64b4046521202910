/* The load of bench/bench_datapath.py and bench_mtls.py: as little of our own as possible between the kernel and the clock.
 *
 *   load serve PORT                        PORT answers what it gets, PORT+1 closes at once, PORT+2 swallows all,
 *                                          and a child for each connection
 *   load latency ADDRESS PORT MS           microseconds that one byte takes there and back on one connection: the median
 *   load slowest ADDRESS PORT MS           the same, but what 99 of 100 do not exceed
 *   load requests ADDRESS PORT MS [N]      such bytes in one second, on N kept connections at once
 *   load connections ADDRESS PORT MS [N]   connections opened and closed by both ends, one after the other, in one second
 *   load paced ADDRESS PORT MS N           N such connections a second, or as many as can be, refused ones as well: how many
 *   load throughput ADDRESS PORT MS [N]    gigabits in one second on N connections at once
 *   load idle ADDRESS PORT N               N connections that have carried a byte each, kept until the end
 *   load paused ADDRESS PORT N             N that are full to the brim, since nothing of what comes back is read
 *
 * Both ends block and take turns, so that on one processor the figure is what all of the work costs. Whatever the time, one
 * call is made. Errors end it with 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
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

static void serve_connection(int fd, int what) {
    ssize_t got;
    while ((got = read(fd, part, sizeof part)) > 0)
        if (what == ANSWERS && write(fd, part, (size_t)got) != got) break;
}

static void serve_one(int listener, int what) {
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        if (what != CLOSES && fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve_connection(fd, what);
            _exit(0);
        }
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

static double percentile(struct sockaddr_in to, long milliseconds, int percent) {
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
    return (double)took[count * (size_t)percent / 100] / 1e3;
}

static double latency(struct sockaddr_in to, long milliseconds) { return percentile(to, milliseconds, 50); }

static double slowest(struct sockaddr_in to, long milliseconds) { return percentile(to, milliseconds, 99); }

static double requests(struct sockaddr_in to, long milliseconds) {
    int fd = dialled(&to);
    int64_t started = now(), end = started + milliseconds * 1000000LL;
    long count = 0;
    for (; now() < end || !count; count++)
        if (write(fd, part, 1) != 1 || read(fd, part, 1) != 1) err(1, "connection");
    return (double)count * 1e9 / (double)(now() - started);
}

static double connections(struct sockaddr_in to, long milliseconds) {
    int64_t started = now(), end = started + milliseconds * 1000000LL;
    long count = 0;
    for (; now() < end || !count; count++) {
        int fd = dialled(&to);
        if (read(fd, part, 1) != 0) errx(1, "the connection was not closed in order");
        close(fd);
    }
    return (double)count * 1e9 / (double)(now() - started);
}

static double paced(struct sockaddr_in to, long milliseconds, int rate) {
    int64_t started = now(), end = started + milliseconds * 1000000LL, at;
    long count = 0;
    for (; (at = now()) < end || !count; count++) {
        int64_t due = started + count * 1000000000LL / rate;
        if (due > at) usleep((useconds_t)((due - at) / 1000));
        int fd = made();
        if (connect(fd, (const struct sockaddr *)&to, sizeof to) < 0 && errno != ECONNREFUSED) err(1, "connect");
        if (read(fd, part, 1) > 0) errx(1, "the connection was not closed in order");
        close(fd);
    }
    return (double)count * 1e9 / (double)(now() - started);
}

static double throughput(struct sockaddr_in to, long milliseconds) {
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
    return sent * 8 / (double)(now() - started);
}

/* Both say "ready" and live until they are killed. */
static void kept(struct sockaddr_in to, int many, int is_paused) {
    for (int each = 0; each < many; each++) {
        int fd = dialled(&to), quiet = 0;
        if (!is_paused) {
            if (write(fd, part, 1) != 1 || read(fd, part, 1) != 1) err(1, "connection");
            continue;
        }
        if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) err(1, "connection");
        while (quiet < 20) {  /* 20 ms without room */
            quiet = write(fd, part, sizeof part) > 0 ? 0 : quiet + 1;
            if (quiet) usleep(1000);
        }
    }
    puts("ready");
    fflush(stdout);
    pause();
}

typedef double (*Measured)(struct sockaddr_in, long);

/* The sum of what so many processes find at once. */
static double together(Measured measured, struct sockaddr_in to, long milliseconds, int processes) {
    double sum = 0, found;
    int ends[2], status;
    if (pipe(ends) < 0) err(1, "pipe");
    for (int each = 0; each < processes; each++) {
        pid_t pid = fork();
        if (pid < 0) err(1, "fork");
        if (pid) continue;
        found = measured(to, milliseconds);
        _exit(write(ends[1], &found, sizeof found) == sizeof found ? 0 : 1);
    }
    for (int each = 0; each < processes; each++) {
        if (wait(&status) < 0 || status) errx(1, "a connection has failed");
        if (read(ends[0], &found, sizeof found) != sizeof found) err(1, "pipe");
        sum += found;
    }
    return sum;
}

static const struct {
    const char *name;
    Measured measured;
    const char *form;
} WHAT[] = {
    {"latency", latency, "%.3f\n"},         {"slowest", slowest, "%.3f\n"},       {"requests", requests, "%.1f\n"},
    {"connections", connections, "%.1f\n"}, {"throughput", throughput, "%.3f\n"},
};

int main(int count, char **words) {
    if (count == 3 && !strcmp(words[1], "serve")) {
        serve(atoi(words[2]));
        return 1;
    }
    if (count != 5 && count != 6) errx(2, "see the head of load.c");
    struct sockaddr_in to = place(words[2], atoi(words[3]));
    long much = atol(words[4]);
    if (!strcmp(words[1], "idle") || !strcmp(words[1], "paused")) kept(to, (int)much, !strcmp(words[1], "paused"));
    if (!strcmp(words[1], "paced") && count == 6) {
        printf("%.1f\n", paced(to, much, atoi(words[5])));
        return 0;
    }
    int processes = count == 6 ? atoi(words[5]) : 1;
    for (size_t each = 0; each < sizeof WHAT / sizeof *WHAT; each++) {
        if (strcmp(words[1], WHAT[each].name)) continue;
        printf(WHAT[each].form, processes == 1 ? WHAT[each].measured(to, much) : together(WHAT[each].measured, to, much, processes));
        return 0;
    }
    errx(2, "see the head of load.c");
}
