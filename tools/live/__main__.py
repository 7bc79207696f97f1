"""The command line: `python3 run.py live`."""

from __future__ import annotations

import argparse
import runpy
import sys
import webbrowser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it runs as a folder, too

from camlib.errors import CamError, first_line
from camlib.models import Classifier, load_model
from camlib.zoo import BUNDLED
from tools import npm, posts
from tools.live import build, network, server

PORT = 8000
NAME = "clf"  # what a file of your own has to define


def classifier(model: str) -> Classifier:
    """The classifier with this name, or the one that a Python file makes."""
    if not model.endswith(".py"):
        return load_model(model)
    if not Path(model).is_file():
        raise build.LiveError(f"{model}: no such file.")
    sys.path.insert(0, str(Path(model).resolve().parent))  # for what it imports, as when it is run by itself
    try:
        made = runpy.run_path(model).get(NAME)
    except CamError:
        raise
    except Exception as error:
        raise build.LiveError(f"{model} ended with {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(made, Classifier):
        raise build.LiveError(f"{model} must define {NAME} = camlib.load_model(...), the classifier to explain.")
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
    posts.write(options.out.resolve(), folder)
    print(build.sizes(folder))
    print(f"{options.out} is ready for any web server; python3 run.py live --serve opens it here")


def serve(folder: Path, port: int, browser: bool) -> None:
    """Until Ctrl-C."""
    try:
        running = server.server(folder, port)
    except OSError as error:
        raise build.LiveError(
            f"Port {port} cannot be used ({error.strerror}); give another: --serve {port + 1}"
        ) from error
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
        prog="live",
        description="The network and its maps as a page that runs in the reader's browser. Put the folder on any web "
        "server; nothing has to be installed there or by the reader, and no photo leaves the reader's computer.",
        epilog=f"A file of your own, for --model, is Python code that defines {NAME} = camlib.load_model(...). Its "
        "network needs an exact head; if it has none, you are told why. The first build fetches ONNX Runtime Web.",
    )
    parser.add_argument("--out", type=Path, default=Path("live"), help="the folder, replaced as a whole (%(default)s)")
    parser.add_argument(
        "--model", default=BUNDLED, metavar="NAME_OR_FILE", help="a network as camlib names it, or a .py (%(default)s)"
    )
    parser.add_argument(
        "--serve",
        type=int,
        nargs="?",
        const=PORT,
        metavar="PORT",
        help=f"then open it here, on 127.0.0.1 (port {PORT})",
    )
    parser.add_argument("--no-browser", action="store_true", help="with --serve: only print the address")
    parser.add_argument("--page-only", action="store_true", help="keep the folder's network, and build the rest anew")
    options = parser.parse_args(arguments)
    try:
        make(options)
    except (build.LiveError, npm.NpmError, CamError, OSError) as error:
        print(f"{error}\n{options.out} was not written.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nStopped; {options.out} was not written.", file=sys.stderr)
        return 130
    if options.serve is None:
        return 0
    try:
        serve(options.out.resolve(), options.serve, not options.no_browser)
    except build.LiveError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
