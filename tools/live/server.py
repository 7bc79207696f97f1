"""Serves a folder on this computer only, with the types that a browser demands of modules and WebAssembly."""

from __future__ import annotations

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"
TYPES = {  # not every system knows them, and a browser refuses a module or an app's manifest of another type
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}


class Handler(SimpleHTTPRequestHandler):
    """Quiet, and without a cache: what is built anew is what the browser gets."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, **TYPES}

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Says nothing about a tab that was closed while it loaded."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of the folder; port 0 takes any that is free. Raises OSError if the port is not."""
    return Server((HOST, port), partial(Handler, directory=str(folder)))


def address(running: ThreadingHTTPServer) -> str:
    """The address to open in a browser."""
    return f"http://{HOST}:{running.server_address[1]}/"
