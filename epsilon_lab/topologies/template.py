"""Templates of a manifest: they put in values by name and do nothing else, unlike `str.format`."""

from __future__ import annotations

import functools
import string
from collections.abc import Mapping


class Misfit(Exception):
    """A template asks for what there is not.

    Attributes:
        name: The name it asks for.
        asked: The whole placeholder.
    """

    def __init__(self, name: str, asked: str) -> None:
        super().__init__(asked)
        self.name, self.asked = name, asked


class Template:
    """A text with `{named}` places; `{{` and `}}` are braces.

    Args:
        text: The template.

    Raises:
        ValueError: It is none.
    """

    def __init__(self, text: str) -> None:
        self._parts: list[tuple[str, str | None, str]] = []
        for words, name, form, conversion in string.Formatter().parse(text):
            asked = f"{{{name}{'!' + conversion if conversion else ''}{':' + form if form else ''}}}"
            self._parts.append((words, name, asked))

    @property
    def names(self) -> frozenset[str]:
        """What it asks for."""
        return frozenset(name for _, name, _ in self._parts if name is not None)

    def fill(self, values: Mapping[str, object]) -> str:
        """Put values in.

        Raises:
            Misfit: It asks for something else, or for one in another form.
        """
        filled: list[str] = []
        for words, name, asked in self._parts:
            filled.append(words)
            if name is None:
                continue
            if name not in values or asked != f"{{{name}}}":
                raise Misfit(name, asked)
            filled.append(str(values[name]))
        return "".join(filled)


@functools.lru_cache(maxsize=16)
def parsed(text: str) -> Template:
    """A template, parsed once.

    Raises:
        ValueError: It is none.
    """
    return Template(text)
