# SPDX-License-Identifier: BSD-3-Clause
"""What Patchbay's system tests are made of: a daemon of one's own, conditions with deadlines, the checks of counters.

    class Wires(Case):
        def test_wire(self):
            daemon = Daemon(self)
            daemon.plug("a", "none")

Everything registers its own clean-up when it is made. A test that fails prints the last lines of the logs; with
PATCHBAY_PAUSE=1 it then waits for Enter, with everything still running. README.md here has the rest.
"""
from __future__ import annotations

import atexit
import ctypes
import functools
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("PATCHBAY_BUILD") or ROOT / "build").resolve()
PATCHBAYD = BUILD / "control" / "patchbayd"
PATCHBAY = BUILD / "tools" / "patchbay" / "patchbay"
for _program in (PATCHBAYD, PATCHBAY):
    if not _program.exists():
        raise RuntimeError(f"there is no {_program}: build Patchbay, and set PATCHBAY_BUILD to the build folder")


def _sanitized() -> bool:
    options = BUILD / "meson-info" / "intro-buildoptions.json"
    if not options.exists():
        return False
    return any(o["name"] == "b_sanitize" and o["value"] != "none" for o in json.loads(options.read_text()))


SANITIZED = _sanitized()
# Sanitizers make everything slower; limits on time that the daemon must keep are multiplied by this.
SLOW = 10 if SANITIZED else 1
# Who waits for a condition waits so many times longer than a quick machine needs: it costs nothing where the condition is met.
PATIENCE = 12 if SANITIZED else 4
# How long a daemon may take to end, wherever. That it is under a second on a quick machine is test_daemon.py's to show.
END_S = 20 * SLOW
# The frames of the tests that the design asks 10⁷ of.
MANY = 10**5 if SANITIZED else 10**7
# The daemon's worker takes the highest CPU by default; generators get the others.
CPUS = sorted(os.sched_getaffinity(0))
OTHER_CPUS = CPUS[:-1] or CPUS
# The daemon's sanitizers speak up at its end; leaks count.
SANITIZER_WORDS = ("AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:")


_figures: list[str] = []


def say(text: str) -> None:
    """A figure worth knowing. Printed when the class is done: a test's name and its result stand on one line."""
    _figures.append(text)


def _print_figures() -> None:
    for text in _figures:
        print(f"    figure: {text}", file=sys.stderr, flush=True)
    _figures.clear()


atexit.register(_print_figures)


def _on_term(*_: object) -> None:
    raise KeyboardInterrupt  # unittest then runs the clean-ups


if hasattr(signal, "SIGTERM"):
    signal.signal(signal.SIGTERM, _on_term)

_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_us() -> None:
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: even a killed test leaves no process behind


def spawn(command: list[Any], **options: Any) -> subprocess.Popen:
    """Starts a process that dies with us, in a session of its own. Call it from the main thread."""
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen([str(word) for word in command], start_new_session=True, preexec_fn=_die_with_us, **options)


def wait_for(what: str, condition: Callable[[], Any], deadline: float = 20.0, pause: float = 0.01) -> Any:
    """Waits until condition() is true and returns its value; AssertionError after PATIENCE times `deadline` seconds. A
    condition that raises AssertionError isn't met yet; what it says stands in the message."""
    end = time.monotonic() + deadline * PATIENCE
    while True:
        last: object
        try:
            last = condition()
            if last:
                return last
        except AssertionError as error:
            last = error
        if time.monotonic() >= end:
            raise AssertionError(f"not so after {deadline * PATIENCE:g} s: {what}" + (f"\nlast: {last}" if last else ""))
        time.sleep(pause)


def register(owner: "unittest.TestCase | type[unittest.TestCase]", function: Callable[..., object], *args: Any) -> None:
    """Clean-up at the end of the test, or of the class if the owner is one."""
    if isinstance(owner, type):
        owner.addClassCleanup(function, *args)
    else:
        owner.addCleanup(function, *args)


class Case(unittest.TestCase):
    """A TestCase that tells what went on when it fails."""
    maxDiff = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, function in list(vars(cls).items()):
            if (name.startswith("test") or name == "setUp") and callable(function):
                setattr(cls, name, _telling(function))
        if "setUpClass" in vars(cls):
            setattr(cls, "setUpClass", classmethod(_telling(vars(cls)["setUpClass"].__func__)))

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.witnesses: list[Callable[[], str]] = []  # what is printed when the test fails

    @classmethod
    def tearDownClass(cls) -> None:
        _print_figures()


def witness(owner: Any, function: Callable[[], str]) -> None:
    """Has function() printed if a test of the owner fails."""
    if isinstance(owner, type) and "class_witnesses" not in vars(owner):
        owner.class_witnesses = []
    (owner.class_witnesses if isinstance(owner, type) else owner.witnesses).append(function)


def _telling(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def told(self: Any, *args: Any) -> None:
        try:
            function(self, *args)
        except unittest.SkipTest:
            raise
        except BaseException as error:
            of_class = getattr(self if isinstance(self, type) else type(self), "class_witnesses", [])
            seen = [one() for one in [*of_class, *([] if isinstance(self, type) else self.witnesses)]]
            if os.environ.get("PATCHBAY_PAUSE"):
                print("\n".join([*seen, f"{type(error).__name__}: {error}", "paused, Enter goes on"]), file=sys.stderr,
                      flush=True)
                sys.stdin.readline()
            for text in seen:
                error.add_note(text)  # in the report at the end, below the traceback
            raise
    return told


def tail(path: Path, lines: int = 40) -> str:
    text = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join(f"    | {line}" for line in text[-lines:])


@dataclass
class Reply:
    """The daemon's answer to one request."""
    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> str:
        """The error's code, or ''."""
        return (self.body.get("error") or {}).get("code", "") if isinstance(self.body, dict) else ""


@dataclass
class Said:
    """What the command line tool said."""
    rc: int
    out: str
    err: str


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def huge_pages_free() -> int:
    text = Path("/proc/meminfo").read_text()
    return int(text.split("HugePages_Free:")[1].split()[0])


def dpdk_run_dirs(pid: int) -> list[Path]:
    roots = [Path("/var/run/dpdk"), Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")) / "dpdk"]
    return [root / f"patchbay-{pid}" for root in roots if (root / f"patchbay-{pid}").exists()]


class Daemon:
    """patchbayd in a temporary folder of its own, started and answering when the constructor returns. At the end of the
    test it is stopped, and it must end well then: see stop()."""

    def __init__(self, owner: Any, *options: str, hugepages: str = "off", namespace: str | None = None) -> None:
        """options: further ones of patchbayd; owner: the test, or its class in setUpClass; namespace: the network
        namespace in which it runs, where its TAPs first appear."""
        self.directory = Path(tempfile.mkdtemp(prefix="pb-system-"))
        register(owner, shutil.rmtree, self.directory, True)
        self.socket = self.directory / "api.sock"
        self.state = self.directory / "state.db"
        self.pidfile = self.directory / "patchbayd.pid"
        self.vhost_dir = self.directory / "vhost"
        self.vhost_dir.mkdir()
        self.log = self.directory / "patchbayd.log"
        self.options = ["--socket", str(self.socket), "--state", str(self.state), "--vhost-dir", str(self.vhost_dir),
                        "--hugepages", hugepages, *options]
        self.inside = ["ip", "netns", "exec", namespace] if namespace else []
        self.process: subprocess.Popen | None = None
        self._killed: list[int] = []
        self.started_s = 0.0  # how long the last start took
        witness(owner, lambda: f"--- the daemon's last lines:\n{tail(self.log)}")
        witness(owner, self._counters)
        register(owner, self.close)
        self.start()

    # Life

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> "Daemon":
        assert not self.alive()
        begin = time.monotonic()
        with self.log.open("ab") as log:
            self.process = spawn([*self.inside, PATCHBAYD, *self.options], stdout=log, stderr=log)
        wait_for("the daemon answers", self._answers, 30)
        self.started_s = time.monotonic() - begin
        return self

    def _answers(self) -> bool:
        if not self.alive():
            raise RuntimeError(f"patchbayd ended with {self.process.returncode}\n{tail(self.log)}")
        try:
            return self.api("GET", "/v1/version").body["pid"] == self.pid
        except (OSError, http.client.HTTPException):
            return False

    def kill9(self) -> None:
        """What a crash leaves, it leaves."""
        pid = self.pid
        self.process.kill()
        self.process.wait()
        # The next daemon should remove the run directory of this one; should there be none, we do.
        self._killed.append(pid)

    def stop(self) -> float:
        """SIGTERM. The daemon must end with 0 before long and leave nothing behind. Returns how long it took."""
        if not self.alive():
            raise AssertionError(f"patchbayd ended with {self.process.returncode} by itself")
        pid = self.pid
        try:
            vifs = self.items("/v1/vifs")
        except (OSError, AssertionError, http.client.HTTPException):
            vifs = []
        begin = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(2 * END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("patchbayd doesn't end on SIGTERM") from None
        took = time.monotonic() - begin
        text = self.log.read_text(errors="replace")
        found = [word for word in SANITIZER_WORDS if word in text]
        assert not found, f"{found[0]}: {text[text.index(found[0]):][:8000]}"
        assert self.process.returncode == 0, \
            f"patchbayd ended with {self.process.returncode} on SIGTERM\n{tail(self.log)}"
        assert took < END_S, f"patchbayd took {took:.2f} s to end"
        left = [str(path) for path in (self.socket, self.pidfile) if path.exists()]
        left += [vif["path"] for vif in vifs if vif["kind"] == "vhost-server" and os.path.exists(vif["path"])]
        left += [str(path) for path in dpdk_run_dirs(pid)]
        left += [vif["interface"] for vif in vifs
                 if vif["kind"] == "kernel-new" and self.has_interface(vif["interface"])]
        assert not left, f"patchbayd left behind: {left}"
        return took

    def has_interface(self, name: str) -> bool:
        """Whether a kernel interface of this name is where the daemon runs."""
        done = subprocess.run([*self.inside, "ip", "link", "show", "dev", name], capture_output=True,
                              stdin=subprocess.DEVNULL)
        return done.returncode == 0

    def restart(self) -> "Daemon":
        self.stop()
        return self.start()

    def close(self) -> None:
        try:
            if self.process is not None and self.process.returncode != -signal.SIGKILL:
                if self.process.returncode is None or self.alive():
                    self.stop()
        finally:
            for pid in self._killed:
                for path in dpdk_run_dirs(pid):
                    shutil.rmtree(path, ignore_errors=True)

    def _counters(self) -> str:
        """What stands where, for a test that failed."""
        lines = ["--- the daemon's counters:"]
        try:
            for vif in self.items("/v1/vifs"):
                status = vif["status"]
                lines.append(f"    | vif {vif['name']} {status['state']} {status['reason']} "
                             f"{json.dumps(self.vif_stats(vif['name']))}")
            lines += [f"    | {json.dumps(self.stats(wire['name']))}" for wire in self.items(wire_path("")[:-1])]
            lines.append(f"    | {json.dumps(self.get('/v1/stats'))}")
        except Exception as error:
            lines.append(f"    | {type(error).__name__}: {error}")
        return "\n".join(lines[:60])

    # API

    def api(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None,
            timeout: float = 120.0) -> Reply:
        """One request; any status is fine."""
        connection = _UnixConnection(self.socket, timeout)
        try:
            data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()},
                         json.loads(text) if text else None)
        finally:
            connection.close()

    def do(self, method: str, path: str, body: Any = None) -> Any:
        """One request that must succeed; returns the body."""
        reply = self.api(method, path, body)
        assert reply.status in (200, 201), f"{method} {path} {body}: {reply.status} {reply.body}"
        return reply.body

    def get(self, path: str) -> Any:
        return self.do("GET", path)

    def items(self, path: str) -> list[Any]:
        return self.get(path)["items"]

    def refused(self, method: str, path: str, body: Any = None) -> Reply:
        """One request that must be refused, with all that an error has."""
        reply = self.api(method, path, body)
        assert reply.status >= 400, f"{method} {path} {body} wasn't refused: {reply.body}"
        error = reply.body["error"]
        assert set(error) == {"code", "message", "field", "details"}, error
        assert error["message"], error
        return reply

    # Objects, in the network `default`

    def plug(self, name: str, kind: str = "vhost-server", target: str | None = None, port: bool = True) -> str:
        """Makes a vif, and the port of its name; returns the target: for vhost kinds by default a path of our own."""
        field = {"vhost": "path", "vhost-server": "path", "dev": "devargs", "kernel-new": "interface"}.get(kind)
        if target is None and field == "path":
            target = str(self.vhost_dir / f"{name}.sock")
        self.do("PUT", f"/v1/vifs/{name}", {"kind": kind, **({field: target} if field else {})})
        if port:
            self.do("PUT", f"/v1/networks/default/ports/{name}", {"vif": name})
        return target or ""

    def wire(self, name: str, a: str | None, b: str | None, **fields: Any) -> Any:
        return self.do("PUT", wire_path(name), {"a": a, "b": b, **fields})

    def tee(self, wire: str, name: str, query: str = "", **fields: Any) -> Any:
        """Makes a T, or puts it whole."""
        return self.do("PUT", f"{wire_path(wire)}/tees/{name}{query}", fields)

    def set_tee(self, wire: str, name: str, query: str = "", **fields: Any) -> Any:
        return self.do("PATCH", f"{wire_path(wire)}/tees/{name}{query}", fields)

    def remove_tee(self, wire: str, name: str, query: str = "") -> Any:
        return self.do("DELETE", f"{wire_path(wire)}/tees/{name}{query}")

    def set_wire(self, name: str, **fields: Any) -> Any:
        return self.do("PATCH", wire_path(name), fields)

    def wire_state(self, name: str) -> Any:
        return self.get(wire_path(name))["status"]

    def vif_state(self, name: str) -> Any:
        return self.get(f"/v1/vifs/{name}")["status"]

    def wait_vif(self, name: str, state: str = "up", deadline: float = 20.0) -> Any:
        def reached() -> Any:
            status = self.vif_state(name)
            assert status["state"] == state, f"vif {name} is {status['state']}: {status['reason']}"
            return status
        return wait_for(f"vif {name} is {state}", reached, deadline)

    def wait_wire(self, name: str, state: str = "up", deadline: float = 20.0) -> Any:
        def reached() -> Any:
            status = self.wire_state(name)
            assert status["state"] == state, f"wire {name} is {status['state']}: {status['reason']}"
            return status
        return wait_for(f"wire {name} is {state}", reached, deadline)

    # Counters

    def stats(self, wire: str) -> Any:
        return self.get(f"{wire_path(wire)}/stats")

    def vif_stats(self, vif: str) -> Any:
        return self.get(f"/v1/vifs/{vif}/stats")

    def settled(self, wire: str, deadline: float = 10.0) -> Any:
        """The wire's counters once they stand still and add up."""
        def still() -> Any:
            before = self.stats(wire)
            time.sleep(0.05)
            after = self.stats(wire)
            assert before == after, "the counters still move"
            check_sums(after)
            return after
        return wait_for(f"the counters of {wire} stand still and add up", still, deadline)

    # Command line

    def cli(self, *words: str, timeout: float = 240.0, check: bool = False) -> Said:
        """Runs the command line tool. check: it must end with 0."""
        done = subprocess.run([str(PATCHBAY), "--socket", str(self.socket), *words], capture_output=True, text=True,
                              timeout=timeout, stdin=subprocess.DEVNULL,
                              env={**os.environ, "LC_ALL": "C.UTF-8", "NO_COLOR": "1"})
        if check:
            assert done.returncode == 0, f"patchbay {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return Said(done.returncode, done.stdout, done.stderr)


def wire_path(name: str) -> str:
    return f"/v1/networks/default/wires/{name}"


def leg(stats: Any, way: str, source: str) -> Any:
    """One leg of a wire's counters; all zero if there is none yet."""
    zero = {"frames": 0, "bytes": 0}
    found = [one for one in stats[way]["legs"] if one["from"] == source]
    return found[0] if found else {"from": source, "received": zero, "delivered": zero, "dropped": {"total": 0},
                                   "to": []}


def to(stats: Any, way: str, source: str, where: str) -> int:
    """Frames that a leg delivered to one receiver."""
    return sum(one["frames"] for one in leg(stats, way, source)["to"] if one["to"] == where)


def tee_stats(stats: Any, name: str) -> Any:
    return next(tee for tee in stats["tees"] if tee["name"] == name)


def drops(thing: Any) -> dict[str, int]:
    """The reasons alone."""
    return {reason: count for reason, count in thing["dropped"].items() if reason != "total"}


def check_sums(stats: Any) -> None:
    """Nothing disappears: received = delivered + dropped on each leg and in all, offered = copied + dropped."""
    for way in ("a_to_b", "b_to_a"):
        total = stats[way]
        for one in [*total["legs"], total]:
            where = f"{way} {one.get('from', 'in all')}: {one}"
            assert one["received"]["frames"] == one["delivered"]["frames"] + one["dropped"]["total"], where
            assert one["dropped"]["total"] == sum(drops(one).values()), where
            if "to" in one:
                assert one["delivered"]["frames"] == sum(t["frames"] for t in one["to"]), where
                assert one["delivered"]["bytes"] == sum(t["bytes"] for t in one["to"]), where
        for what in ("received", "delivered"):
            for unit in ("frames", "bytes"):
                assert total[what][unit] == sum(one[what][unit] for one in total["legs"]), f"{way} {what}: {total}"
    for tee in stats["tees"]:
        if "offered" in tee:
            assert tee["offered"] == tee["copied"]["frames"] + tee["dropped"]["total"], tee
            assert tee["dropped"]["total"] == sum(drops(tee).values()), tee
