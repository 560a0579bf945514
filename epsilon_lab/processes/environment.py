"""Which environment variables reach whom.

Candidates are strangers: they get a short list of names that say where programs and languages are. Tasks and judges are
the user's own code: they get the environment of this process less the names that look like secrets, plus those that the
user named. Names are judged and not values, so that the rule can be read off a list.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping

from epsilon_lab.errors import InvalidInput

_SECRET = re.compile(
    r"KEY|TOKEN(?!IZER)|SECRET|PASSW|PASSPHRASE|CREDENTIAL|AUTH|COOKIE|PRIVATE|BEARER|_PAT$|_PWD$|_DSN$",
    re.IGNORECASE,
)

_CANDIDATE_NAMES = ("PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

_USERS_NAMES = ("HOME", "USER", "LOGNAME", "TMPDIR")

_CANDIDATE_VALUES = {
    "OMP_NUM_THREADS": "1",  # one candidate, one core: else its CPU time says nothing
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",  # the order of a set is part of what a program computes
    "PYTHONDONTWRITEBYTECODE": "1",
}


def looks_secret(name: str) -> bool:
    """Tell whether an environment variable's name looks like that of a key, a password or another credential."""
    return _SECRET.search(name) is not None


def granted(names: Iterable[str], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Look up the environment variables that a run's tasks are granted.

    Args:
        names: Their names.
        environ: Where they are set; None for the environment of this process.

    Raises:
        InvalidInput: One is not set.
    """
    given = os.environ if environ is None else environ
    found = {name: given[name] for name in names if name in given}
    if missing := [name for name in names if name not in found]:
        are = "is" if len(missing) == 1 else "are"
        raise InvalidInput(
            "env",
            f"the run's tasks are granted {' and '.join(missing)}, which {are} not set",
            f"set it in this process first: os.environ[{missing[0]!r}] = ...",
        )
    return found


def held_secrets() -> dict[str, str]:
    """What of this process's environment looks like a key: name -> value."""
    return {name: value for name, value in os.environ.items() if looks_secret(name)}


def candidate_environment() -> dict[str, str]:
    """Make the environment of a candidate: an allowlist, and one thread a library."""
    allowed = {
        name: value
        for name, value in os.environ.items()
        if (name in _CANDIDATE_NAMES or name.startswith("LC_")) and not looks_secret(name)
    }
    return allowed | _CANDIDATE_VALUES


def outside_environment(*, confined: bool) -> dict[str, str]:
    """Make the environment of an outside program: an allowlist, and this interpreter first among the programs.

    Args:
        confined: Otherwise it is also told where the user's own files are.
    """
    names = _CANDIDATE_NAMES if confined else (*_CANDIDATE_NAMES, *_USERS_NAMES)
    found = {name: value for name, value in os.environ.items() if name in names or name.startswith("LC_")}
    path = os.pathsep.join([os.path.dirname(sys.executable), found.get("PATH", os.defpath)])
    return found | {"PATH": path, "TERM": "dumb"}


def engine_environment() -> dict[str, str]:
    """Make the environment of a container engine's client: where the user's own files are, and where the engine is."""
    named = {
        name: value
        for name, value in os.environ.items()
        if (name.startswith(("DOCKER_", "CONTAINER_", "XDG_")) and not looks_secret(name)) or name == "SSH_AUTH_SOCK"
    }
    return outside_environment(confined=False) | named


def worker_environment(extra_names: Iterable[str] = ()) -> dict[str, str]:
    """Make the environment of a task or judge.

    Args:
        extra_names: Names to hand over although they look like secrets; one that is not set is left out.
    """
    named = frozenset(extra_names)
    return {name: value for name, value in os.environ.items() if name in named or not looks_secret(name)}
