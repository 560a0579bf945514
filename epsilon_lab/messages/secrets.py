"""What must not be shown, taken out of a text that may hold it."""

from __future__ import annotations

from collections.abc import Mapping

SHORTEST = 8
"""Characters: a shorter value is a placeholder, and might be a word of the text."""


def conceal(text: str, secrets: Mapping[str, str]) -> str:
    """Put the name of each secret, in brackets, where its value is; the longest are looked for first.

    Args:
        text: What is to be shown.
        secrets: Name -> value.
    """
    for name in sorted(secrets, key=lambda name: -len(secrets[name])):
        value = secrets[name].strip()
        if len(value) >= SHORTEST:
            text = text.replace(value, f"[{name}]")
    return text
