/* Prints the addresses of a name as this C library's resolver finds them, each once, or why there are none. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int count, char **words) {
    struct addrinfo hints, *found, *each;
    char text[64];
    memset(&hints, 0, sizeof hints);
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    int code = getaddrinfo(words[count - 1], NULL, &hints, &found);
    if (code != 0) {
        puts(gai_strerror(code));
        return 1;
    }
    for (each = found; each != NULL; each = each->ai_next)
        puts(inet_ntop(each->ai_family, &((struct sockaddr_in *)each->ai_addr)->sin_addr, text, sizeof text));
    return 0;
}
