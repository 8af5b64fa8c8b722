"""An HTTP server whose answer is in the path that is asked for. Its first line says its port.

With the arguments CERTIFICATE KEY it speaks TLS."""

import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        what, _, argument = self.path[1:].partition("/")
        getattr(self, what)(argument)

    def head(self, status, *headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def status(self, number):
        self.head(int(number), ("Content-Length", "0"))

    def by_turns(self, statuses):
        Handler.turn = getattr(Handler, "turn", -1) + 1
        self.status(statuses.split("/")[Handler.turn % 2])

    def headers_(self, _):
        body = "".join(f"{name}={value}\n" for name, value in sorted(self.headers.items())).encode()
        wanted = b"Accept=*/*\nConnection=close\nHost=name.example\nUser-Agent=kube-probe/1.36\nX-One=1\n"
        self.status(200 if body == wanted else 400)

    def to(self, where):
        self.head(302, ("Location", "/" + where), ("Content-Length", "0"))

    def loop(self, number):
        self.to(f"loop/{int(number) + 1}")

    def abroad(self, _):
        self.head(302, ("Location", "http://other.example/"), ("Content-Length", "0"))

    def chunked(self, _):
        self.head(200, ("Transfer-Encoding", "chunked"))
        self.wfile.write(b"5\r\nhello\r\n0\r\n\r\n")

    def endless(self, _):
        self.head(200, ("Content-Length", str(1 << 40)))
        self.wfile.write(b"x" * (1 << 20))

    def short(self, _):
        self.head(200, ("Content-Length", "100"))
        self.wfile.write(b"x")
        self.close_connection = True

    def old(self, _):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\nuntil the connection is closed")
        self.close_connection = True

    def nonsense(self, _):
        self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        self.close_connection = True

    def log_message(self, *_):
        pass


# Who asks hangs up as soon as it knows enough.
ThreadingHTTPServer.handle_error = lambda *_: None
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if len(sys.argv) == 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
