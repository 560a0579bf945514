"""How a sidecar leaves the kernel that starts it: it belongs to no terminal, no group and no parent of the kernel's.

The kernel starts this as a new session and never forks itself. This process forks once, before anything heavy is
imported, and ends; what goes on is nobody's child, so neither the kernel's death nor an interrupt of its group reaches
it, and nobody has to wait for its end.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Serve as the one argument says, which is JSON: workspace, workers, durability, linger_s, and the descriptor
    on which to say that it is ready, or why not.
    """
    if os.fork():
        os._exit(0)
    from epsilon_lab.hosts.service import serve_quietly  # noqa: PLC0415 - a fork copies little as long as little is there

    serve_quietly(**json.loads(sys.argv[1]))
