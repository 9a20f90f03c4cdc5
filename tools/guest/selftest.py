#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Checks the guest itself, without Patchbay: dpdk-testpmd is the vhost-user back end between two guests.

       guest a ── vhost-user ── testpmd (io, two net_vhost ports) ── vhost-user ── guest b

Prints what it sees and measures; the exit code is 0 only when all of it is so. Takes about two minutes on two cores.
"""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from guest import CommandError, Guest, GuestError, Nic, build, wait_all  # noqa: E402

TESTPMD = "dpdk-testpmd"


class Testpmd:
    """testpmd that forwards between two net_vhost ports; it listens on the sockets, or connects with client=True."""

    def __init__(self, work: Path, paths: list[Path], client: bool = False):
        self.work, self.paths, self.client = work, paths, client
        self.prefix = f"guest-selftest-{os.getpid()}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        for path in self.paths:
            if not self.client:
                path.unlink(missing_ok=True)
        arguments = [TESTPMD, "--no-huge", "--no-shconf", "-m", "256", "--no-pci", "-l", "0,1", "--no-telemetry",
                     "--file-prefix", self.prefix, "--log-level", "lib.vhost:info"]
        for index, path in enumerate(self.paths):
            arguments += ["--vdev", f"net_vhost{index},iface={path},client={int(self.client)}"]
        arguments += ["--", "--forward-mode=io", "--auto-start", "--no-mlockall", "--total-num-mbufs=8192"]
        with open(self.work / "testpmd.log", "ab") as log:
            # Its input stays open: testpmd ends when it reads the end of a file.
            self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=log, stderr=log)
        if not self.client:
            deadline = time.monotonic() + 30
            while not all(path.is_socket() for path in self.paths):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"testpmd doesn't listen:\n{self.log()}")
                time.sleep(0.05)

    def log(self) -> str:
        return "\n".join((self.work / "testpmd.log").read_text(errors="replace").splitlines()[-25:])

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            assert self.process.stdin is not None
            self.process.stdin.close()
            # A killed DPDK process leaves its folder behind.
            base = "/var/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
            shutil.rmtree(Path(base, "dpdk", self.prefix), ignore_errors=True)
            self.process = None


class Report:
    def __init__(self) -> None:
        self.failed = 0

    def case(self, name: str, action) -> None:
        start = time.monotonic()
        try:
            text = action() or ""
            print(f"ok      {name}: {text} [{time.monotonic() - start:.1f} s]", flush=True)
        except Exception as error:  # every case reports, the next one still runs
            self.failed += 1
            print(f"FAILED  {name}: {error}", flush=True)


def expect(condition: object, text: str) -> None:
    if not condition:
        raise AssertionError(text)


def ping(guest: Guest, address: str, count: int = 20) -> str:
    """Pings and wants every answer; returns the line with the round trip times."""
    output = guest.check(f"ping -q -i 0.05 -W 2 -c {count} {address}", 60)
    expect(" 0% packet loss" in output, output)
    return output.strip().splitlines()[-1]


def resumes(guest: Guest, address: str, timeout: float = 30) -> str:
    """The time until the first answer, in seconds."""
    start = time.monotonic()
    guest.wait_until(f"ping -q -c 1 -W 1 {address}", timeout)
    return f"{time.monotonic() - start:.1f} s until the first answer"


def channel(guest: Guest) -> str:
    """Exit codes, exact output, limits and background processes, with no network at all."""
    expect(guest.run("printf out; printf err >&2; exit 7") == (7, "outerr"), "output or exit code")
    expect(guest.run_bytes(["printf", r"\377\000\n"]) == (0, b"\xff\x00\n"), "bytes")
    expect(guest.run("kill -KILL $$")[0] == 137, "exit code after a signal")
    expect(guest.run("cat /nonexistent")[0] == 1, "exit code 1")
    data = os.urandom(1_000_000)
    guest.write_file("/tmp/data", data)
    expect(guest.read_file("/tmp/data") == data, "a file came back different")
    guest.check("rm /tmp/data")
    try:
        guest.run("echo before; sleep 1000 & sleep 1000", 1)
        raise AssertionError("a command ran over its limit")
    except CommandError as error:
        expect("before" in str(error), "the output before the limit is missing")
    expect(guest.run("ps | grep -q '[s]leep 1000'")[0] != 0, "the killed command lives on")
    # A watchdog must not outlive its command, nor hit a later one.
    expect(guest.run("sleep 1; echo done", 2) == (0, "done\n"), "a command within its limit")
    start = time.monotonic()
    for _ in range(20):
        guest.check("true")
    per_command = (time.monotonic() - start) / 20
    process = guest.spawn("echo started; sleep 1000")
    guest.wait_until(f"grep -q started {process.base}.out")
    expect(process.running(), "spawn() ended")
    expect(process.stop() == 143 and not process.running(), "stop() of a background process")
    expect(guest.spawn("exit 5").wait() == 5, "exit code of a background process")
    return f"{per_command * 1000:.0f} ms a command"


def tools(guest: Guest) -> str:
    """What tests of bumps, VLANs and tunnels need."""
    guest.check("ip link add br0 type bridge && ip link set eth0 master br0 && ip link del br0")
    guest.check("ip link add link eth0 name eth0.7 type vlan id 7 && ip link del eth0.7")
    guest.check("ip link add vx0 type vxlan id 1 dev eth0 dstport 4789 && ip link del vx0")
    guest.check("tc qdisc add dev eth0 root netem delay 10ms && tc qdisc del dev eth0 root")
    return guest.check("ethtool -i eth0 | head -n 1; tcpdump --version 2>&1 | head -n 1; uname -r").replace("\n", ", ")


def tcp(client: Guest, server: Guest, address: str) -> str:
    process = server.spawn("iperf3 -s")
    try:
        server.wait_until("netstat -ltn | grep -q :5201")
        output = client.check(f"iperf3 -c {address} -t 3 -f m", 30)
        receiver = [line for line in output.splitlines() if line.endswith("receiver")][0]
        return " ".join(receiver.split()[4:8])
    finally:
        process.stop()


def nc(a: Guest, b: Guest, address: str) -> str:
    """2 MB by TCP, compared by checksum."""
    # nc gives up when its input ends, so that must not be /dev/null.
    process = b.spawn("mkfifo /tmp/open && nc -l -p 9000 <>/tmp/open >/tmp/received")
    b.wait_until("netstat -ltn | grep -q :9000")
    a.check("dd if=/dev/urandom of=/tmp/sent bs=1M count=2 2>/dev/null")
    a.check(f"nc {address} 9000 </tmp/sent", 60)
    process.wait()
    sent, received = (guest.check(f"md5sum <{path}") for guest, path in ((a, "/tmp/sent"), (b, "/tmp/received")))
    expect(sent == received, "what was sent and what arrived differ")
    a.check("rm /tmp/sent")
    b.check("rm /tmp/received")
    return "2 MB arrived as sent"


def capture(a: Guest, b: Guest, address: str) -> str:
    running = b.capture("eth0", "icmp")
    a.check(f"ping -q -c 5 -i 0.1 {address}")
    frames = running.finish()
    expect(len(frames) == 10 and running.dropped == 0, f"tcpdump saw {len(frames)} frames, not 10")
    kinds = [frame[34] for frame in frames]
    expect(sorted(kinds) == [0] * 5 + [8] * 5, f"not 5 requests and 5 replies: {kinds}")
    try:
        b.capture("eth0", "no such expression")
        raise AssertionError("a wrong expression went unnoticed")
    except CommandError as error:
        expect("error" in str(error), f"tcpdump's message is missing: {error}")
    return "5 requests and 5 replies in the capture"


def memory(guest: Guest) -> str:
    assert guest.process is not None
    status = Path(f"/proc/{guest.process.pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0]) // 1024
    free = guest.check("sed -n 's/MemAvailable: *//p' /proc/meminfo").strip()
    return f"QEMU resident {resident} MB of -m {guest.memory_mb}, guest has {free} available"


def kill_and_start(guest: Guest, peer: Guest, address: str) -> str:
    guest.kill()
    expect(peer.run(f"ping -q -c 1 -W 1 {address}")[0] != 0, "the killed guest answers")
    guest.start().wait_ready()
    return f"boot {guest.boot_seconds:.1f} s, {resumes(peer, address)}"


def main() -> int:
    for program in (TESTPMD, "qemu-system-x86_64"):
        if shutil.which(program) is None:
            print(f"{program} isn't installed: apt-get install dpdk qemu-system-x86", file=sys.stderr)
            return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    report = Report()
    work = Path(tempfile.mkdtemp(prefix="guest-selftest-"))
    paths = [work / "a.sock", work / "b.sock"]
    testpmd = Testpmd(work, paths)
    try:
        start = time.monotonic()
        folder = build()
        print(f"kernel and root file system: {folder} [{time.monotonic() - start:.1f} s]", flush=True)
        testpmd.start()
        with Guest("a", [Nic(paths[0], ip="10.9.0.1/24")]) as a, Guest("b", [Nic(paths[1], ip="10.9.0.2/24")]) as b:
            wait_all([a, b])
            print(f"two guests at once: ready after {a.boot_seconds:.1f} and {b.boot_seconds:.1f} s", flush=True)
            report.case("memory", lambda: memory(a))
            report.case("channel", lambda: channel(a))
            report.case("tools", lambda: tools(a))
            report.case("traffic begins", lambda: resumes(a, "10.9.0.2"))
            report.case("ping a → b", lambda: ping(a, "10.9.0.2"))
            report.case("ping b → a", lambda: ping(b, "10.9.0.1"))
            report.case("TCP a → b", lambda: tcp(a, b, "10.9.0.2"))
            report.case("TCP b → a", lambda: tcp(b, a, "10.9.0.1"))
            report.case("nc a → b", lambda: nc(a, b, "10.9.0.2"))
            report.case("tcpdump in b", lambda: capture(a, b, "10.9.0.2"))
            report.case("reset of b", lambda: f"back after {b.reset().boot_seconds:.1f} s, {resumes(a, '10.9.0.2')}")
            report.case("ping after it", lambda: ping(a, "10.9.0.2"))
            report.case("reboot of b", lambda: f"back after {b.reboot().boot_seconds:.1f} s, {resumes(a, '10.9.0.2')}")
            report.case("kill -9 of b, start", lambda: kill_and_start(b, a, "10.9.0.2"))
            report.case("ping after it", lambda: ping(a, "10.9.0.2"))

            def back_end() -> str:
                testpmd.kill()
                expect(a.run("ping -q -c 1 -W 1 10.9.0.2")[0] != 0, "there is traffic without a back end")
                testpmd.start()
                return resumes(a, "10.9.0.2", 60)
            report.case("kill -9 of the back end, start", back_end)
            report.case("ping after it", lambda: ping(a, "10.9.0.2"))
            report.case("shutdown of a", a.shutdown)
        testpmd.kill()

        # The other way round: QEMU listens, and boots when the back end has connected. Legacy header on one side.
        testpmd = Testpmd(work, [work / "c.sock", work / "d.sock"], client=True)
        with Guest("c", [Nic(work / "c.sock", ip="10.9.0.3/24", server=True, mrg_rxbuf=False, event_idx=False,
                             indirect_desc=False, rx_queue_size=512)]) as c, \
             Guest("d", [Nic(work / "d.sock", ip="10.9.0.4/24", server=True, disable_modern=True)]) as d:
            def waits() -> str:
                try:
                    c.wait_ready(3)
                except GuestError as error:
                    expect("wait for a back end" in str(error), f"the error doesn't say why: {error}")
                    return "the boot waits for the back end, and the error says so"
                raise AssertionError("the guest booted without a back end")
            report.case("server=on", waits)
            testpmd.start()
            wait_all([c, d])
            report.case("legacy device", lambda: expect(
                d.check("cat /sys/bus/virtio/devices/*/features | cut -c 33 | sort | uniq -c | tr -d ' \\n'") == "1011",
                "VERSION_1 should be set for the agent's device and clear for the NIC") or "VERSION_1 not acknowledged")
            report.case("traffic begins", lambda: resumes(c, "10.9.0.4"))
            report.case("ping c → d", lambda: ping(c, "10.9.0.4"))
            report.case("TCP d → c", lambda: tcp(d, c, "10.9.0.3"))
        expect(not any((work / name).exists() for name in ("c.sock", "d.sock")), "sockets left behind")
    except BaseException as error:
        print(f"FAILED  {error}\n--- testpmd:\n{testpmd.log() if (work / 'testpmd.log').exists() else ''}", flush=True)
        report.failed += 1
        if not isinstance(error, Exception):
            raise
    finally:
        testpmd.kill()
        shutil.rmtree(work, ignore_errors=True)
    print("failed" if report.failed else "all is as it should be", flush=True)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
