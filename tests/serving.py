"""A web server on this machine that serves one folder as a bucket does, counts what it sends, and fails when told to.

It is a process of its own: rasterio holds the interpreter's lock in some requests, and would wait for itself.
"""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONTROL = "/control"


class Server:
    """A running server.

    Attributes:
        url: its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def told(self, **state: Any) -> dict[str, Any]:
        """Change its state, and get it.

        `ranges`: answer requests for parts of a file with parts; `failures`: for each of the next requests for a
        part, an HTTP status to answer with, or null to send half and drop the connection; `always`: such a failure for
        every one; `bytes`: of files that were sent; `requests`: the path of every one.
        """
        data = json.dumps(state).encode()
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.url + CONTROL, data) as answer:
            content: dict[str, Any] = json.loads(answer.read())
        return content


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve a folder."""
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Server(f"http://127.0.0.1:{process.stdout.readline().strip()}")
        process.kill()


class _Handler(http.server.BaseHTTPRequestHandler):
    folder = Path()
    state: dict[str, Any] = {"ranges": True, "failures": [], "always": 0, "bytes": 0, "requests": []}  # noqa: RUF012

    def do_GET(self) -> None:
        state = self.state
        state["requests"].append(self.path)
        file = self.folder / self.path.split("?")[0].lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        body, asked = file.read_bytes(), re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        size, part = len(body), bool(asked and state["ranges"])
        failure = 0
        if part:
            first, last = int(asked[1]), min(int(asked[2] or size), size - 1)
            body = body[first : last + 1]
            failure = state["failures"].pop(0) if state["failures"] else state["always"]
        if failure:
            self.send_error(failure)
            return
        self.send_response(206 if part else 200)
        if part:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes" if state["ranges"] else "none")
        self.send_header("ETag", '"abc"')
        self.end_headers()
        if self.command == "GET":
            sent = body[: len(body) // 2] if failure is None else body
            state["bytes"] += len(sent)
            self.wfile.write(sent)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        self.state.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        body = json.dumps(self.state).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    _Handler.folder = Path(sys.argv[1])
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(httpd.server_port, flush=True)
    httpd.serve_forever()
