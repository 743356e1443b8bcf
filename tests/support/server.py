"""A small MNIST, and a loopback HTTP server that serves its files, well or with faults."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dgmzoo.data import cache
from tests.support import file_writers

ROWS = {"train": 300, "test": 50}
FILES, ARRAYS = file_writers.mnist_files(ROWS)
"""Name -> content of the packed files, and the arrays that they decode to."""
PACKED_NAMES = {name.removesuffix(".gz"): name for name in FILES}
"""Name that the decoder uses -> name on the server."""
FIRST_FILE = "train-images-idx3-ubyte.gz"
COMPLETE_CACHE = {"mnist/manifest.json", *(f"mnist/{key.replace('/', '-')}.npy" for key in ARRAYS)}
"""The files of a cache that holds the small MNIST."""


class Server:
    """A loopback server of `files`, which records its `requests` as (name, first byte).

    `respond(handler, name, start)` may send a faulty response instead; it returns True if it has sent one.
    """

    def __init__(self):
        self.files, self.requests, self.respond = dict(FILES), [], None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rpartition("/")[2]
                first, _, _ = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
                start = int(first)
                server.requests.append((name, start))
                try:
                    if server.respond and server.respond(self, name, start):
                        return
                    if name not in server.files:
                        return self.send_error(404)
                    body = server.files[name]
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
        """Serve in a thread until the block ends."""
        thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.http.shutdown()
            self.http.server_close()
            thread.join()


def cached_files() -> set[str]:
    """Paths of the files in the cache, relative to it and without locks."""
    root = cache.root()
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"}
