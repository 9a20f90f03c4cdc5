# SPDX-License-Identifier: BSD-3-Clause
"""Runs patchbayd-control-only in a directory of its own and talks to it.

The binary is named by the environment's PATCHBAYD (meson sets it). fake() talks to
the test double of the dataplane, see tests/fake_dataplane/fake_command.c.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from typing import Any, Callable

BINARY = os.environ.get("PATCHBAYD", "patchbayd-control-only")
# Sanitizers make everything slower; deadlines of tests are generous anyway.
SLOW = float(os.environ.get("PATCHBAY_TEST_SLOW", "1"))
# Who waits for a condition waits so many times longer than a quick machine needs.
PATIENCE = 4

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "system"))  # for pace.py


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float = 120) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]

    @property
    def etag(self) -> str | None:
        return self.headers.get("ETag")


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None,
        headers: dict[str, str] | None = None) -> Answer:
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    connection.request(method, path, body=body, headers=headers or {})
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


class Daemon:
    def __init__(self, *args: str, state: str | None = None, start: bool = True) -> None:
        self.dir = tempfile.mkdtemp(prefix="patchbay-control-")
        self.socket = self.dir + "/api.sock"
        self.state = state or self.dir + "/state.db"
        self.args = list(args)
        self.env: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.log_path = self.dir + "/log"
        self.connection: UnixConnection | None = None
        self.fake_file: Any = None
        if start:
            try:
                self.start()
            except BaseException:
                self.close()
                raise

    def command(self) -> list[str]:
        return [BINARY, "--socket", self.socket, "--state", self.state, "--vhost-dir", self.dir + "/vhost", *self.args]

    def spawn(self, **kwargs: Any) -> subprocess.Popen[bytes]:
        env = dict(os.environ, PATCHBAY_FAKE=self.dir + "/fake.sock", **self.env)
        with open(self.log_path, "ab") as log:
            return subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, **kwargs)

    def start(self) -> None:
        self.process = self.spawn()
        wait_for(self.answers, "the daemon answers", self.log)

    def answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError("the daemon ended: " + self.log())
        try:
            return self.get("/v1/version").status == 200
        except OSError:
            self.forget_connections()
            return False

    def log(self) -> str:
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def forget_connections(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None
        if self.fake_file is not None:
            self.fake_file.close()
        self.fake_file = None

    def stop(self, how: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.forget_connections()
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            code = self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the daemon did not end: " + self.log()) from None
        self.process = None
        return code

    def restart(self, how: int = signal.SIGTERM) -> None:
        self.stop(how)
        self.start()

    def close(self) -> None:
        if self.process is not None:
            code = self.stop()
            if code != 0:
                sys.stderr.write(self.log())
                raise AssertionError(f"the daemon ended with {code}")
        if os.path.exists(self.log_path):
            for sign in ("runtime error:", "Sanitizer", "broken contract"):
                if sign in self.log():
                    sys.stderr.write(self.log())
                    raise AssertionError(sign)
        shutil.rmtree(self.dir, ignore_errors=True)

    def connect(self, timeout: float = 30) -> UnixConnection:
        return UnixConnection(self.socket, PATIENCE * timeout)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        for attempt in (0, 1):
            if self.connection is None:
                self.connection = self.connect()
            try:
                return ask(self.connection, method, path, body, headers)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # A connection that idled too long was closed; a fresh one must do.
                self.connection.close()
                self.connection = None
                if attempt == 1:
                    raise
        raise AssertionError("unreachable")

    def get(self, path: str, **kwargs: Any) -> Answer:
        return self.ask("GET", path, **kwargs)

    def put(self, path: str, body: Any = None, **kwargs: Any) -> Answer:
        return self.ask("PUT", path, {} if body is None else body, **kwargs)

    def patch(self, path: str, body: Any, **kwargs: Any) -> Answer:
        return self.ask("PATCH", path, body, **kwargs)

    def delete(self, path: str, **kwargs: Any) -> Answer:
        return self.ask("DELETE", path, **kwargs)

    def fake(self, line: str) -> str:
        if self.fake_file is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(120)
            connection.connect(self.dir + "/fake.sock")
            self.fake_file = connection.makefile("rw")
            connection.close()
        self.fake_file.write(line + "\n")
        self.fake_file.flush()
        return self.fake_file.readline().strip()

    def table(self) -> dict[str, int]:
        return {key: int(value) for key, value in (item.split("=") for item in self.fake("table").split())}

    def generation(self) -> int:
        return self.get("/v1/stats").json["generation"]

    def plug(self, *names: str, kind: str = "none") -> None:
        """A vif and a port of the same name."""
        for name in names:
            body = {"kind": kind}
            if kind.startswith("vhost"):
                body["path"] = f"{self.dir}/{name}.sock"
            expect(self.put(f"/v1/vifs/{name}", body), 201)
            expect(self.put(f"/v1/networks/default/ports/{name}", {"vif": name}), 201)


def expect(answer: Answer, status: int, code: str | None = None) -> Answer:
    if answer.status != status:
        raise AssertionError(f"{answer.status} instead of {status}: {answer.body!r}")
    if code is not None and answer.code != code:
        raise AssertionError(f"{answer.code} instead of {code}: {answer.body!r}")
    return answer


def wait_for(condition: Callable[[], Any], what: str, explain: Callable[[], str] | None = None, seconds: float = 20) -> Any:
    seconds *= PATIENCE * SLOW
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}. {explain() if explain else ''}")
        time.sleep(0.005)


def crowd(count: int, work: Callable[[int], None]) -> None:
    """work(0 … count - 1), each in a thread of its own; the first failure is the test's, not lost in a thread."""
    failures: list[BaseException] = []

    def one(i: int) -> None:
        try:
            work(i)
        except BaseException as failure:  # pylint: disable=broad-except
            failures.append(failure)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class DaemonTest(unittest.TestCase):
    """One daemon for each test."""

    args: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.d = Daemon(*self.args)
        self.addCleanup(self.d.close)

    def check(self, answer: Answer, status: int, code: str | None = None) -> Answer:
        return expect(answer, status, code)


def main() -> None:
    unittest.main(verbosity=2)
