"""An app for tests, run as a script inside a container: `python echo_app.py PORT...`.

On every port it answers TCP and UDP alike: `GET /stream` by lines without end, any other GET by a page that names the caller,
everything else by itself. Each TCP connection that it accepts is a line on standard output: `8080 10.255.1.3`.
"""

import socket
import sys
import threading
import time

STREAM_SECONDS = 0.02


def answer(connection: socket.socket, peer: str) -> None:
    try:
        with connection:
            got = connection.recv(65536)
            if got.startswith(b"GET /stream "):
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
                while True:
                    connection.sendall(b"more\n")
                    time.sleep(STREAM_SECONDS)
            if got.startswith(b"GET "):
                body = f"hello {peer}\n".encode()
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                return
            while got:
                connection.sendall(got)
                got = connection.recv(65536)
    except OSError:
        return


def serve(listener: socket.socket, port: int) -> None:
    while True:
        connection, (peer, _) = listener.accept()
        print(port, peer, flush=True)
        threading.Thread(target=answer, args=(connection, peer), daemon=True).start()


def echo(datagrams: socket.socket) -> None:
    while True:
        try:
            got, peer = datagrams.recvfrom(65536)
            datagrams.sendto(got, peer)
        except OSError:
            continue  # the client's port is closed by now


if __name__ == "__main__":
    for number in map(int, sys.argv[1:]):
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("", number))
        listener = socket.create_server(("", number), backlog=512)
        threading.Thread(target=echo, args=(datagrams,), daemon=True).start()
        threading.Thread(target=serve, args=(listener, number), daemon=True).start()
    threading.Event().wait()
