/* The load of bench/bench_tls.py: many callers of one TLS port, each a process of its own that makes one call after the other.
 *
 *   tls_load connections ADDRESS PORT MS   whole handshakes, each with one request, in one second; no session is resumed
 *   tls_load requests ADDRESS PORT MS      requests in one second on connections that stay
 *   tls_load throughput ADDRESS PORT MS    gigabits of a large answer in one second, on connections that stay
 *
 * All begin together and only what has ended in time counts; on a machine so slow that nothing has, the first call of each.
 * Certificates are for the script to look at. Errors end it with 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CALLERS = 16, STREAMS = 4 };

static const char ONE[] = "GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n";
static const char NEXT[] = "GET / HTTP/1.1\r\nHost: app\r\n\r\n";
static const char LARGE[] = "GET /large HTTP/1.1\r\nHost: app\r\n\r\n";

static struct shared {
    int ready;
    int64_t start, end;
    double done[CALLERS];
    int64_t last[CALLERS];
} *shared;
static struct sockaddr_in to;
static SSL_CTX *context;
static char part[1 << 16];

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static SSL *dialled(void) {
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0) err(1, "socket");
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) err(1, "connect");
    SSL *found = SSL_new(context);
    if (!found || !SSL_set_fd(found, fd) || SSL_connect(found) != 1) errx(1, "the handshake has failed");
    if (SSL_session_reused(found)) errx(1, "a session was resumed");
    return found;
}

static void hang_up(SSL *connection) {
    int fd = SSL_get_fd(connection);
    SSL_free(connection);
    close(fd);
}

static int received(SSL *connection) {
    int got = SSL_read(connection, part, sizeof part - 1);
    if (got <= 0) errx(1, "the connection has ended early");
    part[got] = 0;
    return got;
}

/* Ask, and read the whole answer: its head comes at once, and says how much there is. Octets of the body. */
static double answered(SSL *connection, const char *request) {
    int size = (int)strlen(request);
    if (SSL_write(connection, request, size) != size) errx(1, "the connection has ended early");
    int got = received(connection);
    char *body = strstr(part, "\r\n\r\n"), *length = strcasestr(part, "\r\ncontent-length:");
    if (strncmp(part, "HTTP/1.1 200", 12) || !body || !length || length > body) errx(1, "not the app's answer: %.40s", part);
    long long whole = atoll(length + strlen("\r\ncontent-length:")), left = whole - (got - (body + 4 - part));
    while (left > 0) left -= received(connection);
    return (double)whole;
}

static void call(const char *request, int number) {
    SSL *kept = request == ONE ? NULL : dialled();
    if (kept) answered(kept, NEXT);
    __atomic_add_fetch(&shared->ready, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&shared->start, __ATOMIC_SEQ_CST)) usleep(1000);
    for (;;) {
        SSL *connection = kept ? kept : dialled();
        double size = answered(connection, request);
        if (!kept) hang_up(connection);
        int64_t at = now();
        if (at > shared->end && shared->done[number] > 0) return;
        shared->done[number] += request == LARGE ? size * 8 : 1;
        shared->last[number] = at;
    }
}

int main(int count, char **words) {
    if (count != 5) errx(2, "see the head of tls_load.c");
    const char *request = !strcmp(words[1], "connections") ? ONE : !strcmp(words[1], "requests") ? NEXT : LARGE;
    int callers = request == LARGE ? STREAMS : CALLERS;
    to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[3]))};
    if (inet_pton(AF_INET, words[2], &to.sin_addr) != 1) errx(1, "%s is no address", words[2]);
    context = SSL_CTX_new(TLS_client_method());
    if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION)) errx(1, "no TLS 1.3");
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) err(1, "memory");
    for (int number = 0; number < callers; number++) {
        pid_t pid = fork();
        if (pid < 0) err(1, "fork");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            call(request, number);
            _exit(0);
        }
    }
    for (int64_t patience = now() + 10000000000LL; __atomic_load_n(&shared->ready, __ATOMIC_SEQ_CST) < callers;) {
        if (now() > patience || waitpid(-1, NULL, WNOHANG) > 0) errx(1, "a caller has ended");
        usleep(1000);
    }
    int64_t length = atoll(words[4]) * 1000000LL, start = now();
    shared->end = start + length;
    __atomic_store_n(&shared->start, start, __ATOMIC_SEQ_CST);
    int status, failed = 0;
    while (wait(&status) > 0) failed |= status;
    if (failed) errx(1, "a caller has failed");
    double done = 0;
    for (int number = 0; number < callers; number++) {
        done += shared->done[number];
        if (shared->last[number] - start > length) length = shared->last[number] - start;
    }
    printf("%.3f\n", request == LARGE ? done / (double)length : done * 1e9 / (double)length);
    return 0;
}
