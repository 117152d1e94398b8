"""Tries, from within the service's sandbox, what the unit forbids; prints what succeeded."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_libc: Final = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def _write(folder: str) -> Callable[[], None]:
    def attempt() -> None:
        Path(folder, "probe").write_text("x")
        Path(folder, "probe").unlink()

    return attempt


def _list(folder: str) -> Callable[[], None]:
    def attempt() -> None:
        if not any(Path(folder).iterdir()):
            raise OSError(errno.EACCES, "nothing to see")

    return attempt


def _write_executable_memory() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


def _see_others() -> None:
    Path("/proc/1/status").stat()


def _own_root() -> None:
    if Path("/proc/self/uid_map").read_text().split()[2] == "4294967295":
        return
    raise OSError(errno.EPERM, "only a few users are mapped")


def _set_uid_bit() -> None:
    file = Path(os.environ["STATE_DIRECTORY"], "suid")
    file.write_text("")
    try:
        file.chmod(0o4755)
    finally:
        file.unlink()


_MODULE: Final = ctypes.create_string_buffer(16)
ATTEMPTS: Final[dict[str, Callable[[], Any]]] = {
    "write to its state": _write(os.environ["STATE_DIRECTORY"]),
    "write to its runtime directory": _write(os.environ["RUNTIME_DIRECTORY"]),
    "connect to a server": lambda: socket.create_connection(("127.0.0.1", 8080)).close(),
    "look a name up": lambda: socket.getaddrinfo("localhost", 443),
    "read certificates": _list("/etc/ssl/certs"),
    "read its config": lambda: Path("/etc/pricecheck/pricecheck.toml").read_text(),
    "write to /etc": _write("/etc"),
    "write to /etc/pricecheck": _write("/etc/pricecheck"),
    "write to /usr": _write("/usr"),
    "write to /opt/pricecheck": _write("/opt/pricecheck"),
    "write to /var/lib": _write("/var/lib"),
    "write to /run": _write("/run"),
    "read the key's file": lambda: Path("/etc/pricecheck/keepa-api-key").read_text(),
    "see /home": _list("/home"),
    "see /root": _list("/root"),
    "see the /tmp of others": lambda: Path("/tmp/of-others").stat(),
    "see other processes": _see_others,
    "see all users": _own_root,
    "load a module": lambda: _call("init_module", _MODULE, 16, b""),
    "read the kernel log": lambda: _call("klogctl", 3, _MODULE, 16),
    "set the clock": lambda: _call(
        "clock_settime", 0, ctypes.byref(ctypes.create_string_buffer(16))
    ),
    "set the host name": lambda: socket.sethostname("x"),
    "change a kernel setting": lambda: Path("/proc/sys/kernel/hostname").write_text("x"),
    "change a control group": lambda: Path("/sys/fs/cgroup/x").mkdir(),
    "open a raw disk": lambda: os.open("/dev/vda", os.O_RDONLY),
    "make a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "make a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "make a namespace": lambda: _call("unshare", 0x10000000),
    "mount": lambda: _call("mount", b"x", b"/tmp", b"tmpfs", 0, None),
    "become another user": lambda: os.setuid(0),
    "run in real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "write executable memory": _write_executable_memory,
    "change its personality": lambda: _call("personality", 0x0400000),
    "make a file that is run as its owner": _set_uid_bit,
    "change its own priority": lambda: os.nice(-1),
    "trace a process": lambda: _call("ptrace", 16, 1, 0, 0),
}


def main() -> None:
    """Try everything; print the names of what worked, as JSON."""
    done = []
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
        except OSError:
            continue
        done.append(name)
    sys.stdout.write(json.dumps(done) + "\n")


main()
