"""run.py: each message is provoked, a set-up happens once and survives an interruption, and `lab` serves chapter 00."""

import ast
import base64
import hashlib
import importlib.util
import inspect
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pty = pytest.importorskip("pty") if os.name == "posix" else None
posix = pytest.mark.skipif(os.name != "posix", reason="signals and process groups of POSIX")


def load(path):
    specification = importlib.util.spec_from_file_location("run_under_test", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# ---- a project in small: run.py itself, a one-module camlib, a lock with one package, and no network

MAIN = """
import os, sys, tiny
print(sys.argv[1:], os.getcwd(), os.environ["PATH"].split(os.pathsep)[0], tiny.__file__)
sys.exit(len(sys.argv) - 1)
"""
BACKEND = """
import base64, hashlib, os, time, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    time.sleep(float(os.environ.get("SLOW_BUILD", 0)))
    return make_wheel(folder, "camlib", "0.1", {"camlib.pth": os.getcwd()})

"""
UV = """
import subprocess, sys
sys.exit(subprocess.call([UV_BINARY, *sys.argv[1:]]))
"""


def make_wheel(folder, name, version, files):
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    files = dict(files)
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    filename = f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, filename), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return filename


SYSTEMS = ("cpu", "darwin", "linux", "win32")


class Project:
    """A folder with run.py and all that it needs, small."""

    def __init__(self, folder, source=None):
        self.folder, self.wheels = folder / "project", folder / "wheels"
        (self.folder / "camlib").mkdir(parents=True)
        self.wheels.mkdir()
        (self.folder / "camlib" / "__main__.py").write_text(MAIN)
        (self.folder / "backend.py").write_text(BACKEND + inspect.getsource(make_wheel))
        (self.folder / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "camlib"\nversion = "0.1"\n'
        )
        (self.folder / "run.py").write_text(source or (ROOT / "run.py").read_text(encoding="utf-8"))
        self.lock({"tiny": {"tiny/__init__.py": ""}})

    def lock(self, packages):
        """Write wheels and a lock for {name: files}."""
        lines = ["# written by hand\n"]
        lines += [
            f"# {system}: {2000 + n} MB to download, {5000 + n} MB installed\n" for n, system in enumerate(SYSTEMS)
        ]
        for name, files in packages.items():
            wheel = self.wheels / make_wheel(self.wheels, name, "1.0", files)
            lines.append(f"{name}==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
        (self.folder / "requirements.txt").write_text("".join(lines))

    def environment(self, **more):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
        wheels = str(self.wheels)
        clean |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels, "UV_FIND_LINKS": wheels}
        return clean | {"UV_NO_CONFIG": "1", "UV_OFFLINE": "1", "NO_PROXY": "127.0.0.1"} | more

    def call(self, *arguments, cwd=None, **environment):
        command = [sys.executable, str(self.folder / "run.py"), *arguments]
        environment = self.environment(**environment)
        return subprocess.run(command, cwd=cwd or self.folder, env=environment, capture_output=True, text=True)

    def module(self):
        return load(self.folder / "run.py")


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def assert_stopped(called, *texts):
    """It ended with exit code 2 and one message that holds these texts."""
    assert called.returncode == 2, called.stderr
    assert called.stdout == ""
    assert "Traceback" not in called.stderr
    message = called.stderr[called.stderr.rindex("run.py: ") :]
    assert [text for text in texts if text not in message] == [], message


# ---- words


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_every_command(project, arguments):
    called = project.call(*arguments)
    assert (called.returncode, called.stderr) == (0, "")
    listed = re.findall(r"(?m)^  ([\w-]+) +\w", called.stdout)
    assert listed == [
        "set-up",
        "lab",
        "test",
        "test-browser",
        "heatmap",
        "notebooks",
        "classroom",
        "grade",
        "grades-export",
        "slides",
        "live",
        "posts",
        "new-post",
        "new-chapter",
        "new-exercise",
        "address",
        "update",
        "evidence",
        "minutes",
        "footprint",
        "mosaic",
        "bench",
        "release",
        "lock",
    ]
    assert not (project.folder / ".venv").exists()


def test_unknown_command_names_near_ones(project):
    assert_stopped(project.call("tset"), "no command 'tset'", "Did you mean test", "lab, test, test-browser, heatmap")
    assert "Did you mean" not in project.call("xyz").stderr


def test_every_command_leads_to_a_tool(monkeypatch):
    """And every tool that can be called to a command; the messages of tools name commands of run.py alone."""
    module, started = load(ROOT / "run.py"), []
    monkeypatch.setattr(module, "start", lambda arguments, *_, **__: started.append(arguments) or 0)
    own = {"set-up", "lab", "test", "test-browser", "heatmap", "evidence"}
    for command in set(module.COMMANDS) - own:
        assert module.run(command, ["x"]) == 0 and started[-1] == [str(ROOT / "tools"), command, "x"]
    text = (ROOT / "tools" / "__main__.py").read_text(encoding="utf-8")
    scope = {"__name__": "tools_main"}
    exec(compile(text, "tools/__main__.py", "exec"), scope)
    tools = {scope["ELSEWHERE"].get(name, (name.replace("-", "_"),))[0] for name in set(module.COMMANDS) - own}
    files = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tools").rglob("*.py")}
    callable_ones = {
        ".".join(path.relative_to(ROOT / "tools").with_suffix("").parts)
        for path, text in files.items()
        if re.search(r"(?m)^def main\(", text)
    }
    assert tools == callable_ones - {"classroom.desk"}, "desk is a kernel"
    said = {path.name: re.findall(r"python[3]? (?:-m )?tools[./]\w+", text) for path, text in files.items()}
    assert {name for name, found in said.items() if found} == set()


# ---- what can stand in the way


def test_chromium_is_installed_where_that_is_possible_or_asked_for(monkeypatch, capsys):
    module, called = load(ROOT / "run.py"), []
    monkeypatch.setattr(shutil, "which", lambda name: "there" if name == "chromium" else None)
    module.chromium()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(module.Stop, match="sudo apt install chromium"):
        module.chromium()
    monkeypatch.setattr(shutil, "which", lambda name: "there" if name == "apt-get" else None)
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setattr(subprocess, "call", lambda command, **_: called.append(command) or len(called) > 2)
    module.chromium()
    assert [command[1] for command in called] == ["update", "install"]
    with pytest.raises(module.Stop, match="apt-get update -qq failed"):
        module.chromium()


def test_old_pythons_can_read_it():
    source = (ROOT / "run.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 6))  # SyntaxError on newer syntax
    assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)


def test_too_old_python(tmp_path):
    source = (ROOT / "run.py").read_text(encoding="utf-8").replace("MINIMUM = (3, 11)", "MINIMUM = (99, 1)")
    project = Project(tmp_path, source)
    found = f"This is Python {sys.version_info[0]}.{sys.version_info[1]} "
    assert_stopped(project.call("test"), found, "99.1 or newer", "python99.1 run.py")
    assert not (project.folder / ".venv").exists()


def test_no_venv_module(project, tmp_path):
    """Debian's Python without the package python3-venv lacks ensurepip."""
    (tmp_path / "ensurepip.py").write_text("raise ImportError('No module named ensurepip')")
    called = project.call("test", PYTHONPATH=str(tmp_path))
    assert_stopped(called, "No module named ensurepip", "sudo apt install python3-venv")
    assert not (project.folder / ".venv").exists()


def test_too_little_disk(project, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")(9e12, 9e12, 1.24e9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    run = project.module()
    assert run.main(["test"]) == 2
    message = capsys.readouterr().err
    assert "Too little disk" in message and "about 5.0 GB" in message and "1.2 GB are free" in message
    assert not (project.folder / ".venv").exists()


def test_no_network(project):
    project.lock({"uv": {}, "tiny": {}})
    index = f"http://127.0.0.1:{free_port()}/"
    called = project.call("test", PIP_NO_INDEX="0", PIP_FIND_LINKS="", PIP_INDEX_URL=index, UV_INDEX_URL=index)
    assert_stopped(called, "could not be reached", "HTTPS_PROXY", "run the same command again", "    ERROR: ")
    assert "with pip" not in called.stderr, "without a network for uv there is none for pip"
    assert project.module().state()[0] == "unfinished"


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("error: failed to write: No space left on device (os error 28)", "disk is full"),
        ("ERROR: [Errno 28] No space left on device", "disk is full"),
        ("error: Request failed\n  Caused by: client error (Connect)", "could not be reached"),
        ("error: Request failed\n  Caused by: error sending request", "could not be reached"),
        ("error: Request failed\n  Caused by: dns error: failed to look up address", "could not be reached"),
        ("WARNING: Retrying after connection broken by 'SSLError'\nERROR: No matching", "could not be reached"),
        ("ERROR: No matching distribution found for torch==2.14.1", "Python 3.11 to 3.13"),
    ],
)
def test_failed_install_is_explained(project, log, message):
    run = project.module()
    run.VENV.mkdir()
    run.LOG.write_text(log)
    assert message in str(run.failed_install())
    assert log.splitlines()[-1].strip() in str(run.failed_install())


def test_missing_lock(project):
    (project.folder / "requirements.txt").unlink()
    assert_stopped(project.call("test"), "requirements.txt is missing", "git checkout")


# ---- the set-up


def test_set_up_happens_once(project, tmp_path):
    called = project.call("heatmap", "a photo.jpg", "--top=3", cwd=tmp_path)
    assert "making .venv" in called.stderr and "ready after" in called.stderr, called.stderr
    scripts = project.module().SCRIPTS
    tiny = next((project.folder / ".venv").rglob("tiny/__init__.py"))
    expected = f"{['a photo.jpg', '--top=3']} {tmp_path} {scripts} {tiny}\n"
    assert called.stdout == expected, "arguments, folder, PATH and packages reach the command"
    assert called.returncode == 2, "the command's own exit code"

    begin = time.monotonic()
    called = project.call("heatmap", "a photo.jpg", "--top=3", cwd=tmp_path)
    assert (called.stderr, called.stdout) == ("", expected)
    assert time.monotonic() - begin < 5

    project.lock({"tiny": {"tiny/__init__.py": "'another'"}, "more": {"more.py": ""}})
    called = project.call("heatmap")
    assert "making .venv" not in called.stderr and "ready after" in called.stderr, "a new lock is installed in place"
    assert list((project.folder / ".venv").rglob("more.py"))
    assert project.call("heatmap").stderr == ""

    project.lock({"third": {"third.py": ""}})
    lock = project.folder / "requirements.txt"
    lock.write_text(re.sub("sha256:.*", "sha256:" + 64 * "0", lock.read_text()))
    assert_stopped(project.call("heatmap"), "could not be installed", "third", "camlib-setup.log")
    assert (project.folder / ".venv" / "camlib-setup").read_text().splitlines()[0] == "unfinished", (
        "so it is made anew next time"
    )


# ---- PyTorch without CUDA

STUB = """
import os, subprocess, sys
arguments = [a for a in sys.argv[1:] if a not in ("--torch-backend", "cpu")]
if len(arguments) < len(sys.argv) - 1:
    if "REACHED" not in os.environ:
        sys.exit("error: Request failed after 3 retries\\n  cause: client error (Connect)\\n  cause: dns error")
    os.environ["UV_FIND_LINKS"] = os.environ["REACHED"]
sys.exit(subprocess.call([UV_BINARY, *arguments]))
"""


def with_torch(project, **more):
    """A lock as on Linux: PyTorch with CUDA, and beside the lock the CPU builds; uv is real but for their index."""
    uv = pytest.importorskip("uv").find_uv_bin()
    files = {"uv/__init__.py": "", "uv/__main__.py": STUB.replace("UV_BINARY", repr(uv))}
    cuda = {name: {f"{name.replace('-', '_')}.py": ""} for name in ("nvidia-cublas", "cuda-bindings", "triton")}
    own = {"tiny": {"tiny/__init__.py": ""}, "torchcam": {"torchcam.py": ""}}
    project.lock(
        {"uv": files, "torch": {"torch.py": "'cuda'"}, "torchvision": {"torchvision.py": ""}} | cuda | own | more
    )
    index = project.folder.parent / "PyTorch's own index"
    index.mkdir(exist_ok=True)
    for name in ("torch", "torchvision"):
        make_wheel(index, name, "1.0+cpu", {f"{name}.py": "'cpu'"})
    return {"REACHED": str(index)}


def modules(project):
    """What is installed, and which build of PyTorch."""
    found = {path.stem: path for path in (project.folder / ".venv").rglob("site-packages/*.py")}
    cuda = {"nvidia_cublas", "cuda_bindings", "triton"} & set(found)
    return found["torch"].read_text().strip("'"), len(cuda), "torchcam" in found and "more" in found


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere, PyTorch comes without CUDA")


@linux
def test_without_cuda(project):
    """--cpu leaves out what only CUDA needs, keeps every other pin, and is remembered when the lock changes."""
    reached = with_torch(project)
    called = project.call("--cpu", "heatmap", **reached)
    assert called.returncode == 0, called.stderr
    assert "downloads 2.0 GB at most (less what is cached), and takes 5.0 GB" in called.stderr
    assert called.stderr.index("downloads 2.0 GB") < called.stderr.index("installing") and "--cpu" not in called.stderr
    assert modules(project) == ("cpu", 0, False)
    assert project.call("heatmap").stderr == project.call("--cpu", "heatmap").stderr == ""
    with_torch(project, more={"more.py": ""})
    assert project.call("heatmap", **reached).returncode == 0
    assert modules(project) == ("cpu", 0, True)
    assert_stopped(project.call("set-up", "--gpu"), "set-up knows only --cpu, not --gpu")


@linux
def test_without_cuda_where_pytorchs_index_cannot_be_reached(project):
    """One line says so, and the locked build is installed; later commands do not try again, set-up does."""
    reached = with_torch(project, more={"more.py": ""})
    called = project.call("--cpu", "heatmap")
    assert called.returncode == 0, called.stderr
    (line,) = [line for line in called.stderr.splitlines() if "CPU build" in line]
    assert line.endswith("could not be fetched from PyTorch's own index; installing the build with CUDA instead")
    assert modules(project) == ("cuda", 3, True)
    assert project.call("heatmap").stderr == project.call("--cpu", "heatmap").stderr == ""
    assert project.call("set-up", "--cpu", **reached).returncode == 0
    assert modules(project) == ("cpu", 0, True), "what was there for CUDA is gone"


@pytest.mark.parametrize(("system", "line"), [("darwin", "2.0 GB"), ("win32", "2.0 GB"), ("linux", "--cpu COMMAND")])
def test_what_is_downloaded_is_said_on_every_system(project, system, line, monkeypatch, capsys):
    run = project.module()
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(run, "make_venv", lambda build: run.VENV.mkdir())
    monkeypatch.setattr(run, "install", lambda build: build)
    run.set_up(cpu=system != "linux")
    said = capsys.readouterr().err
    assert "downloads 2.0 GB" in said and line in said
    assert ("--cpu changes nothing here" in said) == (system != "linux")
    assert run.state()[2] == run.FULL


@posix
def test_interrupted_set_up_is_repaired(project):
    """With uv, as in real life: this environment's own, behind a wheel that hands over to it."""
    uv = pytest.importorskip("uv").find_uv_bin()
    files = {"uv/__init__.py": "", "uv/__main__.py": UV.replace("UV_BINARY", repr(uv))}
    project.lock({"uv": files, "tiny": {"tiny/__init__.py": ""}})
    command = [sys.executable, str(project.folder / "run.py"), "heatmap"]
    environment = project.environment(SLOW_BUILD="60")
    running = subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a job in the background
    )
    try:
        log = project.folder / ".venv" / "camlib-setup.log"
        deadline = time.monotonic() + 60
        while not (log.exists() and "Building camlib" in log.read_text()):  # its last step
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.1)
        os.killpg(running.pid, signal.SIGINT)  # what Ctrl-C does
        message = running.communicate(timeout=20)[1]
    finally:
        kill_group(running)
    assert running.returncode == 130
    assert "with uv" in message and message.endswith("stopped; the same command starts over.\n")
    assert "Traceback" not in message

    next(
        (project.folder / ".venv").rglob("tiny/__init__.py")
    ).unlink()  # half a package, which uv takes for a whole one
    called = project.call("heatmap")
    assert "because the last set-up did not finish" in called.stderr, called.stderr
    assert "with pip" not in called.stderr and called.returncode == 0, called.stderr


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (None, "the one here does not work"),
        ("unfinished", "the last set-up did not finish"),
        ("digest\n/another/folder", "this folder was moved"),
    ],
)
def test_unusable_venv_is_made_anew(project, state, reason):
    run = project.module()
    assert run.why_not_usable() == "there is none yet"
    run.VENV.mkdir()
    if state is not None:
        run.STATE.write_text(state)
    assert run.why_not_usable() == reason


def test_real_uv_takes_the_real_lock():
    pytest.importorskip("uv")
    if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("not run in .venv")
    command = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "--require-hashes"]
    command += ["--dry-run", "--offline", "--requirement", str(ROOT / "requirements.txt")]
    called = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert called.returncode == 0 and "Would make no changes" in called.stderr, called.stderr


class Started(Exception):
    """In the place of execve, which does not come back."""


@posix
@pytest.mark.parametrize(("command", "threads"), [("test", "2"), ("notebooks", "2"), ("heatmap", None), ("lab", None)])
def test_threads_are_set_where_numbers_are_compared(project, monkeypatch, command, threads):
    run = project.module()

    def execve(path, command, environment):
        raise Started(environment)

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.chdir(project.folder)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for expected in (threads, "7"):
        with pytest.raises(Started) as started:
            run.run(command, [])
        assert started.value.args[0].get("OMP_NUM_THREADS") == expected
        assert started.value.args[0]["OMP_WAIT_POLICY"] == "PASSIVE"
        monkeypatch.setenv("OMP_NUM_THREADS", "7")


# ---- lab


def kill_group(process):
    """Whatever is left of a process that leads a group of its own; returns whether anything was."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    process.wait()
    return True


def fetch(address):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(address, timeout=20).read().decode()


@posix
def test_lab_serves_the_first_chapter(tmp_path):
    run = load(ROOT / "run.py")
    if run.state() != [run.digest(), str(ROOT)]:
        pytest.skip("there is no finished .venv: python3 run.py test makes one")
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = {name: value for name, value in os.environ.items() if name != "JUPYTER_TOKEN"} | folders
    port = free_port()
    command = [sys.executable, str(ROOT / "run.py"), "lab", "--no-browser", f"--port={port}", "--ip=127.0.0.1"]
    terminal, keyboard = pty.openpty()  # on a terminal Jupyter would ask whether Ctrl-C is meant
    with open(tmp_path / "log", "w") as log:
        lab = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdin=keyboard, stdout=log, stderr=log, start_new_session=True
        )
    try:
        address, token = wait_for_address(lab, tmp_path / "log", port)
        page = fetch(address)
        contents = f"http://127.0.0.1:{port}/api/contents/notebooks/00_first_heat_map.ipynb"
        with pytest.raises(urllib.error.HTTPError):
            fetch(contents)  # nobody gets in without the token
        notebook = json.loads(fetch(f"{contents}?token={token}"))
        lab.send_signal(signal.SIGINT)
        assert lab.wait(timeout=20) == 0
    finally:
        left = kill_group(lab)
        os.close(terminal)
        os.close(keyboard)
    assert not left, "something of it was still running"
    assert "<title>JupyterLab</title>" in page
    settings = json.loads(re.search(r'(?s)id="jupyter-config-data"[^>]*>(.*?)</script>', page)[1])
    assert settings["news"] == {"disabled": True}, "it asks the network for news"
    assert "first heat map" in notebook["content"]["cells"][0]["source"].lower()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def wait_for_address(lab, log, port):
    deadline = time.monotonic() + 60
    pattern = rf"(http://127\.0\.0\.1:{port}/lab/tree/notebooks/00_first_heat_map\.ipynb\?token=(\w+))"
    while (found := re.search(pattern, log.read_text())) is None:
        assert time.monotonic() < deadline and lab.poll() is None, log.read_text()
        time.sleep(0.2)
    return found.groups()
