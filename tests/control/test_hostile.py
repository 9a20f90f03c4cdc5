#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Hostile HTTP: each kind of abuse from many clients at once, again and again, while a good client is served. Nothing
crashes, nothing grows (memory, descriptors), everything ends in time, and the configuration is what the good client made.

PATCHBAY_TEST_SEED repeats the random ones, PATCHBAY_HOSTILE_SECONDS makes them longer.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import threading
import time
from typing import Callable

from harness import SLOW, DaemonTest, ask, crowd, main, wait_for
from pace import slowness

SEED = int(os.environ.get("PATCHBAY_TEST_SEED", random.randrange(1 << 32)))
SECONDS = float(os.environ.get("PATCHBAY_HOSTILE_SECONDS", "4"))
STATUSES = {100, 200, 201, 400, 403, 404, 405, 409, 412, 413, 414, 431, 472, 501, 503, 505}
GIB = 1 << 30
NET = "/v1/networks/default"
PUT = b"PUT /v1/vifs/evil HTTP/1.1\r\nHost: x\r\n"


def request(method: str, path: str | bytes, body: bytes = b"", extra: bytes = b"") -> bytes:
    target = path if isinstance(path, bytes) else path.encode()
    return b"%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s" % (method.encode(), target, extra, len(body), body)


class Hostile:
    """A client that speaks raw bytes and takes whatever comes."""

    def __init__(self, path: str, timeout: float = 120 * SLOW) -> None:
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.settimeout(timeout)
        self.connection.connect(path)

    def send(self, data: bytes) -> bool:
        """False: the daemon has hung up, which is its right."""
        try:
            self.connection.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def half_close(self) -> None:
        try:
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def read(self, limit: int = 1 << 24) -> bytes:
        """All until the daemon closes. TimeoutError: it doesn't."""
        data = b""
        try:
            while len(data) < limit and (piece := self.connection.recv(1 << 16)):
                data += piece
        except ConnectionResetError:
            pass
        return data

    def close(self) -> None:
        self.connection.close()


class GoodClient(threading.Thread):
    """Reads and writes all the time, each answer right and in time."""

    def __init__(self, test: "Fuzz") -> None:
        super().__init__()
        self.test = test
        self.turns = 0
        self.slowest = 0.0
        self.failure: BaseException | None = None
        self.stopping = threading.Event()
        self.client = test.d.connect(60 * SLOW)
        self.timed("GET", "/v1/version", None, 200)  # it has its place before the others come

    def timed(self, method: str, path: str, body: object, status: int) -> object:
        began = time.monotonic()
        answer = self.test.check(ask(self.client, method, path, body), status)
        self.slowest = max(self.slowest, time.monotonic() - began)
        return answer.json

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.timed("PUT", "/v1/vifs/good", {"kind": "none", "owner": str(self.turns)}, 201 if self.turns == 0 else 200)
                shown = self.timed("GET", "/v1/vifs/good", None, 200)
                assert isinstance(shown, dict) and shown["owner"] == str(self.turns), shown
                self.turns += 1
                self.stopping.wait(0.002)
        except BaseException as failure:  # pylint: disable=broad-except
            self.failure = failure

    def end(self) -> None:
        self.stopping.set()
        self.join()
        self.client.close()
        if self.failure is not None:
            raise self.failure


class Fuzz(DaemonTest):
    def setUp(self) -> None:
        super().setUp()
        self.d.forget_connections()
        self.pid = self.d.process.pid  # type: ignore[union-attr]
        self.good = GoodClient(self)
        self.good.start()
        self.addCleanup(self.end_good)

    def end_good(self) -> None:
        wait_for(lambda: self.good.turns > 5 or not self.good.is_alive(), "the good client is served")
        self.good.end()
        self.assertIsNone(self.d.process.poll(), self.d.log())  # type: ignore[union-attr]
        self.assertLess(self.good.slowest, 5 * SLOW * slowness(), "the good client waited too long")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident(self) -> int:
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def again_and_again(self, abuse: Callable[[], None], rounds: int = 3) -> None:
        """No growth: what a first round needed is enough for all others."""
        abuse()
        wait_for(lambda: self.descriptors() <= self.rest, "descriptors are given back")
        # How many clients are served at once is chance, and the most that were is what the heap has. A leak grows again.
        for series in range(3):
            before = self.resident()
            for _ in range(rounds):
                abuse()
            wait_for(lambda: self.descriptors() <= self.rest, "descriptors are given back")
            grown = self.resident() - before
            if SLOW != 1 or grown < 4 << 20:  # sanitizers keep what is freed
                return
        self.fail(f"memory grows, and grows: by {grown} bytes in series {series + 1}")

    @property
    def rest(self) -> int:
        """Descriptors with the good client alone."""
        if not hasattr(self, "_rest"):
            self._rest = 0
            self._rest = self.descriptors()
        return self._rest

    def answers(self, data: bytes) -> list[tuple[int, bytes]]:
        """What came back must be whole HTTP answers, with JSON where it is said to be JSON."""
        found = []
        while data:
            head, mark, rest = data.partition(b"\r\n\r\n")
            match = re.match(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*", head)
            self.assertIsNotNone(match, data[:200])
            status = int(match[1])  # type: ignore[index]
            self.assertTrue(mark, data[:200])
            self.assertIn(status, STATUSES, data[:200])
            if status == 100:
                data = rest
                continue
            length = re.search(rb"(?i)\r\nContent-Length: *(\d+)", head)
            if length is None:  # a list in chunks
                body, _, data = rest.partition(b"0\r\n\r\n")
            else:
                body, data = rest[:int(length[1])], rest[int(length[1]):]
                # The answer to a HEAD has the length of a body that isn't sent.
                if body.startswith(b"HTTP/1.1 "):
                    body, data = b"", rest
                elif b"application/json" in head and body:
                    json.loads(body.decode())
            found.append((status, body))
        return found

    def whole(self, data: bytes) -> bool:
        try:
            self.answers(data)
            return True
        except (AssertionError, ValueError):
            return False

    def one_answer(self, data: bytes, *statuses: int) -> None:
        """Sends a request that ends its connection; the answer has one of the statuses, and the daemon hangs up."""
        client = Hostile(self.d.socket)
        try:
            client.send(data)
            answers = self.answers(client.read())
        finally:
            client.close()
        self.assertTrue(answers, data[:100])
        self.assertIn(answers[0][0], statuses, (data[:100], answers[0]))

    def assert_untouched(self) -> None:
        """Nobody but the good client has changed anything."""
        objects = self.d.get("/v1/stats").json["objects"]
        self.d.forget_connections()
        self.assertEqual((objects["vifs"], objects["ports"], objects["wires"], objects["networks"]), (1, 0, 0, 1))

    # ---- random ----

    def mutate(self, generator: random.Random, data: bytes) -> bytes:
        chunks = bytearray(data)
        for _ in range(generator.choice((1, 1, 2, 3, 8, 40))):
            at = generator.randrange(len(chunks) + 1)
            kind = generator.randrange(9)
            if kind == 0 and at < len(chunks):
                chunks[at] ^= 1 << generator.randrange(8)
            elif kind == 1:
                chunks[at:at] = generator.randbytes(generator.randrange(1, 20))
            elif kind == 2:
                del chunks[at:at + generator.randrange(1, 30)]
            elif kind == 3:
                chunks[at:at] = generator.choice((b"\0", b"%00", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":"))
            elif kind == 4:
                chunks[at:at] = generator.choice((b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"))
            elif kind == 5:
                chunks[at:at] = generator.choice((b"{", b"[", b'"', b"}", b"\\u0000", b"\\ud800", b"1e999", b"-0", b"nul", b"[" * 300))
            elif kind == 6:
                end = min(len(chunks), at + generator.randrange(1, 200))
                chunks[at:at] = chunks[at:end] * generator.randrange(1, 30)
            elif kind == 7:
                chunks[at:at] = generator.choice((b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n",
                                                  b"Connection: close\r\n", b"Upgrade: h2c\r\n", b"If-Match: \"1\", W/\"2\"\r\n",
                                                  b"If-None-Match: *\r\n", b"Range: bytes=0-\r\n", b"Cookie: a=b; c\r\n"))
            else:
                del chunks[at:]
        return bytes(chunks)

    def seeds(self) -> list[bytes]:
        wire = json.dumps({"a": "good", "b": None, "on_full": "drop", "labels": {"k": "ä"},
                           "tees": [{"name": "t", "port": "other/p", "mode": "tap"}]}).encode()
        chunked = PUT + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"kin\r\n9\r\nd":"none"\r\n1\r\n}\r\n0\r\n\r\n'
        return [request("GET", "/v1/version"), request("GET", "/v1/vifs?limit=5&after=a"), request("HEAD", NET + "/wires"),
                request("PUT", f"{NET}/wires/w?wait=1&drain_ms=0", wire, b"If-Match: \"3\"\r\n"), chunked,
                request("PATCH", f"{NET}/wires/w/tees/t", b'{"mode":"bump","before":"u"}'), request("DELETE", f"{NET}/ports/p?detach=1"),
                request("PUT", "/v1/networks/%6e", b'{"labels":{"a":"b"}}'), request("OPTIONS", "*")]

    def test_mutated_requests(self) -> None:
        """Good requests gone bad, 48 clients at once. What they change by chance is theirs, never the good client's."""
        print(f"PATCHBAY_TEST_SEED={SEED}")
        counts: dict[int, int] = {}
        lock = threading.Lock()
        end = time.monotonic() + SECONDS

        def work(i: int) -> None:
            generator = random.Random(SEED + i)
            while time.monotonic() < end:
                data = self.mutate(generator, generator.choice(self.seeds()) * generator.choice((1, 1, 1, 3)))
                # No storm must hit the one object that is somebody else's.
                if b"good" in data and b"/good" in data:
                    continue
                client = Hostile(self.d.socket)
                client.send(data)
                if generator.randrange(2):
                    client.half_close()
                # A body that never comes is waited for: only the daemon's own time limit would end it.
                client.connection.settimeout(0.05)
                answer = b""
                patient = time.monotonic() + 30 * SLOW
                while time.monotonic() < patient:
                    try:
                        if not (piece := client.connection.recv(1 << 16)):
                            break
                        answer += piece
                    except TimeoutError:
                        if self.whole(answer):  # what has begun to come comes to its end
                            break
                    except ConnectionResetError:
                        break
                client.close()
                for status, _ in self.answers(answer):
                    with lock:
                        counts[status] = counts.get(status, 0) + 1

        self.assertGreater(self.rest, 0)
        crowd(48, work)
        print(f"answers: {dict(sorted(counts.items()))}, the good client waited at most {self.good.slowest * 1e3:.0f} ms")
        for status in (200, 400, 404):
            self.assertGreater(counts.get(status, 0), 0)
        wait_for(lambda: self.descriptors() <= self.rest, "descriptors are given back", seconds=40)

    def test_random_bytes(self) -> None:
        def abuse() -> None:
            def work(i: int) -> None:
                generator = random.Random(SEED ^ i)
                for _ in range(20):
                    client = Hostile(self.d.socket)
                    client.send(generator.randbytes(generator.choice((1, 20, 3000, 100000))))
                    client.close()
            crowd(40, work)
        self.assertGreater(self.rest, 0)
        self.again_and_again(abuse)
        self.assert_untouched()

    # ---- large ----

    def test_bodies_of_a_gibibyte(self) -> None:
        """Announced or in chunks, from 16 clients at once: refused, and cut off long before all is sent."""
        block = b"x" * (1 << 20)
        sent: list[int] = []

        def work(i: int) -> None:
            client = Hostile(self.d.socket)
            if i % 2 == 0:
                client.send(PUT + b"Content-Length: %d\r\n\r\n" % GIB)
            else:
                client.send(PUT + b"Transfer-Encoding: chunked\r\n\r\n")
            count = 0
            while count < GIB and client.send(block if i % 2 == 0 else b"100000\r\n" + block + b"\r\n"):
                count += len(block)
            sent.append(count)
            client.close()

        def abuse() -> None:
            began = time.monotonic()
            crowd(16, work)
            self.assertLess(time.monotonic() - began, 20 * SLOW * slowness())
        self.assertGreater(self.rest, 0)
        self.again_and_again(abuse)
        self.assertLess(max(sent), 64 << 20, "a gibibyte was read")
        # Who asks before it sends is told at once.
        self.one_answer(PUT + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % GIB, 413)
        self.assert_untouched()

    def test_large_headers(self) -> None:
        cases = [b"X-Big: " + b"y" * (1 << 20) + b"\r\n", b"X: y\r\n" * 20000, b"".join(b"X%d: y\r\n" % i for i in range(20000)),
                 b"Y" * (1 << 20), b"X: y\r\n " + b"z" * 70000 + b"\r\n", b"Cookie: " + b"a=b; " * 10000 + b"\r\n",
                 b"If-Match: " + b'"1", ' * 3000 + b"\r\n", b": no name\r\n", b"X\0Y: z\r\n", b"X: \xff\xfe\0\r\n"]

        def work(i: int) -> None:
            for case in cases:
                client = Hostile(self.d.socket)
                client.send(b"GET /v1/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + case + b"\r\n")
                for status, _ in self.answers(client.read()):
                    self.assertIn(status, (200, 400, 431, 413), case[:40])
                client.close()

        self.assertGreater(self.rest, 0)
        self.again_and_again(lambda: crowd(8, work), rounds=2)
        for path in (b"/" + b"a" * 200000, b"/v1/vifs?" + b"limit=1&" * 300, b"/v1/vifs/" + b"%41" * 3000, b"/v1/vifs/" + b"a/" * 6000):
            self.one_answer(request("GET", path, extra=b"Connection: close\r\n"), 400, 404, 414, 431)
        self.assert_untouched()

    # ---- bodies ----

    def bodies(self) -> list[tuple[bytes, tuple[int, ...]]]:
        half = 1 << 19
        many = b",".join(b'"k%d":%d' % (i, i) for i in range(50000))
        nulls = b",".join(b'"k%d":null' % i for i in range(50000))
        return [
            (b"[" * half, (413,)), (b'{"a":' * 100000, (413,)), (b'{"labels":' + b"[" * half + b"]" * (half - 20) + b"}", (413,)),
            (b'{"kind":"none","labels":{' + many + b"}}", (400, 409)), (b"{" + many + b"}", (400,)),
            (b'{"kind":"none","labels":{' + nulls + b"}}", (400, 409)), (b'{"kind":"' + b"x" * half + b'"}', (400,)),
            (b'{"kind":"none","' + b"y" * half + b'":1}', (400,)), (b'{"kind":' + b"9" * half + b"}", (400,)),
            (b'{"kind":1e' + b"9" * 400 + b"}", (400,)), (b'{"kind":"none","owner":"' + b"\\u0041" * 80000 + b'"}', (400,)),
            (b" " * half + b"\t" * 1000 + b"{", (400,)), (b'{"kind":"none"}' + b" " * half + b"x", (400,)),
            (b'{"kind":"none","owner":"\xff\xfe"}', (400,)), (b'{"kind":"none","owner":"\xc0\xaf"}', (400,)),
            (b'{"kind":"none","owner":"\xed\xa0\x80"}', (400,)), (b'{"\xf4\x90\x80\x80":1}', (400,)), (b'{"kind":"none","owner":"\\ud800"}', (400,)),
            (b'{"kind":"no\0ne"}', (400,)), (b'{"kind":"none","owner":"a\\u0000b"}', (400,)), (b"\0" * 1000, (400,)),
            (b'\xef\xbb\xbf{"kind":"none"}', (400,)), ('{"kind":"none"}'.encode("utf-16"), (400,)), (b'{"kind":"none","kind":"none"}', (400,)),
            (b"null", (400,)), (b'"x"', (400,)), (b"{}{}", (400,)), (b'{"kind":NaN}', (400,)), (b"{'kind':'none'}", (400,)), (b"", (400,)),
        ]

    def test_bodies(self) -> None:
        """Deep, wide, endless, no UTF-8, zero bytes: refused by their own status, within a second."""
        times: dict[tuple[int, str], list[float]] = {}  # of each body at each path

        def abuse() -> None:
            for number, (body, statuses) in enumerate(self.bodies()):
                for target in (("PUT", "/v1/vifs/evil"), ("PUT", f"{NET}/wires/evil"), ("PATCH", "/v1/vifs/good")):
                    if target[0] == "PATCH" and b"null" in body:
                        continue  # a patch that removes labels is none to be refused
                    began = time.monotonic()
                    self.one_answer(request(*target, body, b"Connection: close\r\n"), *statuses)
                    times.setdefault((number, target[1]), []).append(time.monotonic() - began)
        self.assertGreater(self.rest, 0)
        self.again_and_again(abuse, rounds=1)
        # A machine may stand still for a moment; not for the same one each time.
        self.assertLess(max(min(seen) for seen in times.values()), (1 * SLOW + 1) * slowness())
        # As a wire's Ts, an array and not an object.
        for tees in (b"[" + b"{}," * 100000 + b"{}]", b"[" + b'{"name":"t"},' * 40000 + b"1]", b"[" + b"[]," * 100000 + b"[]]"):
            self.one_answer(request("PUT", f"{NET}/wires/evil", b'{"tees":' + tees + b"}", b"Connection: close\r\n"), 400, 409)
        # A patch of 50,000 nulls takes away what isn't there: done, nothing changed, in time.
        nulls = b",".join(b'"k%d":null' % i for i in range(50000))
        began = time.monotonic()
        self.one_answer(request("PATCH", "/v1/vifs/good", b'{"labels":{' + nulls + b"}}", b"Connection: close\r\n"), 200)
        self.assertLess(time.monotonic() - began, 4 * SLOW * slowness())
        self.assert_untouched()

    # ---- connections ----

    def test_half_closed_and_pipelined(self) -> None:
        def abuse() -> None:
            # All sent, then closed on the sender's side: a whole request is answered, also if it is a change.
            for data, status in [(request("GET", "/v1/version"), 200), (request("PATCH", "/v1/vifs/good", b"{}"), 200),
                                 (request("PUT", "/v1/vifs/evil", b"{}"), 400), (request("PUT", "/v1/networks/half", b"{}"), 201),
                                 (request("DELETE", "/v1/networks/half"), 200)] * 5:
                client = Hostile(self.d.socket)
                client.send(data)
                client.half_close()
                self.assertEqual([status for status, _ in self.answers(client.read())], [status], data)
                client.close()
            # Half a request is the time limit's business.
            for data in PUT + b"Content-Length: 5\r\n\r\n{", b"GET /v1/ver":
                client = Hostile(self.d.socket)
                client.send(data)
                client.half_close()
                client.close()
            # 2,000 in one breath, and nobody reads until all is sent.
            client = Hostile(self.d.socket)
            data = request("GET", "/v1/version") * 1999 + request("GET", "/v1/version", extra=b"Connection: close\r\n")
            sender = threading.Thread(target=client.send, args=(data,))
            sender.start()
            time.sleep(0.1)
            answers = self.answers(client.read(1 << 26))
            sender.join()
            self.assertEqual([status for status, _ in answers], [200] * 2000)
            client.close()
            # Good ones, a bad one, and what stands behind it.
            client = Hostile(self.d.socket)
            client.send(request("GET", "/v1/version") * 3 + request("PUT", "/v1/vifs/evil", b"{") + b"garbage\r\n\r\n" +
                        request("PUT", "/v1/vifs/evil", b'{"kind":"none"}'))
            statuses = [status for status, _ in self.answers(client.read())]
            self.assertEqual(statuses[:4], [200, 200, 200, 400])
            self.assertNotIn(201, statuses)
            client.close()
            # Two lengths, a length and chunks: what one proxy reads as one request another may read as two.
            for extra in (b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n"):
                client = Hostile(self.d.socket)
                client.send(PUT + extra + b"Content-Length: 30\r\nConnection: close\r\n\r\n" + b"0\r\n\r\n" + request("DELETE", "/v1/vifs/good"))
                for status, _ in self.answers(client.read()):
                    self.assertNotIn(status, (200, 201))
                client.close()
        self.assertGreater(self.rest, 0)
        wait_for(lambda: self.good.turns > 0, "the good client's vif")
        self.again_and_again(abuse)
        self.assert_untouched()

    def test_200_clients_that_come_and_go(self) -> None:
        def abuse() -> None:
            def work(i: int) -> None:
                generator = random.Random(SEED ^ i)
                for _ in range(5):
                    client = Hostile(self.d.socket, 120 * SLOW)
                    what = generator.randrange(4)
                    if what == 0:
                        client.send(request("GET", "/v1/version", extra=b"Connection: close\r\n"))
                        self.assertEqual([status for status, _ in self.answers(client.read())], [200])
                    elif what == 1:
                        client.send(request("GET", "/v1/vifs"))
                    elif what == 2:
                        client.send(request("PUT", "/v1/vifs/evil", b'{"kind":"none"')[:-generator.randrange(1, 20)])
                    client.close()
            crowd(200, work)
        self.assertGreater(self.rest, 0)
        self.again_and_again(abuse, rounds=2)
        self.assert_untouched()

    def test_slow_loris(self) -> None:
        """48 clients that send a byte now and then, in the head or the body, or read as slowly: each is cut off, and
        meanwhile there is room for others."""
        began = time.monotonic()
        ends: list[float] = []

        def work(i: int) -> None:
            client = Hostile(self.d.socket, 0.5)
            text = (b"GET /v1/version HTTP/1.1\r\n" + b"X-%d: y\r\n" % i * 1000 if i % 3 == 0 else
                    PUT + b"Content-Length: 500000\r\n\r\n" + b"{" * 1000 if i % 3 == 1 else
                    PUT + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n{\r\n" * 1000)
            start = {0: 20, 1: len(PUT) + 30, 2: len(PUT) + 30}[i % 3]
            client.send(text[:start])
            for at in range(start, len(text)):
                if not client.send(text[at:at + 1]):
                    break
                try:
                    client.connection.settimeout(0.4)
                    if not client.connection.recv(100):
                        break
                except TimeoutError:
                    pass
                except ConnectionResetError:
                    break
            ends.append(time.monotonic() - began)
            client.close()

        def others() -> None:
            while len(ends) < 48:
                self.one_answer(request("GET", "/v1/stats", extra=b"Connection: close\r\n"), 200)
                time.sleep(0.05)

        self.assertGreater(self.rest, 0)
        clients = threading.Thread(target=crowd, args=(48, work))
        clients.start()
        others()
        clients.join()
        self.assertEqual(len(ends), 48)
        self.assertLess(max(ends), 60 * SLOW)
        wait_for(lambda: self.descriptors() <= self.rest, "descriptors are given back")
        self.assert_untouched()


if __name__ == "__main__":
    main()
