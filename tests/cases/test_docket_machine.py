"""A thousand cases decided, undone and ranked in random order, with crashes in between, held against a plain model."""

import random

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from epsilon_lab.cases.docket import CONFLICTS
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import case_id
from epsilon_lab.messages.cases import Decide, Rank, Retract
from epsilon_lab.messages.deciders import AUTHORITY, Decider
from epsilon_lab.messages.events import TYPES, CaseFlagged, CasesRanked, CaseWithdrawn, VerdictGiven
from epsilon_lab.workspace.fold import Fold
from epsilon_lab.workspace.journal import Record
from tests.cases.record import docket_of

PLAIN, PAIRS, NAMES = 500, 500, 40
KINDS = ("HUMAN", "CODE", "LLM")


def cases():
    dice = random.Random(6)
    for number in range(PLAIN):
        key = f"plain {number}"
        yield CaseFlagged(
            case_id=case_id("ask", key), kind="ask", question="?", options=("a", "b", "c"), key=key, flagged_by="ask",
            task_id="reduce-1",
        )  # fmt: skip
    pairs = [(left, right) for left in range(NAMES) for right in range(left)]
    for left, right in dice.sample(pairs, PAIRS):
        key = [f"n{left}", f"n{right}"]
        yield CaseFlagged(
            case_id=case_id("pair", key), kind="pair", question="?", options=("same", "different", "unsure"), key=key,
            flagged_by="pair", task_id="reduce-1",
        )  # fmt: skip


DICE = st.integers(0, 2**32).map(random.Random)
"""Acts by the dozen: hypothesis on its own draws few at a time."""


class Model:
    """What a reader makes of the lines: lists, and loops over them."""

    def __init__(self):
        self.options, self.key, self.lines, self.withdrawn, self.authority = {}, {}, {}, {}, AUTHORITY

    def apply(self, line):
        match line:
            case CaseFlagged():
                self.options[line.case_id], self.key[line.case_id] = line.options, line.key
                self.lines.setdefault(line.case_id, [])
                self.withdrawn[line.case_id] = False
            case CaseWithdrawn():
                self.withdrawn[line.case_id] = True
            case CasesRanked():
                self.authority = line.kinds
            case VerdictGiven():
                self.lines[line.case_id].append(line)

    def live(self, name):
        back = [line.supersedes for line in self.lines[name] if line.retracted]
        return [line for line in self.lines[name] if not line.retracted and line.number not in back]

    def speaks(self, name):
        for kind in self.authority:
            for line in reversed(self.live(name)):
                if line.decider_kind == kind:
                    return line
        return None

    def status(self, name):
        return "decided" if self.speaks(name) else "withdrawn" if self.withdrawn[name] else "open"

    def said(self, verdict):
        """Case -> the two names, of the pairs of which that is said."""
        return {
            name: tuple(key)
            for name, key in self.key.items()
            if isinstance(key, list)
            and isinstance(key[0], str)
            and (last := self.speaks(name))
            and last.verdict == verdict
        }

    def contradicted(self):
        """Cases that are said to differ, and are the same by others."""
        label = {f"n{name}": name for name in range(NAMES)}
        for left, right in self.said("same").values():
            old, new = label[left], label[right]
            label = {name: new if each == old else each for name, each in label.items()}
        return {name for name, (left, right) in self.said("different").items() if label[left] == label[right]}


class Machine(RuleBasedStateMachine):
    @initialize()
    def flag(self):
        self.log, self.starts = list(cases()), []
        self.docket = docket_of(self.log)
        self.model = Model()
        for line in self.log:
            self.model.apply(line)
        self.names = list(self.model.lines)

    def name(self, place):
        """A case: the conflicts there are come up as often as all else."""
        conflicts = self.names[PLAIN + PAIRS :]
        if conflicts and place % 3 == 0:
            return conflicts[place // 3 % len(conflicts)]
        return self.names[place % (PLAIN + PAIRS)]

    def say(self, news, expected):
        """Say something; the first line that follows is the expected one, or it is refused where none is expected."""
        if expected is None:
            with pytest.raises(InvalidInput):
                self.docket.check(news)
            assert self.docket.hear(news).lines == []
            return
        self.docket.check(news)
        before = {name: self.model.speaks(name) for name in self.touched(news)}
        first, *rest = lines = self.docket.hear(news).lines
        assert first == expected
        self.starts.append(len(self.log))
        self.log += lines
        for line in lines:
            self.model.apply(line)
        for line in rest:
            match line:
                case CaseFlagged(flagged_by=by):
                    assert by == CONFLICTS
                    self.names += [line.case_id] if line.case_id not in self.names else []
                case CaseWithdrawn(case_id=name):
                    assert name in self.names[PLAIN + PAIRS :]
                case VerdictGiven():
                    assert line.source.startswith(CONFLICTS) or line.retracted
        assert before.keys() <= self.model.lines.keys()

    def touched(self, news):
        return [] if isinstance(news, Rank) else [news.case_id]

    @rule(dice=DICE)
    def decide(self, dice):
        for _ in range(dice.randrange(40)):
            place, option, kind, force = (
                dice.randrange(3000),
                dice.randrange(4),
                dice.choice(KINDS),
                dice.random() < 0.5,
            )
            name = self.name(place)
            options = self.model.options[name]
            verdict = options[option % len(options)] if option < 3 else "nonsense"
            last, lines = self.model.speaks(name), self.model.lines[name]
            is_good = verdict in options and self.model.status(name) != "withdrawn" and (force or last is None)
            line = VerdictGiven(
                case_id=name, number=len(lines) + 1, verdict=verdict, decider_kind=kind, decider="x", note="n",
                supersedes=last and last.number,
            )  # fmt: skip
            news = Decide(case_id=name, verdict=verdict, decider=Decider("x", kind), note="n", force=force)
            self.say(news, line if is_good else None)

    @rule(dice=DICE)
    def connect(self, dice):
        """Decide pairs of a few names, so that they come to contradict each other."""
        few = [
            name
            for name in self.names[PLAIN : PLAIN + PAIRS]
            if all(int(each[1:]) < 12 for each in self.model.key[name])
        ]
        for _ in range(dice.randrange(30)):
            self.decide_one(dice.choice(few), dice.choice(("same", "same", "same", "different")))

    def decide_one(self, name, verdict):
        last = self.model.speaks(name)
        line = VerdictGiven(
            case_id=name, number=len(self.model.lines[name]) + 1, verdict=verdict, decider_kind="HUMAN", decider="x",
            supersedes=last and last.number,
        )  # fmt: skip
        self.say(Decide(case_id=name, verdict=verdict, decider=Decider("x"), force=True), line)

    @rule(dice=DICE)
    def undo(self, dice):
        decided = [name for name in self.names if self.model.speaks(name)]
        for _ in range(dice.randrange(20)):
            name = dice.choice(decided) if decided and dice.random() < 0.8 else self.name(dice.randrange(3000))
            last = self.model.speaks(name)
            line = last and VerdictGiven(
                case_id=name, number=len(self.model.lines[name]) + 1, verdict=last.verdict, decider_kind="HUMAN",
                decider="y", supersedes=last.number, retracted=True,
            )  # fmt: skip
            self.say(Retract(case_id=name, decider=Decider("y")), None if last and last.source else line)

    @rule(kinds=st.permutations(KINDS))
    def rank(self, kinds):
        kinds = tuple(kinds)
        if kinds != self.model.authority:
            self.say(Rank(kinds), CasesRanked(kinds=kinds))

    @rule(back=st.integers(0, 30))
    def crash(self, back):
        """Cut the journal between any two lines; what an act has begun is completed, just as it was."""
        end = max(PLAIN + PAIRS, len(self.log) - back)
        begun = [start for start in self.starts if start < end]
        act_end = next((start for start in self.starts if start >= end), len(self.log))
        lost = self.log[end:act_end]
        self.docket = docket_of(self.log[:end])
        assert self.docket.settle().lines == lost
        assert self.docket.settle().lines == []
        self.log, self.starts = self.log[:act_end], begun
        self.model = Model()
        for line in self.log:
            self.model.apply(line)
        self.names = list(self.model.lines)

    @invariant()
    def agrees(self):
        model = getattr(self, "model", None)
        if model is None:
            return
        for name in self.names:
            case = self.docket[name]
            assert (case.speaks, case.status) == (model.speaks(name), model.status(name))
        assert self.docket.verdicts() == {n: last.verdict for n in self.names if (last := model.speaks(n))}
        held = {}
        for name in self.names[PLAIN + PAIRS :]:
            members = self.model.key[name]
            holds = all((last := model.speaks(pair)) and last.number == number for pair, number in members)
            assert holds or model.status(name) != "open", "what has dissolved is withdrawn"
            if holds and model.status(name) != "withdrawn":
                held.setdefault(members[-1][0], []).append(name)
            derived = [(pair, line.source) for pair, _ in members for line in model.live(pair) if name in line.source]
            ruling = model.speaks(name)
            expected = [] if ruling is None else [
                (members[model.options[name].index(ruling.verdict)][0], f"{CONFLICTS}/{name}#{ruling.number}")
            ]  # fmt: skip
            assert derived == expected, "a verdict about a conflict is followed while it speaks, and only then"
        assert held.keys() == model.contradicted(), "every contradiction is a case"

    def teardown(self):
        if not hasattr(self, "log"):
            return
        fold = Fold("r")
        for seq, line in enumerate(self.log):
            fold.take(Record(seq, 1.0, TYPES[type(line)], msgspec.Raw(msgspec.json.encode(line))))
        rows = {row["case_id"]: row for row in fold.drain("cases")}
        assert list(rows) == self.names
        for name, row in rows.items():
            last = self.model.speaks(name)
            assert (row["verdict"], row["number"]) == ((last.verdict, last.number) if last else (None, None))
            assert row["status"] == self.model.status(name)
        for row in fold.drain("verdicts"):
            assert row["live"] == (row["number"] in [line.number for line in self.model.live(row["case_id"])])


Machine.TestCase.settings = settings(
    settings.get_profile("house"),
    max_examples=100 if settings().max_examples == settings.get_profile("long").max_examples else 6,
    stateful_step_count=16,
)
test_a_thousand_cases_equal_the_model = Machine.TestCase
