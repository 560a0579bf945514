"""How a sidecar leaves the kernel that starts it: it belongs to no terminal, no group and no parent of the kernel's.

The kernel starts this as a new session and never forks itself. This process forks once, before anything heavy is
imported, and ends; what goes on is nobody's child, so neither the kernel's death nor an interrupt of its group reaches
it, and nobody has to wait for its end.
"""

from __future__ import annotations

import importlib
import os
import sys


def main() -> None:
    """Be a sidecar, as the one argument orders: the JSON of an `Order`."""
    if os.fork():
        os._exit(0)
    importlib.import_module("epsilon_lab.hosts.service").serve_quietly(sys.argv[1])
