"""HTTP apps behind Envoy, run as a script inside a namespace: `python http_app.py http1|wsgi|grpc ADDRESS PORT`.

http1 answers every request with what it saw, as JSON. grpc does the same for unary calls over HTTP/2 in plain text.
`python http_app.py call ADDRESS:PORT BUNDLE NAME [KEY=VALUE …]` is a gRPC caller over TLS that prints the answer.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

METHOD = "/test.Echo/Call"


class Mirror(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        seen = {"peer": self.client_address[0], "connection": self.client_address[1], "headers": headers, "path": self.path}
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serve_wsgi(address: str, port: int) -> None:
    """Answers with the strings of its environment, as any WSGI server makes it of the headers."""
    from collections.abc import Callable, Iterable
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    def app(environ: dict[str, object], start: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({name: value for name, value in environ.items() if isinstance(value, str)}).encode()]

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with make_server(address, port, app, handler_class=Quiet) as server:
        print("ready", flush=True)
        server.serve_forever()


def serve_grpc(address: str, port: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    def mirror(request: bytes, context: grpc.ServicerContext) -> bytes:
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        return json.dumps({"peer": context.peer(), "headers": headers, "body": request.decode()}).encode()

    server = grpc.server(ThreadPoolExecutor(2))
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Call": grpc.unary_unary_rpc_method_handler(mirror)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    server.add_insecure_port(f"{address}:{port}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


def call_grpc(target: str, bundle: str, name: str, *metadata: str) -> None:
    import grpc

    with open(bundle, "rb") as file:
        credentials = grpc.ssl_channel_credentials(root_certificates=file.read())
    with grpc.secure_channel(target, credentials, [("grpc.ssl_target_name_override", name)]) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        pairs = tuple((key, value) for key, _, value in (each.partition("=") for each in metadata))
        print(call(b"hello", metadata=pairs, timeout=10).decode())


if __name__ == "__main__":
    role, *words = sys.argv[1:]
    if role == "http1":
        mirror = ThreadingHTTPServer((words[0], int(words[1])), Mirror)
        print("ready", flush=True)
        mirror.serve_forever()
    elif role == "wsgi":
        serve_wsgi(words[0], int(words[1]))
    elif role == "grpc":
        serve_grpc(words[0], int(words[1]))
    else:
        call_grpc(*words)
