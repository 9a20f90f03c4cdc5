# SPDX-License-Identifier: BSD-3-Clause
"""Front ends with many pairs of queues: all of them, fewer than offered, switched off and on, in any order."""
from __future__ import annotations

import random
import struct
import unittest

import frontend
from frontend import FrontEnd
from support import HostCase, frame, number, wait_for

PAIRS = 4


class Queues(HostCase):
    def start(self, slot: int, pairs: int = PAIRS, used: int | None = None, **options: object) -> FrontEnd:
        end = self.front_end(slot, pairs=pairs, **options)
        end.connect()
        end.start(used)
        self.wait_link(slot, "up")
        self.wait_pairs(slot, pairs if used is None else used)
        return end

    def wait_pairs(self, slot: int, pairs: int) -> None:
        self.assertTrue(wait_for(lambda: self.host.state(slot).queue_pairs == pairs), self.host.state(slot))

    def check_pair(self, sender: FrontEnd, receiver: FrontEnd, pair: int, to: int, first: int = 0) -> None:
        """Frames on one pair come out of one pair, all, once and in order."""
        self.assertEqual(sender.transmit([frame(first + i) for i in range(20)], pair), 20)
        got = [number(data) for data in receiver.receive_frames(20, pair=to)]
        self.assertEqual(got, list(range(first, first + 20)), (pair, to))
        self.assertTrue(wait_for(lambda: (sender.reclaim(pair), len(sender.rings[2 * pair + 1].free))[1] ==
                                 sender.rings[2 * pair + 1].size))

    def check_all(self, sender: FrontEnd, receiver: FrontEnd, used: int, receiver_used: int) -> None:
        for pair in range(used):
            self.check_pair(sender, receiver, pair, pair % receiver_used, pair * 100)
        for pair in range(receiver.pairs):
            self.assertEqual(receiver.received(pair), [])

    def test_offer(self) -> None:
        end = self.front_end(0)
        end.connect()
        self.assertEqual(end.ask_u64(frontend.GET_FEATURES) & (frontend.MQ | frontend.CTRL_VQ),
                         frontend.MQ | frontend.CTRL_VQ)
        self.assertTrue(end.ask_u64(frontend.GET_PROTOCOL_FEATURES) & frontend.PROTOCOL_MQ)
        self.assertEqual(end.ask_u64(frontend.GET_QUEUE_NUM), 16)
        before = self.host.descriptors()
        for fds in ((end.memory_fd,), (end.memory_fd,) * 8):  # that nobody asked for
            end.send(frontend.GET_QUEUE_NUM, b"", fds)
            request, _, data = end.receive()
            self.assertEqual((request, data), (frontend.GET_QUEUE_NUM, struct.pack("<Q", 16)))
        self.assertEqual(self.host.descriptors(), before)

    def test_all_pairs(self) -> None:
        a, b = self.start(0), self.start(1)
        self.check_all(a, b, PAIRS, PAIRS)
        self.check_all(b, a, PAIRS, PAIRS)
        for pair in range(PAIRS):
            self.assertEqual(self.host.numbers(f"queue 0 {pair}")[1:], [20, 20])

    def test_sixteen_and_one(self) -> None:
        a, b = self.start(0, 16, ring_size=64), self.start(1, 1)
        self.check_all(a, b, 16, 1)
        self.check_all(b, a, 1, 16)

    def test_fewer_than_offered(self) -> None:
        """A Linux guest starts with one pair enabled and rings for all."""
        a, b = self.start(0, used=1), self.start(1, 2)
        self.check_all(a, b, 1, 2)
        for pair in range(2):
            self.check_pair(b, a, pair, 0)
        a.use_pairs(PAIRS)
        self.wait_pairs(0, PAIRS)
        self.check_all(a, b, PAIRS, 2)
        self.check_all(b, a, 2, PAIRS)

    def test_fewer_than_set_up(self) -> None:
        """Only some rings have addresses at all; more of them come while frames flow."""
        a, b = self.front_end(0, pairs=PAIRS), self.start(1)
        a.connect()
        a.negotiate()
        a.set_memory()
        for ring in a.rings[:2]:
            a.set_ring(ring)
            a.ring_state(frontend.SET_VRING_ENABLE, ring.index, 1)
        a.post()
        self.wait_link(0, "up")
        self.wait_pairs(0, 1)
        self.check_all(a, b, 1, PAIRS)
        for pair in range(1, PAIRS):
            a.transmit([frame(pair)], pair)  # before anybody knows of the ring
            a.post(pair=pair)
            for ring in a.rings[2 * pair:2 * pair + 2]:
                a.set_ring(ring, 0)
                a.ring_state(frontend.SET_VRING_ENABLE, ring.index, 1)
            self.assertEqual([number(data) for data in b.receive_frames(1, pair=pair)], [pair])
            self.wait_pairs(0, pair + 1)
        self.check_all(a, b, PAIRS, PAIRS)

    def test_off_with_frames_in_it(self) -> None:
        """What a queue holds when it is switched off arrives; what is sent there later is taken and counted."""
        a, b = self.start(0), self.start(1)
        for turn in range(20):
            for pair in range(PAIRS):
                a.transmit([frame(turn * 100 + i) for i in range(50)], pair)
            a.use_pairs(1 + turn % 2)
            for pair in range(PAIRS):
                got = [number(data) for data in b.receive_frames(50, pair=pair)]
                self.assertEqual(got, list(range(turn * 100, turn * 100 + 50)), pair)
            a.use_pairs(PAIRS)
        a.use_pairs(2)
        a.sync()
        self.wait_pairs(0, 2)
        discarded = self.host.numbers("count 0")[2]
        for i in range(3):  # a look that finds it empty may be just ahead
            a.transmit([frame(i)], 3)
            self.assertTrue(wait_for(lambda: (a.reclaim(3), len(a.rings[7].free))[1] == 256), "the guest would wait")
        self.assertGreaterEqual(self.host.numbers("count 0")[2], discarded + 2)
        b.received(3)
        self.check_all(a, b, 2, PAIRS)
        leg = self.host.numbers("leg 0 0")
        self.assertEqual(leg[0], leg[1] + leg[2])

    def test_receiver_off_while_flowing(self) -> None:
        """No frame is lost when the receiver goes on with fewer: those that waited go to another queue."""
        a, b = self.start(0), self.start(1)
        count, sent, got = 3000, [0] * PAIRS, [[] for _ in range(PAIRS)]
        dice = random.Random(7)

        def finished() -> bool:
            for pair in range(PAIRS):
                if sent[pair] < count:
                    sent[pair] += a.transmit([frame(pair << 24 | sent[pair] + i)
                                              for i in range(min(32, count - sent[pair]))], pair)
                for data in b.received(pair):
                    got[number(data) >> 24].append(number(data) & 0xffffff)
            if dice.random() < 0.05:
                b.use_pairs(dice.randint(1, PAIRS))
            return sum(map(len, got)) >= count * PAIRS

        self.assertTrue(wait_for(finished, 300), [len(part) for part in got])
        for part in got:  # in which order, where queues change, is the receiver's to say
            self.assertEqual(sorted(part), list(range(count)))
        self.assertEqual(self.host.numbers("leg 0 0")[:3], [count * PAIRS, count * PAIRS, 0])

    def test_moved_while_flowing(self) -> None:
        """Queues change their worker, again and again: each queue's frames arrive all, once and in order."""
        a, b = self.start(0), self.start(1)
        count, sent, got = 3000, [0] * PAIRS, [[] for _ in range(PAIRS)]

        def finished() -> bool:
            for pair in range(PAIRS):
                if sent[pair] < count:
                    sent[pair] += a.transmit([frame(sent[pair] + i) for i in range(min(32, count - sent[pair]))], pair)
                got[pair] += [number(data) for data in b.received(pair)]
            self.host.must(f"place 0 {len(got[0]) % PAIRS} 0")
            return sum(map(len, got)) >= count * PAIRS

        self.assertTrue(wait_for(finished, 300), [len(part) for part in got])
        self.assertEqual(got, [list(range(count))] * PAIRS)

    def test_orders(self) -> None:
        """Messages in orders that no front end has, for queues that are there, half there and not there."""
        a, b = self.start(0), self.start(1)
        dice = random.Random(11)
        for turn in range(300):
            ring = a.rings[dice.randrange(2, 2 * PAIRS)]
            choice = dice.randrange(7)
            if choice == 0:
                a.ring_state(frontend.SET_VRING_ENABLE, ring.index, dice.randrange(2))
            elif choice == 1:
                a.u64(frontend.SET_VRING_KICK, ring.index, (ring.kick_fd,))
            elif choice == 2:
                a.u64(frontend.SET_VRING_CALL, ring.index | frontend.NO_FD)
            elif choice == 3:
                a.send(frontend.SET_VRING_ADDR, ring.address())
            elif choice == 4:
                a.ring_state(frontend.SET_VRING_ENABLE, dice.randrange(2 * PAIRS, 32), dice.randrange(2))
            elif choice == 5:
                a.ask(frontend.GET_VRING_BASE, struct.pack("<II", ring.index, 0))
            else:
                a.transmit([frame(turn)], ring.index // 2)
        a.sync()
        self.wait_link(0, "up")  # the first pair is as it was
        self.assertFalse(a.acked(frontend.SET_VRING_ENABLE, struct.pack("<II", 32, 1)))
        self.assertFalse(a.acked(frontend.SET_VRING_NUM, struct.pack("<II", 200, 256)))
        for pair in range(PAIRS):
            b.receive_frames(1, 0.05, pair)
        while b.receive_frames(1, 0.05):
            pass
        self.check_pair(a, b, 0, 0, 5000)
        a.disconnect()
        self.wait_link(0, "down", "waiting")

    def test_a_bad_ring_of_another_pair(self) -> None:
        """One that is enabled takes the vif down with its reason; one that isn't does no harm."""
        a, b = self.start(0, used=1), self.start(1)
        bad = struct.pack("<IIQQQQ", 4, 0, frontend.USER_BASE + 8, frontend.USER_BASE, frontend.USER_BASE, 0)
        a.send(frontend.SET_VRING_ADDR, bad)
        a.u64(frontend.SET_VRING_KICK, 4, (a.rings[4].kick_fd,))
        a.sync()
        self.assertEqual(self.host.state(0).link, "up")
        self.check_all(a, b, 1, PAIRS)
        a.ring_state(frontend.SET_VRING_ENABLE, 4, 1)
        a.sync()
        self.wait_link(0, "down", "ring 4")
        a.ring_state(frontend.SET_VRING_ENABLE, 4, 0)
        self.wait_link(0, "up")
        self.check_all(a, b, 1, PAIRS)

    def test_back_with_fewer(self) -> None:
        """A guest with many queues, then one with one, then with many again: nothing is left of the last."""
        b = self.start(1)
        for pairs in (4, 1, 2, 1, 4):
            a = self.start(0, pairs)
            self.check_all(a, b, pairs, PAIRS)
            self.check_all(b, a, PAIRS, pairs)
            a.close()
            self.wait_link(0, "down", "waiting")


if __name__ == "__main__":
    unittest.main()
