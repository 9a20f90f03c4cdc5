#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What clients may do to the server: many, slow, large, garbage; and that it rests when there is nothing to do."""

import fcntl
import json
import os
import random
import socket
import struct
import termios
import threading
import time

from harness import SLOW, Daemon, DaemonTest, ask, main, wait_for
from pace import slowness


def raw(path: str, timeout: float = 30) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    connection.connect(path)
    return connection


def unread(connection: socket.socket) -> int:
    """Bytes that the other side has not taken yet."""
    return struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0\0\0\0"))[0]


def read_all(connection: socket.socket) -> bytes:
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


class Server(DaemonTest):
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.d.process.pid}/fd"))

    def cpu_seconds(self) -> float:
        with open(f"/proc/{self.d.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def test_64_clients_and_one_more(self) -> None:
        self.d.forget_connections()
        clients = [self.d.connect() for _ in range(64)]
        for client in clients:
            self.check(ask(client, "GET", "/v1/version"), 200)
        late = self.d.connect()
        late.connect()
        late.request("GET", "/v1/version")
        late.sock.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            late.sock.recv(1)
        for client in clients:  # the 64 are served as before
            self.check(ask(client, "GET", "/v1/stats"), 200)
        clients[17].close()
        late.sock.settimeout(30)
        self.assertTrue(late.sock.recv(1000).startswith(b"HTTP/1.1 200"))
        for client in clients + [late]:
            client.close()

    def test_clients_at_once(self) -> None:
        def work(name: str) -> None:
            client = self.d.connect(60)
            for i in range(20):
                self.check(ask(client, "PUT", f"/v1/vifs/{name}", {"kind": "none", "owner": str(i)}),
                           201 if i == 0 else 200)
                self.assertEqual(ask(client, "GET", f"/v1/vifs/{name}").json["owner"], str(i))
            client.close()

        self.d.forget_connections()
        before = self.descriptors()
        threads = [threading.Thread(target=work, args=(f"v{i}",)) for i in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.d.get("/v1/stats").json["objects"]["vifs"], 64)
        self.d.forget_connections()
        wait_for(lambda: self.descriptors() <= before, "descriptors are given back")

    def test_garbage(self) -> None:
        generator = random.Random(20231)
        before = self.descriptors()
        samples = [b"", b"\0" * 100, b"GET\r\n\r\n", b"\r\n" * 1000, b"GET / HTTP/9.9\r\n\r\n",
                   b"PUT /v1/vifs/a HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                   b"PUT /v1/vifs/a HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                   b"PUT /v1/vifs/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                   b"PUT /v1/vifs/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                   b"GET /v1/vifs?" + b"&" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                   b"GET /v1/vifs?limit=%00%ff%zz HTTP/1.1\r\nHost: x\r\n\r\n"]
        samples += [generator.randbytes(generator.randrange(1, 3000)) for _ in range(200)]
        for sample in samples:
            connection = raw(self.d.socket)
            try:
                connection.sendall(sample)
                connection.settimeout(0.02)
                connection.recv(65536)
            except OSError:
                pass
            connection.close()
        self.check(self.d.get("/v1/version"), 200)
        wait_for(lambda: self.descriptors() <= before + 1, "descriptors are given back")
        self.assertEqual(self.d.generation(), 0)

    def test_clients_that_vanish(self) -> None:
        before = self.descriptors()
        for i in range(100):
            connection = raw(self.d.socket)
            body = json.dumps({"kind": "none"}).encode()
            head = f"PUT /v1/vifs/v{i} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            connection.sendall((head + body)[:len(head + body) - (i % 2) * 3])
            wait_for(lambda c=connection: unread(c) == 0, "the daemon has read it")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        # Who hangs up cancels nothing; who never finished asking has asked nothing.
        wait_for(lambda: self.d.get("/v1/stats").json["objects"]["vifs"] == 50, "50 vifs",
                 lambda: str(self.d.get("/v1/stats").json))
        wait_for(lambda: self.descriptors() <= before + 1, "descriptors are given back")

    def test_clients_that_vanish_with_conditions(self) -> None:
        """What their headers said counts when it is their turn, though they are gone by then."""
        self.d.plug("a")
        tag = self.d.get("/v1/vifs/a").etag
        body = b'{"value": "x"}'
        self.d.fake("publish-wait 20000")
        for i in range(40):
            # The first changes it, the next wait for that; then there is another version.
            condition = f"If-Match: {tag}" if i % 2 == 0 else 'If-None-Match: "1", "2", *'
            connection = raw(self.d.socket)
            connection.sendall(f"PUT /v1/vifs/a/conf/owner HTTP/1.1\r\nHost: x\r\n{condition}\r\n"
                               f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_for(lambda c=connection: unread(c) == 0, "the daemon has read it")
            connection.close()
        wait_for(lambda: self.d.get("/v1/audit").json["refused"] == 39, "all were looked at",
                 lambda: str(self.d.get("/v1/audit").json))
        self.assertEqual(self.d.get("/v1/vifs/a").json["owner"], "x")

    def test_large_requests(self) -> None:
        big = "x" * ((1 << 20) + 1)
        self.check(self.d.put("/v1/vifs/a", big), 413, "TooLarge")
        self.check(self.d.put("/v1/vifs/a", big + big), 413, "TooLarge")
        connection = raw(self.d.socket)
        connection.sendall(b"PUT /v1/vifs/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" +
                           (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 20 + b"0\r\n\r\n")
        self.assertTrue(read_all(connection).startswith(b"HTTP/1.1 413"))
        connection.close()
        connection = raw(self.d.socket)
        connection.sendall(b"PUT /v1/vifs/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\nExpect: 100-continue\r\n\r\n")
        self.assertTrue(read_all(connection).startswith(b"HTTP/1.1 413"))
        connection.close()
        just = json.dumps({"kind": "none", "owner": "y"})
        self.check(self.d.put("/v1/vifs/a", just + " " * ((1 << 20) - len(just))), 201)
        # Without end: cut off.
        connection = raw(self.d.socket)
        connection.sendall(b"PUT /v1/vifs/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 64 << 20:
                connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                sent += 65536
        except OSError:
            pass
        self.assertLess(sent, 32 << 20)
        connection.close()

    def test_large_headers(self) -> None:
        answer = self.d.get("/v1/version", headers={"X-Big": "x" * 20000})
        self.check(answer, 431, "HeadersTooLarge")
        self.check(self.d.get("/v1/version", headers={"X-Fair": "x" * 8000}), 200)
        connection = raw(self.d.socket)
        try:
            connection.sendall(b"GET /v1/version HTTP/1.1\r\nX: " + b"x" * (1 << 20))
        except OSError:
            pass
        self.assertIn(b" 431 ", read_all(connection).split(b"\r\n")[0] + b" ")
        connection.close()

    def test_what_the_http_library_refuses(self) -> None:
        """Before there is a request there is no JSON, as docs/api.md says: the status is right and the connection closed."""
        put = b"PUT /v1/vifs/a HTTP/1.1\r\nHost: x\r\n"
        for data, status in ((put + b"Content-Length: -1\r\n\r\n", 400),
                             (put + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
                             (put + b"Content-Length: 99999999999999999999\r\n\r\n", 413),
                             (b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
                             (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100000 + b"\r\n\r\n", 431),
                             (b"GET / HTTP/9.9\r\n\r\n", 505), (b"hello\r\n\r\n", None)):
            with self.subTest(data=data[:60]):
                connection = raw(self.d.socket)
                try:
                    connection.sendall(data)
                except OSError:
                    pass
                answer = read_all(connection)
                connection.close()
                if status is None:
                    self.assertEqual(b"", answer)
                else:
                    self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), answer[:100])
        self.check(self.d.get("/v1/version"), 200)
        self.assertEqual(self.d.generation(), 0)

    def test_pipelining(self) -> None:
        connection = raw(self.d.socket)
        requests = b""
        for i in range(20):
            body = json.dumps({"kind": "none"}).encode()
            requests += (f"PUT /v1/vifs/p{i} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body
        requests += b"GET /v1/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        connection.sendall(requests)
        answers = read_all(connection)
        self.assertEqual(answers.count(b"HTTP/1.1 201"), 20)
        self.assertIn(b'"vifs":20', answers)
        connection.close()

    def test_a_client_with_an_address(self) -> None:
        # libmicrohttpd keeps addresses as long as IPv6 ones; this one is longer.
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(30)
        connection.bind((self.d.dir + "/" + "c" * 107)[:107])
        connection.connect(self.d.socket)
        connection.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertIn(b"200 OK", read_all(connection))
        connection.close()

    def test_slow_reader_of_a_long_list(self) -> None:
        for i in range(300):
            self.check(self.d.put(f"/v1/vifs/v{i}", {"kind": "none", "labels": {"k": "x" * 250, "l": "y" * 250}}), 201)
        slow = raw(self.d.socket)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /v1/vifs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        time.sleep(0.2)
        began = time.monotonic()
        self.check(self.d.get("/v1/version"), 200)
        self.assertLess(time.monotonic() - began, 5 * SLOW * slowness())
        # What is deleted meanwhile does no harm.
        for i in range(0, 300, 3):
            self.check(self.d.delete(f"/v1/vifs/v{i}"), 200)
        data = read_all(slow)
        self.assertTrue(data.endswith(b"0\r\n\r\n"), data[-100:])
        slow.close()

    def test_idle_is_idle(self) -> None:
        # Idle, half-sent and suspended connections: none may make it spin.
        idle, half, body = raw(self.d.socket), raw(self.d.socket), raw(self.d.socket)
        half.sendall(b"PUT /v1/vifs/x HTTP/1.1\r\nHost: x\r\nContent-Le")
        body.sendall(b"PUT /v1/vifs/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        suspended = self.d.connect()
        suspended.request("PUT", "/v1/vifs/slow", '{"kind":"dev","devargs":"slow:4000"}')
        time.sleep(0.3)
        before = self.cpu_seconds()
        time.sleep(3)
        # One that made it spin would use all of the time that it gets.
        self.assertLessEqual(self.cpu_seconds() - before, 0.06 * SLOW * slowness())
        self.assertEqual(suspended.getresponse().status, 201)
        for connection in (idle, half, body, suspended):
            connection.close()

    def test_full_of_idle_clients_is_idle(self) -> None:
        self.d.forget_connections()
        clients = [raw(self.d.socket) for _ in range(70)]
        time.sleep(0.3)
        before = self.cpu_seconds()
        time.sleep(2)
        self.assertLessEqual(self.cpu_seconds() - before, 0.04 * SLOW * slowness())
        for client in clients:
            client.close()
        self.check(self.d.get("/v1/version"), 200)


class Timeouts(DaemonTest):
    def test_half_requests_are_cut_off(self) -> None:
        """Silent ones after 10 s, trickling ones after 20; one that waits for a slow device isn't."""
        silent, trickle = raw(self.d.socket, 240), raw(self.d.socket, 240)
        silent.sendall(b"PUT /v1/vifs/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        trickle.sendall(b"PUT /v1/vifs/x HTTP/1.1\r\nHost: x\r\n")
        began = time.monotonic()
        ends = {}

        def watch(name: str, connection: socket.socket) -> None:
            read_all(connection)
            ends[name] = time.monotonic() - began

        def drip() -> None:
            while "trickle" not in ends and time.monotonic() < began + 200 * SLOW:
                try:
                    trickle.sendall(b"X: y\r\n")
                except OSError:
                    return
                time.sleep(0.5)

        threads = [threading.Thread(target=watch, args=pair) for pair in (("silent", silent), ("trickle", trickle))]
        threads.append(threading.Thread(target=drip))
        for thread in threads:
            thread.start()
        slow = self.d.connect(60)
        slow.request("PUT", "/v1/vifs/slow", '{"kind":"dev","devargs":"slow:19000"}')
        answer = slow.getresponse()
        took = time.monotonic() - began
        self.assertEqual((answer.status, json.loads(answer.read())["error"]["code"]), (503, "Unavailable"))
        self.assertGreater(took, 9.5)
        self.assertLess(took, 19 * SLOW)  # before the device was there
        for thread in threads:
            thread.join()
        self.assertGreater(ends["silent"], 8)
        self.assertLess(ends["silent"], 18 * SLOW)  # not by the other limit
        self.assertGreater(ends["trickle"], 18)
        self.assertLess(ends["trickle"], 60 * SLOW)
        # The device that came too late is gone, and its name and slot are free again.
        wait_for(lambda: self.d.table()["vifs"] == 0, "removed")
        self.check(self.d.put("/v1/vifs/slow", {"kind": "none"}), 201)
        slow.close()
        silent.close()
        trickle.close()


if __name__ == "__main__":
    main()
