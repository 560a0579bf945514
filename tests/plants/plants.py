"""Mistakes that somebody could make, each as a small change of the source and the tests that must go red for it.

A change is a replacement of text that stands in its file exactly once; where the source has moved on, the plant says so
and has to move along.
"""

from __future__ import annotations

from typing import NamedTuple

STATE = "tests/broker/test_broker_state.py"
MACHINE = "tests/broker/test_broker_machine.py"
HOST = "tests/broker/test_host.py"
WORLDS = "tests/simulation/test_worlds.py::test_no_world_makes_the_broker_break_a_promise"


class Plant(NamedTuple):
    """One mistake."""

    name: str
    file: str
    """Below `epsilon_lab/`."""

    there: str
    instead: str
    tests: tuple[str, ...]
    """What must go red, as pytest's arguments."""


PLANTS = (
    # -- fences and acceptance ----------------------------------------------------------------------------------------
    Plant(
        "no fence test: any answer to a task in a member's hands counts",
        "broker/attempts.py",
        "    held = member.held.get(answer.fence)\n    if held is None:\n        return None\n",
        "    fences = [f for f, h in member.held.items() if h.task and h.task.spec.task_id == answer.task_id]\n"
        "    if not fences:\n        return None\n"
        "    answer = type(answer)(**{n: getattr(answer, n) for n in answer.__struct_fields__} | "
        "{'fence': fences[0]})\n"
        "    held = member.held[answer.fence]\n",
        (STATE, MACHINE),
    ),
    Plant(
        "an answer under somebody else's name counts",
        "broker/attempts.py",
        "    if task is not None and (task.spec.task_id, task.run.run_id) != (answer.task_id, answer.run_id):\n",
        "    if False:\n",
        (STATE,),
    ),
    Plant(
        "a later broker's fences begin where an earlier one's did",
        "broker/submissions.py",
        "    board.epoch = max(board.epoch, opened.epoch + 1)\n",
        "",
        (STATE, "tests/broker/test_adoption.py"),
    ),
    Plant(
        "a worker that comes back is left a task that was given to another since",
        "broker/membership.py",
        "task.holder is not None or task.fence != fence or",
        "task.holder is not None or",
        ("tests/broker/test_adoption.py",),
    ),
    Plant(
        "what was taken from a process is forgotten at once, though it may have begun it",
        "broker/members.py",
        "        if self.is_wide:\n            self.drop(fence)\n",
        "        if True:\n            self.drop(fence)\n",
        (STATE,),
    ),
    # -- what is on record before it is said --------------------------------------------------------------------------
    Plant(
        "acknowledged before it is written",
        "broker/host.py",
        "                failed = self._commit()\n                self._release(*self._safe(), failed)\n",
        "                self._release(*self._safe(), {})\n                failed = self._commit()\n",
        (HOST, WORLDS),
    ),
    Plant(
        "a note is answered although it could not be written",
        "broker/notes.py",
        "        board.send(member.peer, Recorded(note_id=note.note_id), note.run_id)\n",
        "        board.send(member.peer, Recorded(note_id=note.note_id))\n",
        (HOST,),
    ),
    Plant(
        "a run whose disk is behind is told its outcomes at once",
        "broker/host.py",
        "        self._unsynced.outcomes += [outcome for outcome in outcomes if outcome.run_id in waiting]\n",
        "        self._settle(outcomes, {})\n        outcomes = []\n",
        (HOST,),
    ),
    # -- journal ------------------------------------------------------------------------------------------------------
    Plant(
        "a torn tail is left in the file, and written on",
        "workspace/journal.py",
        "                if torn:\n                    os.ftruncate(handle, end.offset)\n",
        "                pass\n",
        ("tests/workspace/test_journal.py", WORLDS),
    ),
    Plant(
        "a group that was never committed is read",
        "workspace/scan.py",
        "    _check_torn(rest, seq, path, end)\n",
        "    _check_torn(rest, seq, path, end)\n    take(_RECORDS.decode_lines(rest[: rest.rfind(b'\\n') + 1]))\n",
        ("tests/workspace/test_journal.py", "tests/simulation/test_every_byte.py"),
    ),
    Plant(
        "a checksum is not compared",
        "workspace/scan.py",
        "    if commit != seal(lines):\n",
        "    if False:\n",
        ("tests/workspace/test_journal.py",),
    ),
    Plant(
        "a new file's directory is not put on disk",
        "workspace/journal.py",
        "                    _sync_file(self.path.parent)\n",
        "                    pass\n",
        ("tests/workspace/test_journal.py", "tests/workspace/test_segments.py"),
    ),
    Plant(
        "a failed fdatasync is tried again",
        "workspace/journal.py",
        '                self._broken = f"fdatasync failed ({error.strerror})"\n',
        "",
        ("tests/workspace/test_journal.py",),
    ),
    Plant(
        "numbers go on after a group that could not be written",
        "workspace/journal.py",
        "        except OSError as error:\n            self.seq -= len(group)\n            self._cut()\n",
        "        except OSError as error:\n            self._cut()\n",
        ("tests/workspace/test_journal.py",),
    ),
    # -- time ---------------------------------------------------------------------------------------------------------
    Plant(
        "sessions expire during the broker's own stall",
        "broker/host.py",
        "self._absorb(self._state.step(Stalled(late), now))\n",
        "pass\n",
        (HOST, WORLDS),
    ),
    Plant(
        "deadlines are looked at before the socket is drained",
        "broker/host.py",
        "        while is_late and len(frames) % _DRAIN == 0 and (more := self._listener.receive(_DRAIN)):\n",
        "        while False and (more := self._listener.receive(_DRAIN)):\n",
        (HOST,),
    ),
    Plant(
        "deadlines by the clock on the wall",
        "broker/host.py",
        "    def _turn(self) -> None:\n        now = self._clock.monotonic()\n",
        "    def _turn(self) -> None:\n        now = self._clock.wall()\n",
        (WORLDS,),
    ),
    Plant(
        "only the supervisor's own frames renew a session",
        "broker/state.py",
        '    board.sessions[peer.partition("/")[0]].heard = member.heard = now\n',
        '    if not member.hello.lanes:\n        board.sessions[peer.partition("/")[0]].heard = member.heard = now\n',
        (STATE,),
    ),
    Plant(
        "a task beyond its deadline is begun",
        "broker/dispatch.py",
        "        if (expires := task.expires) is not None and expires <= now:\n",
        "        if False and (expires := task.expires) is not None and expires <= now:\n",
        ("tests/broker/test_deadlines.py",),
    ),
    # -- counters -----------------------------------------------------------------------------------------------------
    Plant(
        "what was only prefetched counts as started",
        "broker/membership.py",
        "        guilty = {known} if known is not None else {fence for fence, _ in member.started()}\n",
        "        guilty = {known} if known is not None else set(member.held)\n",
        (STATE,),
    ),
    Plant(
        "the supervisor's word on who was running is not heeded",
        "broker/membership.py",
        "        known = lost.fence if lost is not None else None\n",
        "        known = None\n",
        (STATE,),
    ),
    Plant(
        "the poison limit is off by one",
        "broker/attempts.py",
        "    again = task.lost < board.settings.poison_limit\n",
        "    again = task.lost <= board.settings.poison_limit\n",
        (STATE, MACHINE),
    ),
    Plant(
        "a failure is not counted",
        "broker/attempts.py",
        "    task.failed += 1\n",
        "",
        (STATE, MACHINE),
    ),
    Plant(
        "a request to a model is not charged when it is admitted",
        "broker/notes.py",
        "    run.ledger.take(call, fence)\n",
        "",
        ("tests/broker/test_admission.py",),
    ),
    Plant(
        "what a late answer paid for is forgotten",
        "broker/attempts.py",
        "        record_paid(board, run, answer.events)\n",
        "        pass\n",
        (STATE, "tests/broker/test_admission.py"),
    ),
    # -- queue and credit ---------------------------------------------------------------------------------------------
    Plant(
        "a cancelled entry stays in the heap",
        "broker/queue.py",
        "            while (entry := line.first()) is not None and self._waiting.get(entry[1]) is not entry:\n",
        "            while (entry := line.first()) is not None and False:\n",
        ("tests/broker/test_ready_queue.py",),
    ),
    Plant(
        "credit has no bound",
        "broker/credit.py",
        "        has_room = holds < settings.credit_max and member.backlog + estimate <= settings.credit_window_s\n",
        "        has_room = True\n",
        (STATE,),
    ),
    Plant(
        "a known task id is taken again",
        "broker/submissions.py",
        "        if known:\n            del new[spec.task_id]\n        else:\n            _check(spec)\n",
        "        _check(spec)\n",
        (STATE,),
    ),
    Plant(
        "there is always room",
        "broker/submissions.py",
        "    if tasks and (len(tasks) > room.tasks or weight > room.payload_bytes):\n",
        "    if False:\n",
        ("tests/broker/test_priority.py", "tests/broker/test_stats.py", STATE, HOST),
    ),
    # -- peers and their wires ----------------------------------------------------------------------------------------
    Plant(
        "no look at ZMQ_EVENTS after a send",
        "transport/zeromq.py",
        "        if self._waiting is not None and self._is_readable():\n            self._wake()\n",
        "        pass\n",
        ("tests/transport/test_transport_contract.py",),
    ),
    Plant(
        "word of a death is heard before what the dead still said",
        "broker/host.py",
        "        messages.sort(key=lambda each: isinstance(each[1], Lost))\n",
        "",
        (HOST,),
    ),
    Plant(
        "deaths are not told again to a broker that began anew",
        "broker/client.py",
        "        unheard: list[ToBroker] = [*self._deaths, *self._notes.values()]\n",
        "        unheard: list[ToBroker] = [*self._notes.values()]\n",
        ("tests/broker/test_client.py", WORLDS),
    ),
    Plant(
        "what a worker does not name when it comes back is taken for never begun",
        "broker/client.py",
        "        return self._dialer.is_lossy and fence not in self._held\n",
        "        return True\n",
        ("tests/broker/test_client.py",),
    ),
    Plant(
        "answers are held back while a task with a limit of time runs",
        "workers/batch.py",
        "                or _is_timed(task)\n                or _is_timed(following)\n",
        "",
        ("tests/workers/test_batch.py",),
    ),
    # -- resuming -----------------------------------------------------------------------------------------------------
    Plant(
        "attempts before a crash are forgotten",
        "topologies/recovery.py",
        "            task.attempt, task.worker_id, task.fence = attempt, body.worker_id, fence\n",
        "            task.worker_id, task.fence = body.worker_id, fence\n",
        ("tests/topologies/test_recovery.py",),
    ),
    Plant(
        "workers lost before a crash are forgotten",
        "topologies/recovery.py",
        "                task.lost += 1\n",
        "                pass\n",
        ("tests/topologies/test_recovery.py",),
    ),
)
"""All of them."""
