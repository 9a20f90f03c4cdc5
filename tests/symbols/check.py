#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Refuses what has no business in hot objects: every undefined symbol of an
object that workers run must be named here, with its reason where it isn't
plain. Memory, stdio, logging, locks, system calls and JSON thus can't come
back by an innocent change."""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable

# The objects that run once per burst, and what each may call beside the
# others of this table: symbol (or a pattern of them) → why.
HOT: dict[str, dict[str, str]] = {
    'worker.c': {
        'publish_qsbr': 'data: where a worker reports that a loop is over',
        'wire_table_current': 'data: the one pointer a loop begins with',
        'rte_rcu_qsbr_thread_(un)?register': 'at the start and the end of a worker',
    },
    'stage.c': {},
    'hop.c': {},
    'complete.c': {},
    'segment.c': {},
    'checksum.c': {},
    'tap.c': {},
    'vlan.c': {},
    'virtqueue_packed_receive.c': {},
    'virtqueue_packed_transmit.c': {},
    'virtqueue_packed_notify.c': {},
    'virtqueue_split_receive.c': {},
    'virtqueue_split_transmit.c': {},
    'virtqueue_target.c': {},
    'virtqueue_log.c': {},
    'virtqueue_notify.c': {},
    'guest_call.c': {
        'syscall': 'the interrupt that a guest asked for: io_submit, and io_getevents once in some; neither waits',
        'eventfd_write': 'where there is no asynchronous I/O; non-blocking unless a hostile front end has a hand in it',
        'open(64)?|close': '/dev/null, once',
        '__errno_location': 'why it failed',
    },
    'copy.c': {
        '__cpu_(model|indicator_init)': 'copy_init, once at the start',
    },
    'copy_sse.c': {},
    'copy_avx2.c': {},
    'copy_avx512.c': {},
    'vif_vhost.c': {
        'vif_vhost_(create|destroy|read_state|read_count)': 'the table of functions names them; the device thread calls them',
        'vif_mark_broken': 'once for a ring that can not be',
    },
    'vif_ethdev.c': {
        'rte_eth_fp_ops': 'data: the drivers\' burst functions',
        'rte_eth_call_[rt]x_callbacks': 'only where an application of DPDK has set some; Patchbay sets none',
        'rte_mempool_ops_table': 'data: the packet buffers\' pool',
        'rte_pktmbuf_free_bulk': 'buffers go back to their pool',
        '__rte_panic': 'DPDK\'s inline checks of a corrupt mempool',
        'per_lcore__lcore_id': 'data: which cache of the pool is ours',
        'rte_mempool_.*|rte_mbuf_.*|__rte_(mbuf|mempool).*': 'DPDK\'s own, inline or not',
    },
    'vif_ethdev_offload.c': {},
    'vif_ethdev_tap.c': {
        'writev': 'a kernel TAP takes frames by system call; its descriptor is non-blocking',
        '__errno_location': 'why it did not',
    },
    'vif_none.c': {
        'vif_set_link': 'create; the device thread',
    },
}

# Objects that workers run only when there is nothing to do, or of which they
# run a part; listed so that what they call is read once more when it changes.
RESTING: dict[str, dict[str, str]] = {
    'worker_rest.c': {
        'publish_qsbr|wire_table_current': 'data',
        'epoll_(ctl|wait)': 'a worker without work waits here, offline for the publisher',
        'eventfd_read': 'its own wake-up; non-blocking',
        'sched_yield': 'only on a machine with one CPU',
        '__errno_location': 'why epoll_ctl did not',
    },
    'vif_vhost_wake.c': {
        'epoll_(create1|ctl)|close|eventfd': 'the vhost callbacks and the device thread open and close it',
        'epoll_wait': 'emptied by the worker with a timeout of 0',
        'eventfd_write': 'an attach wakes the worker',
        '__errno_location': 'why it failed',
    },
    'vif_ethdev_wake.c': {
        'rte_eth_dev_rx_intr_.*': 'asking a device for an interrupt, when its queue goes to rest',
        'read|poll': 'emptying a device\'s eventfd, non-blocking, when its queue goes to rest',
        'vif_mark_broken': 'once for a device that is gone',
        'readlink|fcntl(64)?|snprintf|__snprintf_chk|eal_log_capture_(begin|end)': 'vif_ethdev_wake_init; the device thread',
        '__errno_location': 'why it failed',
    },
}

# The compiler's and the loader's own, and what only moves bytes.
ALWAYS = re.compile(r'_GLOBAL_OFFSET_TABLE_|__tls_get_addr|mem(cpy|move|set|cmp)|bcmp|__mem(cpy|move|set)_chk|__stack_chk_fail'
                    r'|__(asan|ubsan|tsan|sanitizer)_.*|__gcov_.*|__llvm_.*')

KINDS = [
    ('memory', r'(m|c|re)alloc|reallocarray|free|posix_memalign|aligned_alloc|strdup|strndup|mmap|munmap|rte_(m|z)alloc.*|rte_free'),
    ('stdio', r'.*printf.*|puts|fputs|fwrite|fopen|fclose|fflush|perror|std(out|err)'),
    ('logging', r'rte_log|rte_vlog|syslog|vsyslog|eal_log.*'),
    ('locks', r'pthread_.*|sem_.*|mtx_.*'),
    ('JSON', r'json_.*'),
    ('system calls', r'syscall|read|write|readv|writev|ioctl|poll|ppoll|select|epoll_.*|eventfd.*|open|close|send.*|recv.*'
                     r'|nanosleep|usleep|clock_gettime|gettimeofday|futex|sched_.*|fcntl.*'),
]


def kind_of(symbol: str) -> str:
    for kind, pattern in KINDS:
        if re.fullmatch(pattern, symbol):
            return kind
    return 'not known here'


def objects(archive: str) -> dict[str, tuple[set[str], set[str]]]:
    """Source file name → (undefined symbols, defined ones), of an archive."""
    run = subprocess.run(['nm', '-P', archive], check=True, capture_output=True, text=True)
    found: dict[str, tuple[set[str], set[str]]] = {}
    current: tuple[set[str], set[str]] | None = None
    for line in run.stdout.splitlines():
        if line.endswith(':'):
            # lib.a[dir/worker.c.o]: or the member's name alone
            name = re.sub(r'^.*[\[/]', '', line[:-1].rstrip(']'))
            name = re.sub(r'\.o$', '', name)
            current = found.setdefault(name, (set(), set()))
            continue
        parts = line.split()
        if current is None or len(parts) < 2:
            continue
        if parts[1] in 'Uw':
            current[0].add(parts[0])
        else:
            current[1].add(parts[0])
    return found


def refusals(found: dict[str, tuple[set[str], set[str]]], table: dict[str, dict[str, str]],
             own: set[str]) -> Iterable[tuple[str, str]]:
    for name, allowed in table.items():
        for symbol in sorted(found[name][0]):
            if ALWAYS.fullmatch(symbol) or symbol in own:
                continue
            if any(re.fullmatch(pattern, symbol) for pattern in allowed):
                continue
            yield name, symbol


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('archives', nargs='+', help='the static libraries with the objects')
    parser.add_argument('--must-refuse', metavar='SYMBOL,…',
                        help='self-check: take the archive\'s only object for a hot one and fail unless all of these are refused')
    args = parser.parse_args()
    found: dict[str, tuple[set[str], set[str]]] = {}
    for archive in args.archives:
        found.update(objects(archive))

    if args.must_refuse:
        wanted = set(args.must_refuse.split(','))
        refused = {symbol for _, symbol in refusals(found, {name: HOT['hop.c'] for name in found}, set())}
        if wanted != refused:
            print(f'refused {sorted(refused)}, expected {sorted(wanted)}')
            return 1
        for symbol in sorted(refused):
            print(f'refused as it should be: {symbol} ({kind_of(symbol)})')
        return 0

    missing = [name for name in HOT | RESTING if name not in found]
    if missing:
        print(f'no such object in {" ".join(args.archives)}: {", ".join(missing)}; has a file been renamed?')
        return 1
    own = set().union(*(found[name][1] for name in HOT | RESTING))
    bad = list(refusals(found, HOT | RESTING, own))
    for name, symbol in bad:
        print(f'{name}: {symbol}: {kind_of(symbol)}; if a worker may really call it, name it in {sys.argv[0]} with the reason')
    if not bad:
        print(f'{len(HOT | RESTING)} objects call nothing but each other and what is named')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
