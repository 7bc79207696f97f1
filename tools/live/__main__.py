"""The command line: `python3 run.py live`."""

from __future__ import annotations

import argparse
import runpy
import sys
import webbrowser
from http.server import ThreadingHTTPServer
from pathlib import Path

from camlib.errors import CamError, first_line
from camlib.models import Classifier, load_model
from camlib.zoo import BUNDLED
from tools import npm
from tools.errors import ToolError
from tools.files import write_folder
from tools.live import build, network, server

PORT = 8000
NAME = "clf"  # what a file of your own has to define


def classifier(model: str) -> Classifier:
    """The classifier with this name, or the one that a Python file makes."""
    if not model.endswith(".py"):
        return load_model(model)
    if not Path(model).is_file():
        raise ToolError(f"{model}: no such file.")
    sys.path.insert(0, str(Path(model).resolve().parent))  # for what it imports, as when it is run by itself
    try:
        made = runpy.run_path(model).get(NAME)
    except CamError:
        raise
    except SystemExit as error:
        raise ToolError(f"{model} called sys.exit({error.code!r}) before it defined {NAME}.") from error
    except Exception as error:
        raise ToolError(f"Running {model} failed with {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(made, Classifier):
        raise ToolError(f"{model} must define {NAME} = camlib.load_model(...), the classifier to explain.")
    return made


def say(what: str) -> None:
    print(f"live: {what}", file=sys.stderr, flush=True)


def make(options: argparse.Namespace) -> None:
    """Build the folder, or raise what keeps it from being built, and leave it as it was."""
    build.check_folder(options.out)
    npm.package(build.RUNTIME)  # before the network, which takes longer: what is missing is told at once
    files = build.network_in(options.out) if options.page_only else network.exported(classifier(options.model), say)
    say("putting the folder together")
    folder = build.build(files)
    write_folder(options.out.resolve(), folder)
    print(build.sizes(folder))
    print(f"{options.out} is ready for any web server; python3 run.py live --serve opens it here")


def listening(folder: Path, port: int) -> ThreadingHTTPServer:
    """The server, before the work begins: a port that cannot be used is told at once."""
    if not 0 <= port <= 65535:
        raise ToolError(f"Port {port} does not exist; use a number from 1 to 65535.")
    try:
        return server.server(folder, port)
    except OSError as error:
        other = port + 1 if port < 65535 else PORT
        raise ToolError(f"Port {port} cannot be used ({error.strerror}); give another: --serve {other}") from error


def serve(running: ThreadingHTTPServer, browser: bool) -> None:
    """Serve the folder until Ctrl-C."""
    with running:
        address = server.address(running)
        print(f"{address} is open to this computer only; Ctrl-C ends it", flush=True)
        if browser:
            webbrowser.open(address)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            print()
            say("stopped")


def main(arguments: list[str] | None = None) -> int:
    """0 when the folder is built, 2 when it is not and nothing was changed."""
    parser = argparse.ArgumentParser(
        prog="python3 run.py live",
        description="Build a web page that runs the network and draws its maps in the reader's browser. Copy the "
        "folder to any web server. Neither the server nor the reader installs anything, and no photo leaves the "
        "reader's computer.",
        epilog=f"For a network of your own, give --model a Python file that defines {NAME} = camlib.load_model(...). "
        "The network needs an exact head; the error says what is missing. The first build downloads ONNX Runtime Web.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("live"),
        help="folder to write; an earlier build there is replaced (%(default)s)",
    )
    parser.add_argument(
        "--model", default=BUNDLED, metavar="NAME_OR_FILE", help="a network as camlib names it, or a .py (%(default)s)"
    )
    parser.add_argument(
        "--serve",
        type=int,
        nargs="?",
        const=PORT,
        metavar="PORT",
        help=f"then serve it on {server.HOST} and open it (default port {PORT})",
    )
    parser.add_argument("--no-browser", action="store_true", help="with --serve: only print the address")
    parser.add_argument("--page-only", action="store_true", help="rebuild the page, keep the network")
    options = parser.parse_args(arguments)
    running = None
    try:
        if options.serve is not None:
            running = listening(options.out.resolve(), options.serve)
        make(options)
    except (ToolError, CamError, OSError) as error:
        print(f"{error}\n{options.out} was not written.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nStopped; {options.out} was not written.", file=sys.stderr)
        return 130
    else:
        if running is not None:
            serve(running, not options.no_browser)
            running = None
        return 0
    finally:
        if running is not None:
            running.server_close()
