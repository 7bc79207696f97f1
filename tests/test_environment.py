"""pyproject.toml, requirements.txt and environment.yml agree with each other, and with what is installed and built."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import run
from tools import lock
from tools.lock import CONDA_NAMES, FROM_PIP, PYTHON, direct_dependencies, environment, pins

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
LOCK = (ROOT / "requirements.txt").read_text(encoding="utf-8")
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")


def pinned_version(pin):
    (specifier,) = pin.specifier
    assert specifier.operator == "==", f"{pin} is not an exact pin"
    return Version(specifier.version)


def locked(**environment):
    """{name: version} of the lock's entries whose markers hold; here, or where `environment` says."""
    holding = [pin for pin in pins(LOCK) if pin.marker is None or pin.marker.evaluate(environment)]
    versions = {canonicalize_name(pin.name): pinned_version(pin) for pin in holding}
    assert len(versions) == len(holding), "a package is locked twice for one platform"
    return versions


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize(("platform", "os_name"), [("linux", "posix"), ("darwin", "posix"), ("win32", "nt")])
def test_lock_fits_pyproject(platform, os_name, python):
    versions = locked(sys_platform=platform, os_name=os_name, python_version=python, python_full_version=f"{python}.9")
    wrong = [
        f"{wanted}: locked {versions.get(canonicalize_name(wanted.name))}"
        for wanted in direct_dependencies(PYPROJECT)
        if canonicalize_name(wanted.name) not in versions
        or not wanted.specifier.contains(versions[canonicalize_name(wanted.name)])
    ]
    assert not wrong, "run `python3 run.py lock`"


def test_ranges_admit_a_gpu_servers_pytorch():
    ranges = {wanted.name: wanted.specifier for wanted in direct_dependencies(PYPROJECT)}
    assert ranges["torch"].contains("2.11.0")
    assert ranges["torchvision"].contains("0.26.0")


def test_lock_has_hashes_and_no_address():
    assert "://" not in LOCK + ENVIRONMENT
    entries = [line for line in LOCK.replace("\\\n", " ").splitlines() if not line.startswith("#")]
    assert len(entries) > 100
    assert [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry)] == []


def test_environment_yml_has_the_same_pins():
    content = yaml.safe_load(ENVIRONMENT)
    assert (content["name"], content["channels"]) == ("camlib", ["conda-forge"])
    *conda, pip = content["dependencies"]
    pypi_names = {conda_name: name for name, conda_name in CONDA_NAMES.items()}
    found = {Requirement(line).name: Requirement(line) for line in conda if line not in (f"python={PYTHON}", "pip")}
    assert len(found) == len(conda) - 2, "python and pip are there, once"
    found = {pypi_names.get(name, name): pinned_version(pin) for name, pin in found.items()}
    assert pip["pip"][-1] == "-e ."
    from_pip = {pin.name: pinned_version(pin) for pin in map(Requirement, pip["pip"][:-1])}
    assert set(from_pip) == FROM_PIP
    direct = {canonicalize_name(wanted.name) for wanted in direct_dependencies(PYPROJECT)}
    versions = locked(python_version=PYTHON, python_full_version=f"{PYTHON}.9")
    assert found | from_pip == {name: versions[name] for name in direct}, "run `python3 run.py lock`"
    assert environment(PYPROJECT, LOCK) == ENVIRONMENT, "run `python3 run.py lock`"


def test_installed_is_locked():
    if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("not run in .venv: the versions here are the caller's own")
    torch = importlib.metadata.version("torch")
    different, cpu = {}, torch.endswith("+cpu")
    for name, version in locked().items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = None
        if cpu and run.CUDA.match(name):
            assert installed is None, f"{name} is there for nothing: torch {torch} is without CUDA"
        elif installed is None or (Version(installed) != version and installed != f"{version}+cpu"):
            different[name] = f"installed {installed}, locked {version}"
    assert not different


def test_run_py_reads_the_lock_as_pip_does():
    """Every entry with its hashes, and what is left out without CUDA: PyTorch and what no other package asks for."""
    assert [run.name_of(entry) for entry in run.entries()] == [pin.name for pin in pins(LOCK)]
    assert "".join(run.entries()) == "".join(line for line in LOCK.splitlines(True) if not line.startswith("#"))
    left = {pin.name for pin in pins(run.without_cuda())}
    gone = {pin.name for pin in pins(LOCK)} - left
    assert gone >= {"torch", "torchvision", "triton", "nvidia-cublas"} and "torchcam" in left
    needed = {
        canonicalize_name(Requirement(line).name): name
        for name in left
        for line in _requires(name)
        if canonicalize_name(Requirement(line).name) in gone - {"torch", "torchvision"}
    }
    assert not needed, "these need what is only there for CUDA"


def _requires(name):
    try:
        return [line for line in importlib.metadata.requires(name) or [] if "extra ==" not in line]
    except importlib.metadata.PackageNotFoundError:  # of another system
        return []


def test_help_writes_no_lock(monkeypatch, capsys):
    """uv would print its own help and succeed, and the lock would get a second head."""
    monkeypatch.setattr(lock.subprocess, "run", lambda *_, **__: pytest.fail("this starts uv"))
    for flag in ("--help", "-h"):
        with pytest.raises(SystemExit) as end:
            lock.main([flag])
        assert end.value.code == 0
        assert capsys.readouterr().out.startswith("usage: python3 run.py lock [--upgrade]")


def test_the_lock_says_how_much_there_is_to_download():
    """The head is that of `run.py lock`, its installed size that of this environment; the README rounds it."""
    found = dict(re.findall(r"(?m)^# (\w+): (\d+ MB to download, \d+ MB installed)$", LOCK))
    assert sorted(found) == ["cpu", "darwin", "linux", "win32"]
    sizes = {name: [int(n) for n in re.findall(r"\d+", text)] for name, text in found.items()}
    assert all(100 < download < disk < 10_000 for download, disk in sizes.values())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"about {sizes['linux'][1] / 1e3:.0f} GB" in readme and f"about {sizes['cpu'][1] / 1e3:.0f} GB" in readme
    if Path(sys.prefix).resolve() == (ROOT / ".venv").resolve() and sys.platform == "linux":
        here = sum(size for name, size in lock.installed().items() if name in locked()) / 1e6
        name = "cpu" if importlib.metadata.version("torch").endswith("+cpu") else "linux"
        assert abs(here / sizes[name][1] - 1) < 0.1, "run `python3 run.py lock`"


def test_the_file_that_is_downloaded():
    """The best that fits: of Python 3.11 and the system, before one for any Python, before the source."""

    def package(*wheels, **more):
        files = [{"url": f"https://example.org/{tags}", "size": size} for tags, size in wheels]
        return {"name": "a", "wheels": files, "sdist": {"size": 9}} | more

    cases = {
        5: package(
            ("a-1-cp312-cp312-win_amd64.whl", 4), ("a-1-py3-none-any.whl", 6), ("a-1-cp311-cp311-win_amd64.whl", 5)
        ),
        6: package(("a-1-cp311-cp311-macosx_14_0_arm64.whl", 5), ("a-1-py3-none-any.whl", 6)),
        7: package(("a-1-cp39-abi3-win_amd64.whl", 7)),
        9: package(("a-1-cp311-cp311-win32.whl", 5)),
    }
    for size, entry in cases.items():
        assert lock.downloads({"packages": [entry]}, "win32") == {"a": size}
    assert lock.downloads({"packages": [package(marker="sys_platform == 'linux'")]}, "win32") == {}


WITHOUT_EXTRAS = """
import sys
sys.modules["scipy"] = sys.modules["timm"] = None  # as where they are not installed
import camlib, numpy as np, torch

photo = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
clf = camlib.load_model()
exp = camlib.explain(clf, photo)
assert exp.residual() < 1e-4
heat = exp.heatmap(exp.top(1)[0].index)
camlib.evaluate.pointing_game(heat, [(10, 10, 50, 50)])
for call in (
    lambda: camlib.evaluate.box_from_map(heat),
    lambda: camlib.sanity.rank_correlation(exp.map(0), exp.map(1)),
    lambda: camlib.sanity.edge_map(photo),
    lambda: camlib.load_model("timm/resnet18"),
):
    try:
        call()
    except camlib.CamError as error:
        print(error)
"""


def test_what_needs_an_extra_says_how_to_get_it():
    ran = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    assert [re.sub(r" needs .*", "", line) for line in said] == [
        "box_from_map",
        "rank_correlation",
        "edge_map",
        "timm/resnet18",
    ]
    assert [line.rpartition("pip install ")[2] for line in said] == ["scipy", "scipy", "scipy", "timm"]


def test_citation_has_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == tomllib.loads(PYPROJECT)["project"]["version"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"] and citation["title"] and citation["authors"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(".*", "data", "*.ipynb", "*.egg-info", "__pycache__", "build")
    shutil.copytree(ROOT, folder / "source", ignore=left_out)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", "."]
    built = subprocess.run([*command, "./source"], cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_holds_camlib_only(wheel):
    info = f"camlib-{tomllib.loads(PYPROJECT)['project']['version']}.dist-info"
    assert {name.split("/")[0] for name in wheel.namelist()} == {"camlib", info}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "camlib").rglob("*.py")}
    assert modules | {"camlib/page_parts/explorer.js"} <= set(wheel.namelist())
    assert "camlib = camlib.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_wheel_asks_for_the_core_only(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    asked = [Requirement(line) for line in Parser().parsestr(wheel.read(name).decode()).get_all("Requires-Dist")]
    core = {requirement.name for requirement in asked if requirement.marker is None}
    assert core == {Requirement(line).name for line in tomllib.loads(PYPROJECT)["project"]["dependencies"]}
    course = {"jupyterlab", "ipykernel", "ipywidgets", "nbclient", "nbformat", "nbval", "pytest"}
    assert core.isdisjoint(course | {"scipy", "timm"})
