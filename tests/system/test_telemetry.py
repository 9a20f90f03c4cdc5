# SPDX-License-Identifier: BSD-3-Clause
"""/patchbay/… on DPDK's telemetry socket, which lies in a directory of its own and goes with the daemon."""
from __future__ import annotations

import json
import socket
import threading
from typing import Any

from patchbay import Case, Daemon, dpdk_run_dirs


class Telemetry(Case):
    def setUp(self) -> None:
        self.daemon = Daemon(self)
        self.client = self.connect()

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(client.close)
        client.settimeout(30)
        client.connect(str(dpdk_run_dirs(self.daemon.pid)[0] / "dpdk_telemetry.v2"))
        client.recv(1024)
        return client

    def ask(self, command: str, client: socket.socket | None = None) -> Any:
        client = client or self.client
        client.send(command.encode())
        return json.loads(client.recv(64 << 10))[command.partition(",")[0]]

    def test_wires_vifs_workers(self) -> None:
        daemon = self.daemon
        directory = dpdk_run_dirs(daemon.pid)[0]
        self.assertEqual(directory.stat().st_mode & 0o777, 0o700)
        for i in range(210):
            daemon.plug(f"v{i}", "none")
        for i in range(105):
            daemon.wire(f"w-{i:03}", f"v{2 * i}", f"v{2 * i + 1}")
        first = self.ask("/patchbay/wires")
        self.assertEqual(first, [f"default/w-{i:03}" for i in range(100)])
        self.assertEqual(self.ask(f"/patchbay/wires,{first[-1]}"), [f"default/w-{i:03}" for i in range(100, 105)])
        wire, stats = self.ask("/patchbay/wire,default/w-007"), daemon.stats("w-007")
        self.assertEqual((wire["uid"], wire["up"], wire["a_to_b_received_frames"]),
                         (stats["uid"], 1, stats["a_to_b"]["received"]["frames"]))
        self.assertEqual(len(self.ask("/patchbay/vifs")), 100)
        self.assertEqual(self.ask("/patchbay/vif,v7")["uid"], daemon.vif_stats("v7")["uid"])
        self.assertEqual(self.ask("/patchbay/workers"), ["0"])
        self.assertGreater(self.ask("/patchbay/worker,0")["cycles"], 0)
        self.assertEqual(self.ask("/patchbay/tees,default/w-007"), [])
        for wrong in ("/patchbay/tees", "/patchbay/tees,default/x", "/patchbay/tee", "/patchbay/tee,default/w-007",
                      "/patchbay/tee,default/w-007/x", "/patchbay/wire", "/patchbay/wire,x", "/patchbay/wire,default/x", "/patchbay/vif,x",
                      "/patchbay/worker,7", "/patchbay/worker,x", "/patchbay/wires,x"):
            self.assertIsNone(self.ask(wrong), wrong)
        self.assertIn("/patchbay/wire", self.ask("/"))

        # Threads of the library ask while the control thread changes what they ask about.
        wrong_answers: list[Any] = []

        def hammer(client: socket.socket) -> None:
            for _ in range(100):
                answer = self.ask("/patchbay/wire,default/w-001", client)
                if answer is not None and answer["wire"] != "w-001":
                    wrong_answers.append(answer)

        threads = [threading.Thread(target=hammer, args=(self.connect(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(30):
            daemon.do("DELETE", "/v1/networks/default/wires/w-001")
            daemon.wire("w-001", "v2", "v3")
        for thread in threads:
            thread.join()
        self.assertEqual(wrong_answers, [])
        daemon.stop()
        self.assertFalse(directory.exists())

        quiet = Daemon(self, "--no-telemetry")
        directory = dpdk_run_dirs(quiet.pid)[0]
        self.assertTrue(directory.exists())
        self.assertEqual([path.name for path in directory.iterdir() if "telemetry" in path.name], [])
