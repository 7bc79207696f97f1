"""The room in which a submission runs: what the operating system can keep from it.

A sealed room (Linux) has namespaces of its own: no network, no other processes, a file system that can only be read and
in which the solutions, the gradebook, other submissions, the results and the teacher's home are empty folders. As root
the submission also runs as a user who owns nothing. Where that is not allowed, such as in a container, root still
changes the user; elsewhere the room is open, and only a container or another machine protects you.

The file is a script, too, so that it needs nothing but Python: python -I room.py ROOM COMMAND…
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DESK = Path(__file__).resolve().with_name("desk.py")
KINDS = {
    "sealed": "",
    "other user": "Submissions run as another user, but with the network, and they can read what everyone can read.",
    "open": "Submissions run as you, with your files and your network: grade strangers' code in a container "
    "(notebooks/instructor/marks.md, What the marks can carry).",
}
FIRST_USER, USERS = 61184, 4000  # the range that systemd keeps for users who own nothing
FREE = ("/tmp", "/var/tmp", "/dev/shm")  # empty folders that everyone may write to, in a sealed room its own ones
SECONDS = 180  # for the probe: a cold import of PyTorch


@dataclass(frozen=True)
class Room:
    """How to run a submission: the kind of room, what is hidden in it, what is kept of that, what it may write."""

    kind: str = "open"
    hide: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    own: str = ""
    user: int = FIRST_USER

    def furnished(self, own: Path, number: int) -> "Room":
        """The room of one submission, with a folder of its own and, as far as root can, a user of its own."""
        for name in ("work", "home", "sockets"):
            (own / name).mkdir(parents=True)
        return replace(self, own=str(own), user=FIRST_USER + number % USERS)

    def command(self, command: Iterable[str]) -> list[str]:
        """The command that runs a command in the room."""
        enter = [sys.executable, "-I", __file__, json.dumps(asdict(self))]
        return [*(enter if self.kind != "open" else []), *command]

    def environment(self) -> dict[str, str]:
        home = str(Path(self.own) / "home")
        own = {"HOME": home, "IPYTHONDIR": f"{home}/ipython", "USER": "student", "LOGNAME": "student"}
        own |= {"PIP_TARGET": f"{home}/packages", "PIP_NO_INDEX": "1"}  # where the environment could be written to
        if self.kind != "sealed":  # which has a /tmp of its own
            own["TMPDIR"] = home
        return {k: v for k, v in os.environ.items() if k != "TMPDIR"} | own


def room_for(*secret: Path) -> Room:
    """The best room that this system can give, in which these folders are hidden."""
    room = Room(kind=best_kind(), hide=_hidden(secret), keep=_kept())
    if KINDS[room.kind]:
        print(f"classroom: no sealed room on this system. {KINDS[room.kind]}", file=sys.stderr)
    return room


@cache
def best_kind() -> str:
    """The first kind of room in which what grading needs can be imported, and the exercises not be read."""
    looks = f"import os, camlib, ipykernel, nbformat; os.listdir({str(ROOT)!r}); open('ours', 'w')"
    secret = f"raise SystemExit(len(os.listdir({str(ROOT / 'notebooks')!r})))"
    root = sys.platform == "linux" and os.getuid() == 0
    for kind in KINDS if root else [k for k in KINDS if k != "other user"]:
        seen = f"import contextlib\nwith contextlib.suppress(FileNotFoundError): {secret}" if kind == "sealed" else ""
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o711)
            room = Room(kind, _hidden(()), _kept()).furnished(Path(folder) / "room", 0)
            tried = [sys.executable, "-c", f"{looks}\n{seen}"]
            try:
                done = subprocess.run(
                    room.command(tried),
                    cwd=Path(room.own) / "work",
                    env=room.environment(),
                    capture_output=True,
                    timeout=SECONDS,
                )
            except (OSError, subprocess.TimeoutExpired):
                continue
            if done.returncode == 0:
                return kind
    return "open"  # whatever the reason, grading itself will say it


def _hidden(secret: Iterable[Path]) -> tuple[str, ...]:
    """Folders that a submission finds empty: the repository, people's files, and what it is told."""
    places = [ROOT, Path.home(), Path(tempfile.gettempdir()), *map(Path, ("/run", *FREE)), *secret]
    found = {str(place.resolve()) for place in places if place.is_dir()}
    return tuple(sorted(found - {"/"}, key=len))


def _kept() -> tuple[str, ...]:
    """What grading needs, wherever it lies: Python, its packages, camlib and the photos."""
    python = Path(sys.executable).resolve().parents[1]
    places = [Path(sys.prefix), Path(sys.base_prefix), python, ROOT / "camlib", ROOT / "data", DESK, Path(__file__)]
    found = [Path(p) for p in sys.path if p]  # other folders of packages, but nothing of the repository or around it
    places += [p for p in found if not ROOT.is_relative_to(p.resolve()) and not p.resolve().is_relative_to(ROOT)]
    return tuple(sorted({str(place) for place in places if place.exists()}, key=len))


# ---- inside, as a script: Linux only


UNSHARE = {"MOUNTS": 0x20000, "IPC": 0x8000000, "PROCESSES": 0x20000000, "NETWORK": 0x40000000}
UNSHARE_USER = 0x10000000
BIND, RECURSIVE, PRIVATE, NO_SUID_NO_DEVICES = 0x1000, 0x4000, 1 << 18, 2 | 4
MOUNT_SETATTR, HERE, ALL_BELOW, READ_ONLY = 442, -100, 0x8000, 1
DIE_WITH_PARENT, DROP_CAPABILITY, NO_NEW_PRIVILEGES = 1, 24, 38


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace")]


def enter(room: Room, command: list[str]) -> int:
    """Run a command in the room, and return how it ended."""
    cwd = os.getcwd()
    os.environ.pop("JPY_PARENT_PID", None)  # a number of the world outside, for which the kernel would look in vain
    _call("prctl", DIE_WITH_PARENT, signal.SIGKILL)
    if room.kind == "sealed":
        root, ids = os.getuid() == 0, (os.getuid(), os.getgid())
        _call("unshare", sum(UNSHARE.values()) | (0 if root else UNSHARE_USER))
        if not root:
            Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
            for kind, number in zip(("uid", "gid"), ids, strict=True):
                Path(f"/proc/self/{kind}_map").write_text(f"0 {number} 1", encoding="ascii")
        if first := os.fork():  # the first process of the new namespace: all others end with it
            return _ended(first)
        _call("prctl", DIE_WITH_PARENT, signal.SIGKILL)
        _furnish(room)
        if student := os.fork():
            return _ended(student)
    _become_nobody(room)
    os.chdir(cwd)
    os.execvpe(command[0], command, os.environ)


def _furnish(room: Room) -> None:
    """The file system of a sealed room: read-only, the hidden folders empty, the kept ones in their places."""
    _mount("", "/", "", RECURSIVE | PRIVATE)
    doors = {path: os.open(path, os.O_PATH) for path in (*room.keep, room.own)}
    writable = [room.own]
    for place in room.hide:
        if os.path.isdir(place):  # not yet gone with the folder around it
            free = place in FREE
            _mount("tmpfs", place, "tmpfs", NO_SUID_NO_DEVICES, "mode=1777,size=1g" if free else "mode=755,size=1m")
            writable += [place] * free
    for path, door in doors.items():
        if not os.path.exists(path):
            folder = os.fstat(door).st_mode & 0o040000
            os.makedirs(path if folder else os.path.dirname(path), exist_ok=True)
            if not folder:
                os.close(os.open(path, os.O_CREAT))
            _mount(f"/proc/self/fd/{door}", path, "", BIND | RECURSIVE)
        os.close(door)
    _mount("proc", "/proc", "proc", NO_SUID_NO_DEVICES)
    _attributes("/", ALL_BELOW, _MountAttributes(set=READ_ONLY))
    for place in writable:
        _attributes(place, 0, _MountAttributes(clear=READ_ONLY))
    with socket.socket() as any_socket:  # "lo" up, as libraries expect it
        import fcntl

        fcntl.ioctl(any_socket, 0x8914, b"lo".ljust(16, b"\0") + (1).to_bytes(2, sys.byteorder) + bytes(14))


def _become_nobody(room: Room) -> None:
    """No privileges, and none to be had again; as root, another user."""
    if os.getuid() == 0 and not _is_mapped():
        for folder, _, files in os.walk(room.own):
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                os.chown(path, room.user, room.user, follow_symlinks=False)
        os.setgroups([])
        os.setresgid(*[room.user] * 3)
        os.setresuid(*[room.user] * 3)
    else:
        for capability in range(64):
            ctypes.CDLL(None).prctl(DROP_CAPABILITY, capability, 0, 0, 0)
    _call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def _is_mapped() -> bool:
    """Whether user 0 is really somebody else, in a namespace with one user only."""
    return int(Path("/proc/self/uid_map").read_text(encoding="ascii").split()[2]) == 1


def _ended(process: int) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the kernel, which stops a cell and goes on
    while True:
        ended, status = os.wait()
        if ended == process:
            return os.waitstatus_to_exitcode(status) & 0xFF


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())


def _attributes(path: str, flags: int, change: _MountAttributes) -> None:
    _call("syscall", MOUNT_SETATTR, HERE, path.encode(), flags, ctypes.byref(change), ctypes.sizeof(change))


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    described = json.loads(sys.argv[1])
    sys.exit(enter(Room(**described), sys.argv[2:]))
