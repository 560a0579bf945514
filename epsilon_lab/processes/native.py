"""The C library's functions that Python does not name: the one door to ctypes here."""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int | bytes | ctypes.Array[Any] | None) -> int:
    """Call a function that answers -1 and sets errno when it fails; `syscall` for what has no function of its own.

    Args:
        name: Its name.
        arguments: Integers (as long ones), bytes and buffers (as pointers), None (a null pointer).

    Raises:
        OSError: It failed, or this system has no such function.
    """
    try:
        function = getattr(_libc(), name)
    except AttributeError:
        raise OSError(38, f"this system has no {name}") from None
    result: int = function(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result == -1:
        number = ctypes.get_errno()
        told = f"{name}({arguments[0] if isinstance(arguments[0], int) else ''})"
        raise OSError(number, f"{told}: {os.strerror(number)}")
    return result


def prctl(option: int, argument: int) -> None:
    """Call `prctl(2)`.

    Raises:
        OSError: The kernel refused.
    """
    call("prctl", option, argument, 0, 0, 0)
