# SPDX-License-Identifier: BSD-3-Clause
"""QEMU's monitor protocol, as little of it as tests need."""
from __future__ import annotations

import json
import socket
import time
from typing import Callable


class QmpError(Exception):
    """QEMU's monitor refused, closed or kept silent."""


def connect_unix(path: str) -> socket.socket | None:
    """A connection to a Unix socket, or None while nobody listens there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(5)
        connection.connect(path)
        return connection
    except OSError:
        connection.close()
        return None


class Qmp:
    """A connection to the monitor's socket at path; deadlines are times of time.monotonic()."""

    def __init__(self, path: str, deadline: float):
        self.buffer = b""
        self.resets = 0
        while (connection := connect_unix(path)) is None:
            if time.monotonic() >= deadline:
                raise QmpError("QEMU's monitor can't be reached")
            time.sleep(0.02)
        self.socket = connection
        try:
            self._next("QMP", deadline)
            self.execute("qmp_capabilities", deadline)
        except BaseException:
            self.close()
            raise

    def execute(self, command: str, deadline: float, **arguments: object) -> object:
        """Runs a command, returns its answer; an underscore in an argument's name stands for QEMU's hyphen."""
        hyphened = {name.replace("_", "-"): value for name, value in arguments.items()}
        message = {"execute": command, "arguments": hyphened}
        try:
            self.socket.settimeout(max(0.1, deadline - time.monotonic()))
            self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise QmpError(f"QEMU's monitor can't be reached: {error}") from None
        return self._next("return", deadline)["return"]

    def wait_reset(self, action: Callable[[], object], deadline: float) -> None:
        """Calls action(), then waits for the event that says that the machine was reset."""
        # One reboot of Linux makes two of these events: the second one of the last time may lie here still.
        self.execute("query-status", deadline)
        seen = self.resets
        action()
        while self.resets == seen:
            self._next("event", deadline)

    def close(self) -> None:
        self.socket.close()

    def _next(self, key: str, deadline: float) -> dict:
        """The next message that has the key; resets on the way are counted."""
        while True:
            line, found, rest = self.buffer.partition(b"\n")
            if found:
                self.buffer = rest
                message = json.loads(line)
                if message.get("event") == "RESET":
                    self.resets += 1
                if "error" in message:
                    raise QmpError(f"QEMU's monitor: {message['error'].get('desc')}")
                if key in message:
                    return message
                continue
            self.socket.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise QmpError(f"QEMU's monitor sent no '{key}' in time") from None
            except OSError as error:
                raise QmpError(f"lost QEMU's monitor: {error}") from None
            if not data:
                raise QmpError("QEMU closed its monitor")
            self.buffer += data
