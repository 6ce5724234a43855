"""Groups of processes on the CPU that exchange by gloo."""

import multiprocessing
import os
import socket
import time
import traceback

import torch

FORKS = multiprocessing.get_context("forkserver")
# The server imports this once; its processes start at once.
FORKS.set_forkserver_preload(["pyg_bgformer.engine.run", "tests.training"])


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def process(rank, port, function, arguments, results):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    try:
        results.put((rank, function(*arguments)))
    except BaseException:
        results.put((rank, traceback.format_exc()))


def on_processes(count, function, *arguments):
    """Returns ``function(*arguments)`` of each process of a group; it builds a fabric of ``devices=count``.

    Of a process that ends without a result it is the exit code.
    """
    results, port = FORKS.SimpleQueue(), free_port()
    group = [
        FORKS.Process(target=process, args=(rank, port, function, arguments, results))
        for rank in range(count)
    ]
    for member in group:
        member.start()
    found = {}
    while len(found) < count:
        ended = [rank for rank, member in enumerate(group) if not member.is_alive() and rank not in found]
        while not results.empty():
            rank, value = results.get()
            found[rank] = value
        found = {**{rank: group[rank].exitcode for rank in ended}, **found}
        time.sleep(0.01)
    for member in group:
        member.join()
    assert not any(isinstance(value, str) for value in found.values()), "\n".join(map(str, found.values()))
    return [found[rank] for rank in range(count)]
