"""Reading a manifest: a run stated as a JSON document, refused with the path of whatever is wrong in it.

The fields are Epsilon's, so that its manifests can be brought along; which of them mean something else here is said
where a topology takes them (`PopulationSearch.from_manifest`, `WorkQueue.from_manifest`). A manifest is a document and
not a program: it names files below its own directory and nowhere else, and its templates put in values by name and do
nothing else. The one thing it can execute is the handler that it names, which is loaded like any import.
"""

from __future__ import annotations

import codecs
import difflib
import functools
import inspect
import re
import tempfile
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from epsilon_lab.agents.entry_point import find_function, is_entry
from epsilon_lab.errors import InvalidInput
from epsilon_lab.topologies.document import Document, Malformed
from epsilon_lab.topologies.template import Misfit, parsed
from epsilon_lab.workspace.layout import RunDirectory

Text = Annotated[str, Meta(min_length=1, pattern=r"\S", description="a text that is not blank")]
AnyText = Annotated[str, Meta(description="a text")]
Natural = Annotated[int, Meta(ge=0, le=1_000_000, description="a whole number from 0 to 1000000")]
Count = Annotated[int, Meta(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")]
Table = Annotated[dict[str, Any], Meta(description="an object")]

_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<place>\d+|\.\.\.)\]")
_SHOWN = 80

T = TypeVar("T", bound=msgspec.Struct)


class Manifest(Generic[T]):
    """A manifest that has been read.

    Args:
        path: The file.
        fields: What it must look like: structs that forbid unknown fields and describe each of theirs.
        elsewhere: Fields of other topologies' manifests, each with what to do about it here.
        long: A field that is a list too long to be held: of it, `values` has the first element alone.

    Raises:
        InvalidInput: It cannot be read, is no JSON, or has an unknown, missing or ill-typed field.

    Attributes:
        values: The document.
        folder: The directory that everything it names is below.
    """

    def __init__(
        self, path: str | Path, fields: type[T], *, elsewhere: Mapping[str, str] | None = None, long: str = ""
    ) -> None:
        if not isinstance(path, str | Path) or "\0" in str(path):
            raise InvalidInput("manifest", f"must be the path of a JSON file, got {path!r}")
        self.path = Path(path).expanduser()
        self.folder = self.path.resolve().parent
        try:
            if long:
                self.document = Document(self.path, long)
                raw = {name: msgspec.Raw(value) for name, value in self.document.members.items()}
                document = msgspec.json.decode(msgspec.json.encode(raw))
            else:
                document = msgspec.json.decode(self.path.read_bytes().removeprefix(codecs.BOM_UTF8))
        except OSError as error:
            raise InvalidInput(f"manifest {str(path)!r}", f"cannot be read ({error.strerror})") from error
        except (msgspec.DecodeError, UnicodeDecodeError, Malformed) as error:
            raise self.refused("$", f"is not JSON: {error}") from error
        except RecursionError:
            raise self.refused("$", "is nested too deeply") from None
        for name, remedy in (elsewhere or {}).items():
            if isinstance(document, dict) and name in document:
                raise self.refused(f"$.{name}", "has no meaning in this topology", remedy)
        self.values: T = convert(document, fields, self.refused)

    def refused(self, path: str, problem: str, remedy: str = "") -> InvalidInput:
        """An error about a place in the document, to be raised.

        Args:
            path: The place, such as `$.items[3].id`.
            problem: What is wrong with it.
            remedy: What to do about it.
        """
        return InvalidInput(f"{self.path.name}: {path}", problem, remedy)

    # -- files --------------------------------------------------------------------------------------------------------

    def locate(self, place: str, ref: str) -> Path:
        """Turn a reference below the manifest's directory into a path.

        Raises:
            InvalidInput: It leads outside.
        """
        try:
            return RunDirectory(self.folder).locate(ref)
        except (InvalidInput, OSError, ValueError):
            raise self.refused(
                place, f"leads outside the manifest's directory, got {_shown(ref)}", "use a relative path below it"
            ) from None

    def read(self, place: str, ref: str) -> bytes:
        """Read a file below the manifest's directory.

        Raises:
            InvalidInput: It leads outside, is not there, or cannot be read.
        """
        path = self.locate(place, ref)
        try:
            return path.read_bytes()
        except OSError as error:
            raise self.refused(place, f"{_shown(ref)} cannot be read from {self.folder} ({error.strerror})") from error

    def read_text(self, place: str, ref: str) -> str:
        """The same for a text in UTF-8."""
        try:
            return self.read(place, ref).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.refused(place, f"{_shown(ref)} is not a text in UTF-8 ({error.reason})") from error

    # -- work ---------------------------------------------------------------------------------------------------------

    def performer(self, place: str, task: object) -> str:
        """Who does a task: words for an agent, or the name of a function, whose file is below the manifest's directory.

        Raises:
            InvalidInput: It is neither, or the file is elsewhere.
        """
        if not isinstance(task, str):
            raise self.refused(place, f"must be a text or 'module:function', got {_shown(task)}")
        file, _, function = task.rpartition(":")
        return f"{self.locate(place, file)}:{function}" if is_entry(task) and file.endswith(".py") else task

    # -- templates and handlers ---------------------------------------------------------------------------------------

    def fill(self, place: str, template: str, values: Mapping[str, object], *, remedies: Mapping[str, str]) -> str:
        """Put values into a template's `{named}` places; `{{` and `}}` are braces.

        Args:
            place: Where the template is in the document.
            template: The template.
            values: What may be put in.
            remedies: What to do about a name that is none of them; `""` for any other.

        Raises:
            InvalidInput: It names something else, or is no template.
        """
        try:
            return parsed(template).fill(values)
        except ValueError as error:
            raise self.refused(place, f"is not a template: {error}", "write {{ and }} for braces") from error
        except Misfit as error:
            known = ", ".join(sorted(values))
            remedy = remedies.get(error.name) or remedies.get("", "")
            problem = f"has the placeholder {error.asked}, and what there is to put in is {known}"
            raise self.refused(place, problem, remedy) from error

    def handler(self, place: str, name: str, *keywords: str) -> Callable[..., Any]:
        """Load a function named as `module:function` or `file.py:function`.

        A module is found as Python finds it, or else below the manifest's directory. Loading it runs its top level.

        Args:
            place: Where the name is in the document.
            name: The name.
            keywords: The arguments it is called with, by name.

        Raises:
            InvalidInput: There is no such function, its module cannot be imported, or it takes other arguments.
        """
        found = find_function(
            f"{self.path.name}: {place}", name, self.folder, locate=functools.partial(self.locate, place)
        )
        if inspect.iscoroutinefunction(found) or inspect.isgeneratorfunction(found):
            raise self.refused(
                place, f"{name} is no plain function: it would be awaited, or give one value after another"
            )
        try:
            inspect.signature(found).bind(**dict.fromkeys(keywords))
        except (TypeError, ValueError) as error:
            wanted = f"def {name.rpartition(':')[2]}({', '.join(keywords)})"
            raise self.refused(place, f"{name} cannot be called by name with what it is given", wanted) from error
        return found


def convert(document: object, fields: type[T], refused: Callable[[str, str, str], InvalidInput]) -> T:
    """Read a document that is in memory already, such as a plan that a user or a model gives.

    Args:
        document: Plain data; values of fields that take anything may be anything.
        fields: As for `Manifest`.
        refused: Makes the error from a place, a problem and a remedy.

    Raises:
        InvalidInput: It has an unknown, missing or ill-typed field.
    """
    try:
        return msgspec.convert(document, fields)
    except msgspec.ValidationError as error:
        raise refused(*_explained(str(error), document, fields)) from None


def _explained(message: str, document: object, fields: type) -> tuple[str, str, str]:
    """What a validation error says, in words of the document: place, problem, remedy."""
    problem, _, path = message.partition(" - at `")
    path = path.rstrip("`") or "$"
    wanted = _wanted(path, fields)
    if missing := re.fullmatch(r"Object missing required field `(.*)`", problem):
        path = f"{path}.{missing[1]}"
        return path, "is missing", f"it must be {_wanted(path, fields)}"
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", problem):
        known = list(getattr(_bare(_annotation_at(path, fields)), "__struct_fields__", ()))
        near = difflib.get_close_matches(unknown[1], known, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"its fields are {', '.join(known)}"
        return f"{path}.{unknown[1]}", "is not a field of this manifest", remedy
    return path, f"must be {wanted}, got {_shown(_value_at(path, document))}", ""


def make_root(root: str) -> None:
    """Make the directory that a manifest's outputs are put into, before anything is spent.

    Raises:
        InvalidInput: It cannot be made, or not be written to.
    """
    try:
        Path(root).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=root).close()
    except OSError as error:
        raise InvalidInput("output_root", f"{root} cannot be written to ({error.strerror})") from error


def _wanted(path: str, fields: Any) -> str:
    """What a place must hold, in the words of its annotation."""
    annotation = _annotation_at(path, fields)
    either = [annotation, *typing.get_args(annotation)]  # of what may be left out, too
    notes = (note for each in either for note in getattr(each, "__metadata__", ()))
    described = next((note.description for note in notes if isinstance(note, Meta) and note.description), None)
    return described or "an object"


def _annotation_at(path: str, fields: Any) -> Any:
    annotation = fields
    for step in _STEP.finditer(path):
        bare = _bare(annotation)
        if step["name"] is not None and hasattr(bare, "__struct_fields__"):
            annotation = typing.get_type_hints(bare, include_extras=True).get(step["name"], Any)
        else:
            annotation = (typing.get_args(bare) or (Any,))[-1]
    return annotation


def _bare(annotation: Any) -> Any:
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation


def _value_at(path: str, document: Any) -> Any:
    for step in _STEP.finditer(path):
        try:
            document = document[step["name"] if step["name"] is not None else int(step["place"])]
        except (KeyError, IndexError, TypeError, ValueError):
            return document
    return document


def _shown(value: object) -> str:
    text = msgspec.json.encode(value, enc_hook=repr).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
