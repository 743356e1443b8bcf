"""A small MNIST, and a loopback server that hands it out."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dgmzoo.data import cache
from tests.support import file_writers

ROWS = {"train": 300, "test": 50}
CONTENTS, ARRAYS = file_writers.mnist(ROWS)
NAMES = {name.removesuffix(".gz"): name for name in CONTENTS}
FIRST = "train-images-idx3-ubyte.gz"


class Server:
    """Serves `contents` over loopback; `behave(handler, name, start)` may answer instead and return True."""

    def __init__(self):
        self.contents, self.requests, self.behave = dict(CONTENTS), [], None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rpartition("/")[2]
                first, _, _ = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
                start = int(first)
                server.requests.append((name, start))
                try:
                    if server.behave and server.behave(self, name, start):
                        return
                    if name not in server.contents:
                        return self.send_error(404)
                    body = server.contents[name]
                    self.send_response(206 if start else 200)
                    if start:
                        self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                    self.send_header("Content-Length", str(len(body) - start))
                    self.end_headers()
                    self.wfile.write(body[start:])
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.block_on_close = False
        self.address = f"http://127.0.0.1:{self.http.server_port}/"

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.http.shutdown()
            self.http.server_close()
            thread.join()


def held() -> set[str]:
    """What the cache holds, locks aside."""
    found = (p.relative_to(cache.root()) for p in cache.root().rglob("*") if p.is_file() and p.suffix != ".lock")
    return {str(path) for path in found}


WHOLE = {"mnist/manifest.json", *(f"mnist/{key.replace('/', '-')}.npy" for key in ARRAYS)}
