#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs the fuzz targets.

  fuzz.py list                            the targets
  fuzz.py replay [TARGET …]               the committed corpus, once
  fuzz.py run --seconds 60 [TARGET …]     from the corpus on, new inputs kept in the build folder
  fuzz.py run --runs 100000000 TARGET     the long run
  fuzz.py keep [TARGET …]                 puts what the runs found into the corpus, minimised
  fuzz.py seed [TARGET …]                 makes the corpus anew from the seeds below

A corpus is a text file, tests/fuzz/corpus/TARGET: a line an input, deflated, in base64. Every finding is a bug: the run ends
with its status and says where the input lies; add it to the corpus with the fix (keep).
"""
from __future__ import annotations

import argparse
import base64
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGETS = ("virtqueue_split", "virtqueue_packed", "offload", "segment", "vhost_message", "request", "state")
MAX_LEN = {"virtqueue_split": 6144, "virtqueue_packed": 6144, "offload": 64, "segment": 1024, "vhost_message": 320,
           "request": 4096, "state": 8192}

# ---- seeds ----

NEXT, WRITE, INDIRECT = 1, 2, 4
SIZE, BASE, HOLE = 16, 0x1000, 0x4000
FROM_AT, TO_AT, MONITOR_AT, BUFFERS_AT = 0, 1024, 2048, 3072
HDR10, EVENT_IDX, INDIRECT_DESC, MERGEABLE, LOGGED = 1, 2, 4, 8, 32
CSUM, TSO4, TSO6, ECN = 1, 2, 4, 8

Desc = tuple[int, int, int, int]  # address, length, flags, next or id


def split_ring(memory: bytearray, at: int, descs: list[Desc], heads: list[int], index: int) -> None:
    for i, desc in enumerate(descs):
        struct.pack_into("<QIHH", memory, at + 16 * i, *desc)
    struct.pack_into("<HH", memory, at + 16 * SIZE, 0, (index + len(heads)) & 0xffff)
    for i, head in enumerate(heads):
        struct.pack_into("<H", memory, at + 16 * SIZE + 4 + 2 * ((index + i) % SIZE), head)


def packed_ring(memory: bytearray, at: int, descs: list[Desc], heads: list[int], index: int) -> None:
    place, wrap = index % SIZE, index >> 15
    for head in heads:
        following = head
        while True:
            address, size, flags, following = descs[following]
            struct.pack_into("<QIHH", memory, at + 16 * place, address, size, head, flags | (1 << 7 if wrap else 1 << 15))
            place, wrap = (place + 1) % SIZE, wrap ^ (place == SIZE - 1)
            if not flags & NEXT:
                break


def guests(ring: Callable[[bytearray, int, list[Desc], list[int], int], None]) -> Iterator[bytes]:
    """Sound guests of all kinds: what they do wrong is the fuzzer's to find."""
    buffer = BASE + BUFFERS_AT
    table = BASE + BUFFERS_AT + 512
    senders: list[tuple[list[Desc], list[int]]] = [
        ([(buffer, 76, 0, 0), (buffer + 80, 100, 0, 1)], [0, 1]),
        ([(buffer, 12, NEXT, 1), (buffer + 16, 30, NEXT, 2), (HOLE, 2000, 0, 2)], [0]),
        ([(table, 48, INDIRECT, 0), (table, 32, INDIRECT, 1)], [0, 1]),
        ([(buffer, 20, NEXT, 1), (table, 48, INDIRECT, 1)], [0]),
        ([(buffer, 13, 0, 0), (buffer, 40000, 0, 1), (buffer, 90, 0, 2)], [0, 1, 2]),
    ]
    receivers: list[tuple[list[Desc], list[int]]] = [
        ([(HOLE + 256 * i, 256, WRITE, i) for i in range(8)], list(range(8))),
        ([(HOLE, 12, WRITE | NEXT, 1), (HOLE + 16, 2048, WRITE, 1), (HOLE + 2048, 2048, WRITE, 2)], [0, 2]),
        ([(table + 128, 48, INDIRECT, 0)] + [(HOLE + 64 * i, 64, WRITE, i) for i in range(1, 12)], list(range(12))),
    ]
    header = struct.pack("<BBHHHHH", 1, 1, 54, 536, 34, 16, 0)
    for number, (descs, heads) in enumerate(senders):
        for features in (0, INDIRECT_DESC | EVENT_IDX, INDIRECT_DESC | MERGEABLE, HDR10 | INDIRECT_DESC,
                         INDIRECT_DESC | EVENT_IDX | MERGEABLE | LOGGED):
            receiver = receivers[(number + features) % len(receivers)]
            index = (0, 65530, 7)[number % 3]
            offloads = (0, CSUM, CSUM | TSO4, 15)[features % 4]
            memory = bytearray(4096)
            ring(memory, FROM_AT, descs, heads, index)
            ring(memory, TO_AT, *receiver, index)
            ring(memory, MONITOR_AT, *receivers[number % len(receivers)], index)
            for i in range(3):
                struct.pack_into("<QIHH", memory, BUFFERS_AT + 512 + 16 * i, buffer + 40 * i, 40, NEXT * (i < 2), i + 1)
                struct.pack_into("<QIHH", memory, BUFFERS_AT + 640 + 16 * i, HOLE + 1024 * i, 1024,
                                 WRITE | NEXT * (i < 2), i + 1)
            if offloads:
                memory[BUFFERS_AT:BUFFERS_AT + len(header)] = header
            yield struct.pack("<BBHBBBBHBB", features, offloads, index, features, offloads, features ^ MERGEABLE,
                              offloads, index, 50 * number, 0) + bytes(memory)


def offload_seeds() -> Iterator[bytes]:
    for agreed in (CSUM, CSUM | TSO4, 15):
        for gso in (0, 1, 4, 0x81, 0x84):
            yield struct.pack("<BHB", agreed, 1486, 5) + struct.pack("<BBHHHHH", 1 if gso else agreed & 1, gso, 54, 536, 34, 16, 0)


def segment_seeds() -> Iterator[bytes]:
    """TCP over IPv4 and IPv6, plain, tagged, with options and extension headers, and checksums alone."""
    tcp = struct.pack(">HHIIBBHHH", 5201, 40000, 1 << 31, 7, 5 << 4, 0x99, 512, 0, 0)
    long_tcp = tcp[:12] + bytes([8 << 4]) + tcp[13:] + bytes([1, 1, 8, 10, *range(8)])
    for tags in (b"", b"\x81\x00\x00\x05", b"\x88\xa8\x00\x05\x81\x00\x00\x06"):
        for l4 in (tcp, long_tcp):
            ip4 = struct.pack(">BBHHHBBHII", 0x45, 0, 0, 0xfffe, 0x4000, 64, 6, 0, 0x0a000001, 0x0a000002)
            options = bytes([0x46]) + ip4[1:] + bytes([1, 1, 1, 0])
            ip6 = struct.pack(">IHBB", 6 << 28, 0, 6, 64) + bytes(range(32))
            extended = ip6[:6] + bytes([0]) + ip6[7:] + bytes([6, 0, 1, 4, 0, 0, 0, 0])
            for ether, l3, gso in ((b"\x08\x00", ip4, 1), (b"\x08\x00", options, 0x81), (b"\x86\xdd", ip6, 4),
                                   (b"\x86\xdd", extended, 0x84)):
                headers = bytes(range(12)) + tags + ether + l3
                for takes, pieces, room, size, further in ((0, 0, 0, 1448, 60000), (1, 9, 0x55, 100, 3000),
                                                           (3, 31, 0xff, 1, 50), (0, 3, 1, 0xffff, 4000)):
                    start = len(headers)
                    yield (struct.pack("<BBBBH", 15 | takes << 4, pieces, room, 2, further) +
                           struct.pack("<BBHHHH", 1, gso, start + len(l4), size, start, 16) + headers + l4 + b"payload")
                yield (struct.pack("<BBBBH", 1, 5, 0, 0, 300) +
                       struct.pack("<BBHHHH", 1, 0, 0, 0, len(headers), 16) + headers + l4 + b"more")
    yield struct.pack("<BBBBH", 1, 2, 0, 0, 1000) + struct.pack("<BBHHHH", 1, 0, 0, 0, 15, 800) + bytes(range(60))


def message_seeds() -> Iterator[bytes]:
    sizes = {1: 0, 2: 8, 3: 0, 4: 0, 5: 40, 8: 8, 9: 40, 10: 8, 11: 8, 12: 8, 13: 8, 14: 8, 15: 0, 16: 8, 17: 0, 18: 8,
             6: 16, 20: 8, 22: 40, 31: 24, 39: 8, 40: 0}
    for request, size in sizes.items():
        payload = struct.pack("<II", 1, 0) + struct.pack("<QQQQ", 0, 1 << 20, 0, 0)
        yield bytes([0, 1 if request in (5, 12, 13, 14) else 0]) + bytes(8) + struct.pack("<III", request, 1, size) + payload[:size]
    table = struct.pack("<II", 8, 0) + b"".join(struct.pack("<QQQQ", i << 20, 1 << 20, i << 20, 0) for i in range(8))
    yield bytes([1, 8]) + bytes(8) + struct.pack("<III", 5, 9, len(table)) + table


def request_seeds() -> Iterator[bytes]:
    plug = "".join(f'PUT vifs/{n} {{"kind":"none"}}\nPUT ports/default/{n} {{"vif":"{n}"}}\n' for n in "abcd")
    wire = ('PUT wires/default/w {"a":"a","b":"b","on_full":"drop","stall_ms":5,"admin":"up","labels":{"k":"v"},'
            '"tees":[{"name":"t","port":"c","mode":"tap","direction":"a-to-b"}]}\n')
    lines = [plug + wire, plug + wire + 'END\nPUT tees/default/w/u {"port":"default/d","mode":"off","before":"t"}\n',
             plug + 'PUT wires/default/w {"a":"a","b":"b","tees":[{"name":"f","port":"c","out_port":"d","mode":"bump",'
             '"on_failure":"open","stall_ms":7}]}\nPATCH tees/default/w/f {"mode":"tap"}\nPATCH wires/default/w {"b":null}\n',
             plug + wire + "END\nDELETE vifs/a \nDELETE ports/default/c x\nDELETE tees/default/w/t\nDELETE wires/default/w\n",
             'PUT networks/n {"labels":{"a":"b"}}\nPUT ports/n/p {"vif":null,"vlan":7}\nPATCH ports/n/p {"vlan":null}\nDELETE networks/n ',
             'PUT vifs/x {"kind":"vhost","path":"/run/x","owner":"me"}\nPATCH vifs/x {"owner":null,"labels":{"a":null}}\n',
             'PUT vifs/y {"kind":"dev","devargs":"net_null0"}\nPUT vifs/z {"kind":"kernel-new","interface":"tap0"}\nPUT vifs/z {"kind":"no"}\n',
             'PUT vifs/x {"kind":"none","kind":"none"}\nPUT vifs/x [[[[[[[[[[[[[[[[[[1]\nPUT vifs/x {"owner":"\\u0000"}\nPUT vifs/x {"colour":1}\n']
    def ops(*operations: object) -> str:
        return "POST transactions " + json.dumps({"operations": operations}) + "\n"

    def put(path: str, body: object, **more: str) -> object:
        return {"method": "PUT", "path": "/v1/" + path, "body": body, **more}
    net, whole = "networks/default/", '{"networks":[],"vifs":[%s],"ports":[%s],"wires":[%s]}'
    vifs = ",".join(f'{{"name":"{n}","kind":"none"}}' for n in "abcd")
    ports = ",".join(f'{{"network":"default","name":"{n}","vif":"{n}"}}' for n in "abcd")
    wired = '{"network":"default","name":"w","a":"a","b":"b","tees":[{"name":"t","port":"c","mode":"tap"}]}'
    swapped = '{"name":"w","a":"b","b":"a","tees":[{"name":"f","port":"c","out_port":"d","mode":"bump"},{"name":"t"}]}'
    lines += [
        plug + ops(put(net + "wires/w", {"a": "a", "b": "b"}), put(net + "wires/w/tees/t", {"port": "c"}, if_none_match="*"),
                   {"method": "PATCH", "path": "/v1/networks/default/wires/w", "body": {"b": None}, "if_match": '"2"'}),
        ops(put("vifs/v", {"kind": "vhost", "path": "v.sock"}), put(net + "ports/v", {"vif": "v"}),
            {"method": "DELETE", "path": "/v1/vifs/v?detach=1"}, put("networks/n", {})) + "END\n" + ops({"method": "GET", "path": "/v1/vifs"}),
        plug + wire + ops({"method": "DELETE", "path": "/v1/networks/default/wires/w/tees/t"}, {"method": "DELETE", "path": "/v1/vifs/a"}),
        plug + ops(put(net + "wires/w", {"a": "a", "b": "b", "tees": [{"name": "f", "port": "c", "out_port": "d", "mode": "bump"}]})) +
        ops(put(net + "wires/w/tees/f?force=1", {"port": "c", "out_port": "d", "mode": "bump"})) +
        ops(put(net + "wires/w?when_ready=1", {"tees": [{"name": "f", "port": "c", "out_port": "d", "mode": "bump"}]})),
        "PUT config " + whole % (vifs, ports, wired) + "\nEND\nPUT config " + whole % (vifs, ports, swapped) + " \n",
        "PUT config " + whole % (vifs, ports, wired) + "  \nPUT config " + whole % ("", "", "") + "\n",
        'PUT config { "generation" : 1, "instance":"i", "seq":2 ,"networks":[ {"name":"n","labels":{"a":"b\\"]"}} ],"vifs":[{"name":"a","kind":"none"}, '
        '{"name":"a","kind":"dev","devargs":"x"}],"ports":[{"network":"n","name":"p"}],"wires":[{"network":"no","name":"p"}]}\n',
        plug + wire + "PUT config " + whole % (vifs.replace("none", "kernel-new", 1).replace("}", ',"interface":"i"}', 1), ports, wired) + "\n",
        'PUT config {"networks":[],"\\u0076ifs":[],"ports":[],"wires":[],"seq":null}\nPOST transactions {"operations":[1,[],{}]}\n'
        'POST transactions {"operations":[],"operations":[]}\nPUT config {"networks":[]]}\nPUT config {"seq":tru,"seq":[]}\n']
    for text in lines:
        yield text.encode()


def state_seeds() -> Iterator[bytes]:
    uid = "01234567-89ab-4cde-8f01-23456789abcd"

    def row(kind: str, network: str, name: str, body: object) -> str:
        return "\t".join((kind, network, name, uid, "3", body if isinstance(body, str) else json.dumps(body))) + "\n"
    plugs = "".join(row("vif", "", n, {"kind": "none"}) + row("port", "default", n, {"vif": n, "vlan": None}) for n in "abc")
    tee = {"name": "t", "uid": uid, "port": "c", "mode": "tap", "when_ready": False}
    rows = [plugs + row("wire", "default", "w", {"a": "a", "b": "b", "tees": [tee]}), plugs + row("wire", "default", "w", {"a": "a", "b": "gone"}),
            row("network", "", "n", {"labels": {"a": "b"}}) + row("port", "n", "p", {"vif": "gone"}), row("port", "gone", "p", {}),
            row("vif", "", "v", "{") + row("vif", "", "..", {"kind": "none"}) + row("ghost", "", "g", {}),
            plugs + row("wire", "default", "w", {"a": "a", "b": "a"}) + row("wire", "default", "x", {"a": "a", "b": "b", "tees": [{**tee, "mode": "bump"}]})]
    for text in rows:
        yield b"R" + text.encode()
    for place in (0, 18, 24, 28, 60, 68, 100, 105, 4096, 4100):
        yield b"P" + struct.pack("<H", place) + b"\xff" * 4
    yield b"SQLite format 3\0" + bytes(84)
    yield b"not a database at all" * 10


SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "virtqueue_split": lambda: guests(split_ring), "virtqueue_packed": lambda: guests(packed_ring), "offload": offload_seeds, "segment": segment_seeds,
    "vhost_message": message_seeds,
    "request": request_seeds, "state": state_seeds}

# ---- corpora ----


def unpack(target: str, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    lines = (HERE / "corpus" / target).read_text().split()
    for number, line in enumerate(lines):
        (folder / f"{number:04}").write_bytes(zlib.decompress(base64.b64decode(line), -15))
    return len(lines)


def pack(target: str, folder: Path) -> int:
    inputs = sorted((path.read_bytes() for path in folder.iterdir()), key=lambda data: (len(data), data))
    def deflate(data: bytes) -> bytes:
        stream = zlib.compressobj(9, wbits=-15)
        return stream.compress(data) + stream.flush()
    (HERE / "corpus").mkdir(exist_ok=True)
    (HERE / "corpus" / target).write_text("".join(base64.b64encode(deflate(data)).decode() + "\n" for data in inputs))
    return len(inputs)


# ---- runs ----

def program(build: Path, target: str) -> str:
    path = build / "tests" / "fuzz" / f"fuzz_{target}"
    if not path.exists():
        sys.exit(f"{path} isn't there: CC=clang meson setup {build} -Dfuzz=true && ninja -C {build}")
    return str(path)


def replay(build: Path, target: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="patchbay-fuzz-") as folder:
        count = unpack(target, Path(folder))
        rc = subprocess.run([program(build, target), "-runs=0", f"-artifact_prefix={folder}/", folder],
                            capture_output=True, text=True)
    print(f"{target}: {count} inputs{'' if rc.returncode == 0 else ': FAILED'}")
    if rc.returncode != 0:
        print(rc.stderr[-6000:])
    return rc.returncode == 0 and count > 0


def run(build: Path, targets: list[str], seconds: int, runs: int, jobs: int) -> bool:
    waiting, good = list(targets), True
    running: dict[str, tuple[subprocess.Popen[str], float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            target = waiting.pop(0)
            found = build / "fuzz-found" / target
            unpack(target, found)
            limit = [f"-max_total_time={seconds}"] if seconds else []
            limit += [f"-runs={runs}"] if runs else []
            running[target] = (subprocess.Popen(
                [program(build, target), *limit, f"-max_len={MAX_LEN[target]}", "-print_final_stats=1", "-timeout=60",
                 f"-artifact_prefix={build}/fuzz-found/{target}-", str(found)],
                stdout=subprocess.DEVNULL, stderr=(build / "fuzz-found" / f"{target}.log").open("w"), text=True),
                time.monotonic())
        time.sleep(0.2)
        for target, (process, start) in list(running.items()):
            if process.poll() is None:
                continue
            del running[target]
            log = (build / "fuzz-found" / f"{target}.log").read_text(errors="replace")
            executions = re.search(r"number_of_executed_units: (\d+)", log)
            covered = re.findall(r"cov: (\d+)", log)
            print(f"{target}: {int(executions[1]) if executions else 0:,} executions in {time.monotonic() - start:.0f} s, "
                  f"{covered[-1] if covered else '?'} edges{'' if process.returncode == 0 else ': FAILED'}", flush=True)
            if process.returncode != 0:
                good = False
                print(log[-6000:])
    return good


def keep(build: Path, target: str, seeds: list[bytes]) -> None:
    with tempfile.TemporaryDirectory(prefix="patchbay-fuzz-") as folder:
        old, kept = Path(folder, "old"), Path(folder, "kept")
        old.mkdir()
        kept.mkdir()
        for number, data in enumerate(seeds):
            (old / f"seed{number}").write_bytes(data)
        if (HERE / "corpus" / target).exists():
            unpack(target, old)
        found = build / "fuzz-found" / target
        subprocess.run([program(build, target), "-merge=1", f"-max_len={MAX_LEN[target]}", str(kept), str(old),
                        *([str(found)] if found.exists() else [])], check=True, stderr=subprocess.DEVNULL)
        print(f"{target}: {pack(target, kept)} inputs, {(HERE / 'corpus' / target).stat().st_size} bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("list", "replay", "run", "keep", "seed"))
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--build", type=Path, default=Path(os.environ.get("PATCHBAY_BUILD", "build-fuzz")))
    parser.add_argument("--seconds", type=int, default=0, help="for each target")
    parser.add_argument("--runs", type=int, default=0, help="for each target")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    options = parser.parse_intermixed_args()
    targets = options.targets or list(TARGETS)
    for target in targets:
        if target not in TARGETS:
            parser.error(f"no target '{target}'; there are: {', '.join(TARGETS)}")
    if options.verb == "list":
        print("\n".join(targets))
        return 0
    if options.verb == "run":
        if not options.seconds and not options.runs:
            parser.error("run wants --seconds or --runs")
        return 0 if run(options.build, targets, options.seconds, options.runs, options.jobs) else 1
    if options.verb == "replay":
        return 0 if all([replay(options.build, target) for target in targets]) else 1
    for target in targets:
        keep(options.build, target, list(SEEDS[target]()) if options.verb == "seed" else [])
    return 0


if __name__ == "__main__":
    sys.exit(main())
