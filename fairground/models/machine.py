"""What this machine has: memory, and how much it multiplies and reads in a second."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h's names for what mallopt sets
LARGEST_KEPT = 1 << 30  # bytes of one tensor
AS_IT_WAS = 32 << 20, 64 << 20  # bytes; where glibc's own thresholds end up once large tensors have been let go


def cores() -> int:
    """CPU cores that this process may use, which in a container or under taskset are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(device: str = "cpu") -> int:
    """Bytes of the machine's memory, or the device's, that nobody uses now."""
    if device == "cpu":
        return int(psutil.virtual_memory().available)
    return int(torch.cuda.mem_get_info(device)[0])


@contextmanager
def memory_kept() -> Iterator[None]:
    """Within it, memory of tensors that are let go stays with the process, for the next ones; glibc's malloc alone.

    Otherwise the system takes back every large tensor's pages, and clears them again, a step later: a tenth of a step
    of training on the CPU (benchmarks/README.md). Also a decorator. What is free at the end is given back.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_THRESHOLD, LARGEST_KEPT)
    libc.mallopt(TRIM_THRESHOLD, -1)  # never
    try:
        yield
    finally:
        libc.mallopt(MMAP_THRESHOLD, AS_IT_WAS[0])
        libc.mallopt(TRIM_THRESHOLD, AS_IT_WAS[1])
        libc.malloc_trim(ctypes.c_size_t(0))


def matrix_rate(dtype: torch.dtype, device: str = "cpu", *, seconds: float = 0.3) -> float:
    """Operations per second of square matrix products, measured now: the best of several sizes, `seconds` for each."""
    best = 0.0
    for size in (512, 1024, 2048) if device == "cpu" else (4096, 8192):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        tries, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end or tries < 3:
            start = time.perf_counter()
            float((a @ b)[0, 0])  # reading one number waits for the device
            best, tries = max(best, 2 * size**3 / (time.perf_counter() - start)), tries + 1
    return best


def read_rate(size: int, device: str = "cpu", *, seconds: float = 0.5) -> float:
    """Bytes per second of reading `size` bytes again and again, measured now: the best of several passes.

    Give the size of what will be read: a small model stays in a cache that a large one does not fit into.
    """
    numbers = torch.ones(max(1, size // 4), device=device)
    best, tries, end = 0.0, 0, time.perf_counter() + seconds
    while time.perf_counter() < end or tries < 3:
        start = time.perf_counter()
        float(numbers.sum())
        best, tries = max(best, 4 * len(numbers) / (time.perf_counter() - start)), tries + 1
    return best
