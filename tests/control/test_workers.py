#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Which worker polls which queue: pinned by hand, spread by load."""

import threading
import time

from harness import DaemonTest, ask, main, wait_for

NET = "/v1/networks/default"


def parallel(work, count: int) -> None:
    failures = []

    def run(i: int) -> None:
        try:
            work(i)
        except Exception as error:  # shown by the test, not lost in a thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class Pinned(DaemonTest):
    args = ("--workers", "1,2,3")

    def test_pinning_a_vif(self) -> None:
        """`worker` moves all its queues there, each by two tables (the test double insists on that)."""
        d = self.d
        d.plug("a", "b")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        d.fake("grow a 4")
        wait_for(lambda: "queues=4" in d.fake("vif a"), "a table polls them")
        d.fake("publish-wait 2000")

        def workers() -> list:
            return d.get("/v1/vifs/a").json["status"]["workers"]

        generation = d.generation()
        self.assertEqual(self.check(d.patch("/v1/vifs/a", {"worker": 2}), 200).json["worker"], 2)
        self.assertEqual((workers(), d.fake("moves")), ([2] * 4, "4"))
        self.assertEqual(d.generation(), generation + 1)
        self.check(d.patch("/v1/vifs/a", {"worker": 2}), 200)  # the same again
        self.check(d.patch("/v1/vifs/a", {"worker": None}), 200)  # stay where they are
        self.assertEqual((workers(), d.fake("moves")), ([2] * 4, "4"))
        message = self.check(d.patch("/v1/vifs/a", {"worker": 3}), 400, "BadValue").json["error"]["message"]
        self.assertIn("no worker 3: this daemon has 3", message)
        self.check(d.put("/v1/vifs/c", {"kind": "none", "worker": 3}), 400, "BadValue")
        self.check(d.put("/v1/vifs/c", {"kind": "none", "worker": 1}), 201)
        self.assertEqual(d.get("/v1/vifs/c").json["worker"], 1)
        self.check(d.patch("/v1/vifs/a", {"worker": 1}), 200)
        self.assertEqual((workers(), d.fake("moves")), ([1] * 4, "8"))

        def toggle(i: int) -> None:  # many in one group, with other changes
            client = d.connect(60)
            for n in range(20):
                self.check(ask(client, "PATCH", "/v1/vifs/a", {"worker": (n + i) % 3}), 200)
                self.check(ask(client, "PATCH", f"{NET}/wires/w", {"b": None if n % 2 else "b"}), 200)
            client.close()

        parallel(toggle, 4)
        self.check(d.patch("/v1/vifs/a", {"worker": 0}), 200)
        self.assertEqual(workers(), [0] * 4)
        # A daemon with fewer workers keeps the wish and uses those it has.
        d.args = ["--workers", "1"]
        d.restart()
        self.assertEqual(d.get("/v1/vifs/c").json["worker"], 1)
        self.assertEqual(d.get("/v1/vifs/c").json["status"]["workers"], [0])
        self.check(d.patch("/v1/vifs/c", {"owner": "me"}), 200)
        self.check(d.patch("/v1/vifs/c", {"worker": None}), 200)


class Spread(DaemonTest):
    args = ("--workers", "1,2", "--log-level", "debug")

    def test_queues_go_where_there_is_room(self) -> None:
        """By load, after some seconds of it, and then they stay; a pinned one always does."""
        d = self.d
        d.plug("a", "b", "p")
        self.check(d.patch("/v1/vifs/p", {"worker": 0}), 200)
        d.fake("grow a 4")
        wait_for(lambda: "queues=4" in d.fake("vif a"), "a table polls them")
        for queue in range(4):
            d.fake(f"load a {queue} 20")
        d.fake("load p 0 20")
        wait_for(lambda: d.fake("moves") != "0", "a queue moves", seconds=30)
        wait_for(lambda: sum(d.get("/v1/vifs/a").json["status"]["workers"]) >= 2, "the load is even", seconds=30)
        self.assertEqual(d.get("/v1/vifs/p").json["status"]["workers"], [0])
        moves = d.fake("moves")
        self.assertIn(moves, ("2", "3"))
        looks = d.log().count("queue")
        self.assertIn("moved from worker 0 to worker 1", d.log())
        time.sleep(5)  # five looks at a load that is even
        self.assertEqual((d.fake("moves"), d.log().count("queue")), (moves, looks))

    def test_a_new_vif_has_moved_nowhere_yet(self) -> None:
        """A queue that has moved stays for 10 s at least; but not that of another vif that has the same place since."""
        d = self.d

        def moves() -> float:
            """All queues of a vif on one worker, and busy: when the first of them leaves it. Then the vif is gone."""
            d.plug("a")
            d.fake("grow a 4")
            wait_for(lambda: "queues=4" in d.fake("vif a"), "a table polls them")
            for worker in (0, None):
                self.check(d.patch("/v1/vifs/a", {"worker": worker}), 200)
            before = d.fake("moves")
            for queue in range(4):
                d.fake(f"load a {queue} 20")
            wait_for(lambda: d.fake("moves") != before, "a queue moves", seconds=60)
            at = time.monotonic()
            self.check(d.delete("/v1/networks/default/ports/a"), 200)
            self.check(d.delete("/v1/vifs/a"), 200)
            return at

        last, gaps = moves(), []
        while not gaps or (gaps[-1] >= 10 and len(gaps) < 3):  # a machine that is busy may take long once
            at = moves()
            gaps.append(at - last)
            last = at
        self.assertLess(gaps[-1], 10)


if __name__ == "__main__":
    main()
