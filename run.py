#!/usr/bin/env python3
"""Sets the project up in .venv, once, and runs it: python3 run.py --help

On Linux, `python3 run.py --cpu COMMAND` installs PyTorch's build without CUDA, and later commands keep it.

Standard library only, and nothing that Python 3.6 cannot read, so that an old Python can still say that it is too old.
"""

import difflib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import List, NamedTuple, Optional
from urllib.parse import quote

MINIMUM = (3, 11)
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
SCRIPTS = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = SCRIPTS / ("python.exe" if os.name == "nt" else "python")
STATE = VENV / "camlib-setup"  # what is installed here, or UNFINISHED
UNFINISHED = "unfinished"
LOG = VENV / "camlib-setup.log"
LOCK = ROOT / "requirements.txt"
CHAPTER = ROOT / "notebooks" / "00_first_heat_map.ipynb"

FULL, CPU = "as locked", "cpu"
UNREACHED = "as locked, because PyTorch's CPU build could not be fetched"
CUDA = re.compile("(?:nvidia|cuda)-|triton$")  # what the lock has only for PyTorch's CUDA build
TORCH = ("torch", "torchvision")  # what comes from PyTorch's own index in their CPU builds

COMMANDS = {
    "set-up": "only set up; set-up --cpu: without CUDA",
    "lab": "open the course in JupyterLab, at its first chapter (--no-browser: only print the address)",
    "test": "run every test, doctest and notebook; options of pytest may follow, such as -k cam",
    "test-browser": "the tests in a real browser; installs chromium on Debian",
    "heatmap": "heat maps of your photographs: heatmap PHOTO ... (more: heatmap --help)",
    "notebooks": "run all notebooks, or those named, and store their outputs (notebooks clean, check: --help)",
    "classroom": "exercises to hand out: student and instructor versions, and a zip (more: classroom --help)",
    "grade": "grade a folder of submissions: a CSV and a feedback page for each (more: grade --help)",
    "grades-export": "add points given by hand to the table, and write files for Canvas and Moodle (more: --help)",
    "slides": "chapters as slide shows that need no network: slides 07, or slides all (more: slides --help)",
    "live": "the network in a browser, as a folder for any web server: live --serve (more: live --help)",
    "posts": "the chapters, or the notebooks named, as pages and as Markdown (more: posts --help)",
    "new-post": 'a notebook in the lesson form: new-post TITLE="…" (more: new-post --help)',
    "new-chapter": 'a chapter with its checks, tests and page for teachers: new-chapter TITLE="…" QUESTION="…?"',
    "new-exercise": 'a graded exercise with its answers and page for teachers: new-exercise TITLE="…"',
    "address": "set the repository's address in links, badges and Colab cells: address URL, or address --remove",
    "update": "write tables, titles, minutes, credits and citation anew from course.toml (--check: only report)",
    "evidence": "measure again what the chapters state; hours (evidence NAME: one script, evidence --help: which)",
    "minutes": "how long each chapter takes, and what its minutes consist of",
    "footprint": "what running each chapter costs the machine: CPU seconds and memory",
    "mosaic": "make the mosaics in data/mosaics and their boxes anew",
    "bench": "what an explanation costs, as a ratio to the bare network",
    "release": "check the version everywhere and build the package into dist/ (more: release --help)",
    "lock": "write requirements.txt and environment.yml anew (--upgrade: with the newest versions)",
}
NETWORK = (
    "connection refused|connection broken|failed to establish|name resolution|name or service not known|getaddrinfo"
    "|nodename nor servname|could not resolve|dns error|timed out|unreachable|max retries|proxyerror|tunnel error"
    "|error sending request|client error"
)
DISK_FULL = "no space left|os error 28|errno 28|not enough space on the disk"


class Stop(Exception):
    """A reason to end with exit code 2, written for the person who called."""


def say(text: str) -> None:
    """To stderr: stdout belongs to the command that is run."""
    print("run.py: " + text, file=sys.stderr, flush=True)


def usage() -> str:
    head = (
        "Usage: python3 run.py [--cpu] COMMAND [ARGUMENTS]\n\nSets the project up in .venv when that is needed, then:"
    )
    rows = [f"  {name:<13} {text}" for name, text in COMMANDS.items()]
    cpu = "--cpu, on Linux: PyTorch without CUDA, a quarter of the size, if you have no GPU; later commands keep it."
    return "\n".join([head, *rows, "", "Arguments are passed on to what the command starts.", cpu])


# ---- set-up


def set_up(cpu: bool = False, again: bool = False) -> None:
    """Make .venv what the lock says; do nothing where it already is.

    cpu: with PyTorch's CPU build; `again`, also where that could not be fetched before.
    """
    if not LOCK.is_file():
        raise Stop(f"{LOCK.name} is missing. Get it back with: git checkout {LOCK.name}")
    before = state()
    build = before[2] if len(before) > 2 else FULL
    if cpu and not sys.platform.startswith("linux"):
        say("--cpu changes nothing here: only PyTorch for Linux comes with CUDA")
    elif cpu and (build != UNREACHED or again):
        build = CPU
    if before == [digest(), str(ROOT), build] and PYTHON.exists():
        return
    start = time.time()
    problem = why_not_usable()
    if problem:
        check_modules()
        say(f"making .venv, because {problem}")
    say_sizes(build)
    if problem:
        make_venv(build)
    write_state(UNFINISHED, build)
    build = install(build)
    write_state(digest(), build)
    say(f"ready after {time.time() - start:.0f} s")


def digest() -> str:
    """Of everything that decides what is installed."""
    found = hashlib.sha256()
    for path in (LOCK, ROOT / "pyproject.toml"):
        found.update(path.read_bytes() + b"\0")
    return found.hexdigest()


def state() -> List[str]:
    """What write_state left: the lock's digest or UNFINISHED, the folder, and which build of PyTorch."""
    return STATE.read_text(encoding="utf-8").splitlines() if STATE.is_file() else []


def write_state(what: str, build: str) -> None:
    STATE.write_text("\n".join([what, str(ROOT), build]), encoding="utf-8")


class Sizes(NamedTuple):
    download: float  # GB
    installed: float


def sizes(build: str) -> Optional[Sizes]:
    """What the lock's head says, where `run.py lock` wrote it from the sizes of the packages' files."""
    system = "cpu" if build == CPU else "linux" if sys.platform.startswith("linux") else sys.platform
    pattern = rf"(?m)^# {system}: (\d+) MB to download, (\d+) MB installed"
    found = re.search(pattern, LOCK.read_text(encoding="utf-8"))
    return Sizes(int(found[1]) / 1e3, int(found[2]) / 1e3) if found else None


def say_sizes(build: str) -> None:
    """Before anything is fetched."""
    full, small = sizes(build), sizes(CPU)
    if full is None:
        return
    say(f"downloads {full.download:.1f} GB at most (less what is cached), and takes {full.installed:.1f} GB of disk")
    if sys.platform.startswith("linux") and build == FULL and small is not None:
        say(
            f"without an NVIDIA GPU you need less: {small.download:.1f} and {small.installed:.1f} GB with "
            "python3 run.py --cpu COMMAND"
        )


def why_not_usable() -> str:
    """Why .venv can't be completed as it is; empty where it can."""
    if not VENV.exists():
        return "there is none yet"
    before = state()
    if before[:1] == [UNFINISHED]:  # a package may lie there in halves, which no installer would notice
        return "the last set-up did not finish"
    if before and before[1:2] != [str(ROOT)]:
        return "this folder was moved"
    test = f"import pip, sys; sys.exit(sys.version_info < {MINIMUM})"
    if not PYTHON.exists() or subprocess.call([str(PYTHON), "-c", test], stderr=subprocess.DEVNULL):
        return "the one here does not work"
    return ""


def check_modules() -> None:
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        raise Stop(
            f"This Python ({sys.executable}) cannot make virtual environments: {error}. On Debian and Ubuntu: sudo apt "
            "install python3-venv. Elsewhere: install Python again, with its venv and pip parts. Then run the same "
            "command again."
        ) from None


def check_disk(build: str) -> None:
    free, needed = shutil.disk_usage(str(ROOT)).free / 1e9, sizes(build)
    if needed is not None and free < needed.installed:
        raise Stop(
            f"Too little disk: the packages need about {needed.installed:.1f} GB; {free:.1f} GB are free at {ROOT}. "
            "Make room or move this folder to another disk, then run the same command again."
        )


def make_venv(build: str) -> None:
    import venv

    if VENV.exists():
        shutil.rmtree(str(VENV))
    check_disk(build)
    VENV.mkdir()
    write_state(UNFINISHED, build)  # an interruption from here on is noticed
    try:
        venv.EnvBuilder(with_pip=True, symlinks=os.name != "nt").create(str(VENV))
    except subprocess.CalledProcessError as error:
        raise Stop(
            f"Python's own venv module failed: {error}. On Debian and Ubuntu: sudo apt install python3-venv. "
            "Elsewhere: install Python again, with its venv and pip parts. Then run the same command again."
        ) from None


def install(build: str) -> str:
    """The lock, then the project; with uv, which takes a sixth of pip's time, or else with pip. Returns the build."""
    # Only of a second try does pip's output say that the network is why: at least one has to be allowed.
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--retries=3"]
    # Bytecode once now, not at every start where PYTHONDONTWRITEBYTECODE is set.
    uv = [str(PYTHON), "-m", "uv", "pip", "install", "--compile-bytecode", "--python", str(PYTHON)]
    installer, have_uv = pip, install_uv(pip)
    if build == CPU and not (have_uv and install_cpu_torch(uv)):
        build = UNREACHED
        say("PyTorch's CPU build could not be fetched from PyTorch's own index; installing the build with CUDA instead")
        say_sizes(build)
        check_disk(build)
    locked = VENV / "lock.txt"
    locked.write_text(without_cuda() if build == CPU else LOCK.read_text(encoding="utf-8"), encoding="utf-8")
    lock = ["--require-hashes", "--no-deps", "--requirement", str(locked)]  # a lock holds all dependencies
    if have_uv:
        say("installing the packages with uv; the first time takes about a minute")
        if run_installer(uv + lock, bar=True):
            installer = uv
        else:
            say("uv could not; trying pip")
    if installer is pip:
        say("installing the packages with pip; the first time takes some minutes")
        if not run_installer(pip + lock):
            raise failed_install()
    if not run_installer([*installer, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]):
        raise failed_install()
    return build


def entries() -> List[str]:
    """The lock's entries, each with its hashes."""
    return re.findall(r"(?m)^[^\s#].*\n?(?:[ \t].*\n?)*", LOCK.read_text(encoding="utf-8"))


def without_cuda() -> str:
    """The lock without PyTorch, which has other hashes without CUDA, and without what only its CUDA build needs."""
    return "".join(entry for entry in entries() if name_of(entry) not in TORCH and not CUDA.match(name_of(entry)))


def name_of(entry: str) -> str:
    return re.split(r"[=\[]", entry)[0]


def install_cpu_torch(uv: List[str]) -> bool:
    """PyTorch at the lock's versions from its own index, whose address uv knows; False where that is not reached.

    What an earlier set-up installed for CUDA goes. There are no hashes: the lock has those of PyPI's files.
    """
    pins = [re.split(r"[ ;\\\n]", entry)[0] + "+cpu" for entry in entries() if name_of(entry) in TORCH]
    say("installing PyTorch without CUDA")
    if not run_installer([*uv, "--no-deps", "--torch-backend", "cpu", *pins]):
        return False
    cuda = sorted({name_of(entry) for entry in entries() if CUDA.match(name_of(entry))})
    uninstall = [*uv[: uv.index("install")], "uninstall", "--python", str(PYTHON), *cuda]
    return not cuda or run_installer(uninstall)


def install_uv(pip: List[str]) -> bool:
    """Install the lock's uv, with its hashes; False where pip has to do uv's work."""
    entry = "".join(entry for entry in entries() if name_of(entry) == "uv")
    if not entry:
        return False
    only_uv = VENV / "uv.txt"
    only_uv.write_text(entry, encoding="utf-8")
    say("installing uv")
    if run_installer([*pip, "--require-hashes", "--requirement", str(only_uv)]):
        return True
    if network_failed():
        raise failed_install()  # pip would fail again, later
    say("uv could not be installed")
    return False


def run_installer(command: List[str], bar: bool = False) -> bool:
    """Run it, with its output in LOG, and say every ten seconds how far it is. True when it succeeded.

    With `bar`, on a terminal, it draws its own progress there instead.
    """
    if bar and sys.stderr.isatty():
        return subprocess.call(command, cwd=str(ROOT)) == 0
    with LOG.open("wb") as log:
        process = subprocess.Popen(command, cwd=str(ROOT), stdout=log, stderr=subprocess.STDOUT)
        start = reported = time.time()
        try:
            while process.poll() is None:
                time.sleep(0.1)
                if time.time() - reported >= 10:
                    reported = time.time()
                    say(f"{reported - start:4.0f} s  {''.join(log_lines()[-1:])[:90]}")
        finally:
            if process.poll() is None:  # Ctrl-C
                process.kill()
                process.wait()
    return process.returncode == 0


def log_lines() -> List[str]:
    lines = LOG.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def network_failed() -> bool:
    return re.search(NETWORK, "\n".join(log_lines()), re.IGNORECASE) is not None


def failed_install() -> Stop:
    if re.search(DISK_FULL, "\n".join(log_lines()), re.IGNORECASE):
        needed = sizes(FULL)
        reason = "The disk is full" + (f"; the packages need about {needed.installed:.0f} GB" if needed else "")
        reason += ". Make room"
    elif network_failed():
        reason = (
            "The package index could not be reached. Check the network (a proxy goes into HTTPS_PROXY, another index "
            "into PIP_INDEX_URL and UV_INDEX_URL)"
        )
    else:
        reason = (
            f"The packages could not be installed with Python {sys.version.split()[0]} on {sys.platform}. Where no "
            "build fits, use Python 3.11 to 3.13 on 64-bit Linux, Windows or a Mac with Apple silicon"
        )
    tail = "\n".join("    " + line[:200] for line in log_lines()[-5:])
    return Stop(f"{reason}, then run the same command again. The last lines of {LOG}:\n{tail}")


# ---- commands


def start(arguments: List[str], folder: Optional[Path] = None, **settings: str) -> int:
    """Run .venv's Python with these arguments, in `folder`, or where the caller is."""
    command = [str(PYTHON), *arguments]
    environment = {
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: other jobs on the same cores get their time
        "PYTHONUTF8": "1",  # text is UTF-8 on Windows, too: files, pipes, and what notebooks read
    }
    environment.update(settings)
    environment.update(os.environ)  # the caller's own settings win
    environment["PATH"] = str(SCRIPTS) + os.pathsep + os.environ.get("PATH", os.defpath)
    environment["VIRTUAL_ENV"] = str(VENV)
    environment.pop("PYTHONHOME", None)
    if folder is not None:
        os.chdir(str(folder))
    if os.name == "posix":  # become the command: signals, terminal and exit code are then its own
        os.execve(command[0], command, environment)
    process = subprocess.Popen(command, env=environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the command gets it too, and decides
            continue


def no_news_question() -> None:
    """JupyterLab asks at its first start whether it may fetch news; the answer, in .venv alone, is no."""
    settings = VENV / "share" / "jupyter" / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    answer = '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}'
    (settings / "overrides.json").write_text(answer, encoding="utf-8")


def no_teachers_tools() -> None:
    """nbgrader's menus are for teachers, who switch them on: `jupyter labextension enable @jupyter/nbgrader`."""
    choice = VENV / "etc" / "jupyter" / "labconfig" / "page_config.json"
    if not choice.exists():
        choice.parent.mkdir(parents=True, exist_ok=True)
        choice.write_text('{"disabledExtensions": {"@jupyter/nbgrader": true}}', encoding="utf-8")


def lab(rest: List[str]) -> int:
    no_news_question()
    no_teachers_tools()
    named = [argument for argument in rest if argument.endswith(".ipynb")]
    try:
        notebook = os.path.relpath(named[0] if named else str(CHAPTER), str(ROOT))
    except ValueError:  # another drive of Windows, which JupyterLab would not show
        raise Stop(f"{named[0]} is not in this folder. Copy it to {ROOT / 'notebooks'}, then open the copy.") from None
    options = [
        f"--LabApp.default_url=/lab/tree/{quote(Path(notebook).as_posix())}",
        f"--ServerApp.root_dir={ROOT}",
        "--ServerApp.answer_yes=True",  # Ctrl-C ends it without a question
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    if "JUPYTER_TOKEN" not in os.environ:  # with a token of the caller's, Jupyter tells its address in the log only
        options.append("--log-level=WARN")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    say(f"starting JupyterLab on {notebook}; its address follows. Ctrl-C ends it.")
    return start(["-m", "jupyterlab", *options, *(a for a in rest if a not in named)], ROOT)


def chromium() -> None:
    """Make sure that there is one; the tests look for the same names."""
    if any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome")):
        return
    how = "Install Chromium so that `chromium` starts it; on Debian and Ubuntu: sudo apt install chromium"
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise Stop(f"The browser tests need Chromium, and there is none here. {how}")
    say("installing chromium with apt-get")
    quiet = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "--no-install-recommends", "chromium"]):
        if subprocess.call(command, env=quiet, stdout=sys.stderr):
            raise Stop(f"{' '.join(command)} failed. {how}")


def run(command: str, rest: List[str]) -> int:
    if command == "set-up":
        return 0
    if command == "lab":
        return lab(rest)
    if command in ("test", "test-browser"):
        # Two at a time, a file's tests together, as they share kernels and servers; -n 0 in `rest` switches it off.
        options = ["-n", "2", "--dist", "loadfile"]
        if command == "test-browser":
            chromium()
            options += ["-m", "browser", "tests/browser"]
        return start(["-m", "pytest", *options, *rest], ROOT, OMP_NUM_THREADS="2")
    if command == "heatmap":
        return start(["-m", "camlib", *rest])
    if command == "evidence":
        return start(["-m", "evidence", *rest], ROOT)
    tool = [str(ROOT / "tools"), command, *rest]
    return start(tool, OMP_NUM_THREADS="2") if command == "notebooks" else start(tool)


def check_command(command: str) -> None:
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=2, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise Stop(f"There is no command {command!r}.{hint} The commands are: {', '.join(COMMANDS)}.")


def check_python() -> None:
    if sys.version_info < MINIMUM:
        found, needed = (".".join(str(n) for n in version[:2]) for version in (sys.version_info, MINIMUM))
        raise Stop(
            f"This is Python {found} ({sys.executable}), and the course needs {needed} or newer. Install one, for "
            f"instance with your package manager, and call it by its name: python{needed} run.py ..."
        )


def main(arguments: List[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    try:
        cpu = "--cpu" in arguments
        command, *rest = [argument for argument in arguments if argument != "--cpu"] or ["set-up"]
        check_command(command)
        check_python()
        if command == "set-up" and rest:
            raise Stop(f"set-up knows only --cpu, not {rest[0]}")
        set_up(cpu, again=command == "set-up")
        return run(command, rest)
    except Stop as reason:
        say(str(reason))
    except OSError as error:
        say(f"{error}. Fix that, or remove {VENV} by hand, then run the same command again.")
    except KeyboardInterrupt:
        say("stopped; the same command starts over.")
        return 130
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
