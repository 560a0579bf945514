"""Tables under one another: lists of rows, or pandas DataFrames; pandas is not loaded for rows."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from epsilon_lab.errors import InvalidInput


def concatenate(outputs: Iterable[Any]) -> Any:
    """Put rows under one another, in order.

    Args:
        outputs: Lists of rows, or single rows (dicts); or DataFrames, whose rows are numbered anew and whose columns
            are brought together by name.

    Returns:
        A list; or a DataFrame, where the outputs are DataFrames.

    Raises:
        InvalidInput: An output is none of these, or they are of both kinds.
    """
    rows: list[Any] = []
    frames: list[Any] = []
    for place, output in enumerate(outputs):
        if _is_frame(output):
            frames.append(output)
        elif isinstance(output, dict | list | tuple):
            rows.extend((output,) if isinstance(output, dict) else output)
        else:
            raise InvalidInput(
                f"reducers.concatenate, output {place}",
                f"is a {type(output).__name__}",
                "return a row (a dict), a list of rows, or a DataFrame",
            )
        if frames and rows:
            raise InvalidInput(
                f"reducers.concatenate, output {place}",
                f"is a {type(output).__name__}, and there are both rows and DataFrames",
                "return the same from every task",
            )
    if not frames:
        return rows
    filled = [frame for frame in frames if len(frame.columns)]
    return sys.modules["pandas"].concat(filled or frames[:1], ignore_index=True)


def _is_frame(output: object) -> bool:
    """Whether it is a DataFrame, which nobody can hold who has not loaded pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(output, pandas.DataFrame)
