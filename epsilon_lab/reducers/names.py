"""What a name is once the ways of writing it are taken away, so that names can be compared.

Two steps, since they do not weigh the same. `text` takes away case, width and punctuation: nobody has to decide
whether `IBM` and `ibm` are one name. `fold` takes away accents too, and a `Name` the legal forms: `Lodz` and `Łódź`,
`Acme Ltd` and `Acme` may be one, and may not, so these stay two names that are alike.

An accent is taken off a Latin letter only. Elsewhere the mark is the letter: Йемен and Иемен, ガーナ and カーナ are
two names. Letters of which Unicode makes no base and mark (ł, ø, æ) are in a table here. Müller is folded to muller,
not to mueller.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from epsilon_lab.arguments import text as checked

_LETTERS = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d"}
)
_APOSTROPHES = frozenset("'`´‘’‛ʹʻʼʽˈ＇")
_ASCII = {code: " " for code in range(128) if not chr(code).isalnum()} | {ord("'"): None, ord("`"): None}

_FORMS = (
    "ab ag aps as asa bv co company corp corporation gmbh inc incorporated kft kg kgaa kk limited llc llp lp ltd ltda "
    "nv oao ohg ooo oy oyj plc pte pty pvt sa sarl sas se sl spa srl ug zao ао ип оао ооо пао тов зао 株 有 주"
)
LEGAL_FORMS = frozenset(_FORMS.split())
"""Words at a name's end or beginning that say in what form a company exists, not what it is called; folded."""

_CJK_FORMS = ("股份有限公司", "有限责任公司", "有限公司", "株式会社", "有限会社", "合同会社", "주식회사")


class Name(NamedTuple):
    """A name, ready to be compared."""

    text: str
    """As it is written, but for case, width and punctuation."""

    tokens: tuple[str, ...]
    """Its words, folded, in their order, without legal forms. Letters alone (`U.S.`) are one word, and so is all of a
    name in Chinese, Japanese or Korean script.
    """

    is_cjk: bool
    """Whether it is in such a script, at least in part."""

    has_capitals: bool
    """Whether it was written with capitals inside, as acronyms are."""

    @property
    def numbers(self) -> list[str]:
        """Its words with digits in them, in alphabetical order."""
        return sorted(word for word in self.tokens if any(map(str.isdigit, word)))

    @property
    def key(self) -> str:
        """Its words in alphabetical order, whatever theirs is."""
        return " ".join(sorted(self.tokens))

    @property
    def core(self) -> str:
        """Its words in their order."""
        return " ".join(self.tokens)


def name_of(raw: str) -> Name:
    """Take a name apart.

    Raises:
        InvalidInput: It is no text, or blank.
    """
    written = text(raw)
    folded = _without_accents(written)
    if _is_cjk(folded):
        return Name(written, (_without_cjk_forms(folded),), True, False)
    words = _without_legal_forms(folded.split())
    if len(words) > 1 and all(len(word) == 1 for word in words):
        return Name(written, ("".join(words),), False, True)
    return Name(written, words, False, raw.strip()[1:] != raw.strip()[1:].lower())


def fold(raw: str) -> str:
    """A name without case, width, punctuation and the accents of Latin letters. Folding it again changes nothing.

    Raises:
        InvalidInput: It is no text, or blank.
    """
    return _without_accents(text(raw))


def text(raw: str) -> str:
    """A name without case, width and punctuation, its words one space apart; its accents stay.

    What has neither a letter nor a digit (`!!!`) stays as it is.

    Raises:
        InvalidInput: It is no text, or blank.
    """
    raw = checked("name", raw)
    if raw.isascii():
        return " ".join(raw.translate(_ASCII).lower().split()) or raw.strip()
    # Folding case makes new compositions, and what they are made of may have a case: until nothing changes.
    before, apart = "", raw
    while apart != before:
        before, apart = apart, unicodedata.normalize("NFKD", apart).casefold()
    words = [word if word[0].isalnum() else word.lstrip(_marks_of(word)) for word in apart.translate(_WRITTEN).split()]
    return unicodedata.normalize("NFC", " ".join(filter(None, words))) or raw.strip()


def _without_accents(written: str) -> str:
    if written.isascii():
        return written
    apart = unicodedata.normalize("NFKD", written)
    if (bare := apart.translate(_BARE).translate(_LETTERS)).isascii():  # all of it is Latin
        return bare.strip() or written
    kept: list[str] = []
    on_latin = False
    for character in apart:
        if _is_mark(character):
            kept += character * (not on_latin)
        else:
            on_latin = _is_latin(character)
            kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept).translate(_LETTERS)).strip() or written


class _Table(dict[int, str | None]):
    """What `str.translate` puts for a character, worked out when it is first met."""

    def __init__(self, rule: Callable[[str], str | None]) -> None:
        self._rule = rule

    def __missing__(self, code: int) -> str | None:
        self[code] = found = self._rule(chr(code))
        return found


def _written(character: str) -> str | None:
    if character in _APOSTROPHES or unicodedata.category(character) == "Cf":  # a mark of joining or parting is not seen
        return None
    return character if character.isalnum() or _is_mark(character) else " "


_WRITTEN = _Table(_written)
_BARE = _Table(lambda character: None if _is_mark(character) else character)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def _marks_of(word: str) -> str:
    return "".join(filter(_is_mark, word))


@lru_cache(maxsize=4096)
def _is_latin(character: str) -> bool:
    return character.isascii() or unicodedata.name(character, "").startswith("LATIN")


def _is_cjk(folded: str) -> bool:
    return not folded.isascii() and any(map(_is_cjk_letter, folded))


@lru_cache(maxsize=16_384)
def _is_cjk_letter(character: str) -> bool:
    return unicodedata.name(character, "").startswith(("CJK", "HIRAGANA", "KATAKANA", "HANGUL"))


def _without_cjk_forms(folded: str) -> str:
    words = "".join(word for word in folded.split() if word not in LEGAL_FORMS)
    for form in _CJK_FORMS:
        if words != form:
            words = words.removeprefix(form).removesuffix(form)
    return words or folded.replace(" ", "")


def _without_legal_forms(words: list[str]) -> tuple[str, ...]:
    """The words without what stands for a legal form at either end, if anything is left then; `S. A.` is one, too."""
    begin, end = 0, len(words)
    while end - begin > 1 and words[end - 1] in LEGAL_FORMS:
        end -= 1
    letters = end
    while letters > begin and len(words[letters - 1]) == 1:
        letters -= 1
    if begin < letters < end and "".join(words[letters:end]) in LEGAL_FORMS:
        end = letters
    while end - begin > 1 and words[begin] in _BEFORE:
        begin += 1
    return tuple(words[begin:end])


_BEFORE = frozenset({"ао", "ип", "оао", "ооо", "пао", "тов", "зао", "oao", "ooo", "zao"})
"""Forms that stand before a name; of the others, some are names there (`AB InBev`, `SAS Institute`)."""
