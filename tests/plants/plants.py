"""Mistakes that somebody could make, each as a small change of the source and the tests that must go red for it.

A change is a replacement of text that stands in its file exactly once; where the source has moved on, the plant says so
and has to move along.
"""

from __future__ import annotations

from typing import NamedTuple

STATE = "tests/broker/test_broker_state.py"
MACHINE = "tests/broker/test_broker_machine.py"
HOST = "tests/broker/test_host.py"
AGENT = "tests/agents/test_agent.py"
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
    Plant(
        "what a worker says it has is kept for a run to come although no earlier broker gave it",
        "broker/membership.py",
        "        if run_id not in board.runs and fence >> FENCE_BITS < board.epoch:\n",
        "        if run_id not in board.runs:\n",
        ("tests/broker/test_adoption.py",),
    ),
    Plant(
        "a run that is taken up is taken up again for whoever asks next",
        "hosts/core.py",
        "            live = self.at(run_id)\n            if live is not None and live.runner.is_ending:\n",
        "            live = None\n            if live is not None and live.runner.is_ending:\n",
        ("tests/hosts/test_sidecar.py::test_a_run_is_taken_up_once_however_many_ask",),
    ),
    Plant(
        "two who ask at once both take a run up",
        "hosts/core.py",
        "        with self._resuming:\n            live = self.at(run_id)\n",
        "        if True:\n            live = self.at(run_id)\n",
        ("tests/lab/test_resume.py::test_a_run_is_resumed_once_however_many_ask",),
    ),
    Plant(
        "a cancelled task's interrupt hits whatever runs by then",
        "workers/interruption.py",
        "        if self._fence and self._fence == self._progress.unwanted:\n",
        "        if self._fence:\n",
        ("tests/workers/test_supervisor.py::test_only_the_task_that_was_named_is_asked_to_stop",),
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
    Plant(
        "a dead letter is requeued without a line",
        "broker/submissions.py",
        "    board.record(run.run_id, TasksRequeued(task_ids=task_ids))\n",
        "",
        ("tests/broker/test_dead_letters.py",),
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
    Plant(
        "a file of which a sync has failed is believed when it is opened again",
        "workspace/journal.py",
        "                _UNSAFE.add(_identity(self._handle))\n",
        "",
        ("tests/workspace/test_journal.py",),
    ),
    Plant(
        "a snapshot's name is not put on disk",
        "workspace/register.py",
        "            os.fsync(handle)\n",
        "            pass\n",
        ("tests/workspace/test_register.py",),
    ),
    Plant(
        "a snapshot takes its place before it is on disk",
        "workspace/register.py",
        "            os.fsync(file.fileno())\n",
        "",
        ("tests/workspace/test_register.py",),
    ),
    Plant(
        "a snapshot is believed whatever its checksum",
        "workspace/register.py",
        '        if snapshot.crc32c != f"{google_crc32c.value(bytes(snapshot.register)):08x}":\n',
        "        if False:\n",
        ("tests/workspace/test_register.py",),
    ),
    Plant(
        "a snapshot of another journal is believed",
        "workspace/register.py",
        "register.behind and _line_before(journal, register.end) == register.behind",
        "register.behind",
        ("tests/workspace/test_register.py",),
    ),
    Plant(
        "work is begun although the disk is nearly full",
        "broker/dispatch.py",
        "    if board.is_disk_short:\n",
        "    if False:\n",
        (STATE,),
    ),
    Plant(
        "work is taken although the disk is nearly full",
        "broker/board.py",
        "        if self.is_disk_short:\n",
        "        if False:\n",
        (STATE, HOST),
    ),
    Plant(
        "nobody looks how full the disk is",
        "broker/host.py",
        "            self._look_for_room(now)\n",
        "",
        (HOST,),
    ),
    Plant(
        "as soon as a byte of the reserve is free again, work is begun",
        "workspace/space.py",
        "self._reserve * (2 if self._was_short else 1)",
        "self._reserve",
        ("tests/workspace/test_space.py",),
    ),
    Plant(
        "what hindered the lab's journal is said for ever",
        "broker/host.py",
        "                self.lab_failure = None\n            if journal.is_behind",
        "                pass\n            if journal.is_behind",
        (HOST,),
    ),
    Plant(
        "a broken journal of the lab ends the broker's turn",
        "broker/host.py",
        "            self._absorb([Record(None, LabDisk(is_short=bool(self.shortage), says=self.shortage))])\n",
        "            self.record(None, LabDisk(is_short=bool(self.shortage), says=self.shortage))\n",
        (HOST,),
    ),
    Plant(
        "a torn end of the lab's own journal is cut and not told",
        "lab.py",
        '            _warn_of_torn(self._core.torn, self.path / "lab" / JOURNAL, stacklevel=3)\n',
        "            pass\n",
        ("tests/lab/test_lab.py::test_a_torn_end_of_the_labs_own_journal_is_cut_reported_once_and_on_record",),
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
    Plant(
        "a task that was begun in time expires all the same",
        "broker/members.py",
        "                    held.task.start_by = None\n",
        "                    pass\n",
        ("tests/broker/test_deadlines.py",),
    ),
    Plant(
        "a task that an earlier broker began in time expires all the same",
        "broker/submissions.py",
        "    if left.attempt:\n        task.start_by = None\n",
        "",
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
    Plant(
        "a run gives the broker all it has, whatever its room",
        "topologies/runner.py",
        "        most = min(room.tasks, _AT_ONCE)\n",
        "        most = _AT_ONCE\n",
        (
            "tests/lab/test_handing_over.py::test_what_the_broker_has_no_room_for_waits_in_its_run_and_is_done_all_the_same",
        ),
    ),
    Plant(
        "a run gives the broker all it has, whatever it weighs",
        "topologies/runner.py",
        "            if weight > room.payload_bytes:\n",
        "            if False:\n",
        ("tests/lab/test_handing_over.py::test_inputs_that_weigh_more_than_the_broker_takes_wait_too",),
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
    # -- workers elsewhere --------------------------------------------------------------------------------------------
    Plant(
        "any key is let in",
        "transport/curve.py",
        " and len(key) == 1 and z85.encode(key[0]).decode() in self._keys.admitted\n",
        " and len(key) == 1\n",
        ("tests/transport/test_curve.py::test_an_unknown_key_is_refused_and_counted_and_told",),
    ),
    Plant(
        "those who are refused are not counted",
        "transport/curve.py",
        "        self._strangers += sum(1 for _ in self._monitor.events())\n",
        "        sum(1 for _ in self._monitor.events())\n",
        ("tests/transport/test_curve.py::test_an_unknown_key_is_refused_and_counted_and_told",),
    ),
    Plant(
        "names of the lab's own workers are taken over TCP",
        "transport/joined.py",
        "if frame[0].startswith(REMOTE) is is_far]",
        "if is_far or not frame[0].startswith(REMOTE)]",
        ("tests/transport/test_curve.py::test_each_end_keeps_to_its_own_names",),
    ),
    Plant(
        "a worker elsewhere reads any run's files",
        "broker/files.py",
        " and any(held.task is not None and held.task.run is run for held in member.held.values()):\n",
        ":\n",
        ("tests/broker/test_porter.py",),
    ),
    Plant(
        "a worker elsewhere reads what lies outside of the run",
        "broker/porter.py",
        "os.open(run.locate(part.ref), ",
        "os.open(run.path / part.ref, ",
        ("tests/broker/test_porter.py",),
    ),
    Plant(
        "a file of an attempt in other hands by now is kept",
        "broker/files.py",
        "    held = member.held.get(request.fence)\n",
        "    held = next(iter(member.held.values()), None)\n",
        ("tests/broker/test_porter.py",),
    ),
    Plant(
        "a worker elsewhere writes what the lab gives to tasks",
        "broker/porter.py",
        "    if len(parts) < 2 or parts[0] in _GIVEN or is_others:\n",
        "    if is_others:\n",
        ("tests/broker/test_porter.py",),
    ),
    # -- files of leaves ----------------------------------------------------------------------------------------------
    Plant(
        "a worker elsewhere writes into the files of another attempt",
        "broker/porter.py",
        'or part.ref == f"{own}.json")\n',
        "or True)\n",
        ("tests/broker/test_porter.py",),
    ),
    Plant(
        "a result publishes the files of another attempt",
        "broker/soundness.py",
        '    if result.files in ("", leaf_ref(result.task_id, result.fence)):\n',
        "    if True:\n",
        (STATE,),
    ),
    Plant(
        "a link that leads out of a workspace is published",
        "workspace/leaf_files.py",
        "                if target.is_relative_to(self.path.resolve()) and stat",
        "                if stat",
        ("tests/workspace/test_leaf_files.py",),
    ),
    Plant(
        "a file that has another name outside a workspace is published as it is",
        "workspace/leaf_files.py",
        "        if stat.S_ISREG(state.st_mode) and state.st_nlink == 1:\n",
        "        if stat.S_ISREG(state.st_mode):\n",
        ("tests/workspace/test_leaf_files.py",),
    ),
    Plant(
        "a published file that was changed since is laid out",
        "workspace/leaf_files.py",
        "        if digest.hexdigest() != source.piece.sha256:\n",
        "        if not target.exists():\n",
        ("tests/workspace/test_leaf_files.py",),
    ),
    Plant(
        "a file that was written to and is as long as before counts as laid out",
        "workspace/leaf_files.py",
        "        os.utime(target, ns=(_LAID_OUT_NS, _LAID_OUT_NS))\n        self._given[path]",
        "        self._given[path]",
        ("tests/workspace/test_leaf_files.py",),
    ),
    Plant(
        "a missing output file is no failure",
        "workspace/leaf_files.py",
        "    if missing := [path for path in needs if path not in found]:\n",
        "    if missing := []:\n",
        ("tests/workspace/test_leaf_files.py",),
    ),
    Plant(
        "the files of attempts that never counted stay",
        "workspace/leaf_files.py",
        "            if f\"{LEAVES}/{task.name}/{attempt.name.removesuffix('.json')}\" not in kept:\n",
        "            if False:\n",
        ("tests/workspace/test_leaf_files.py",),
    ),
    Plant(
        "an index that leads out of its directory is believed",
        "workspace/leaf_files.py",
        '            check_path(f"{reference}.json", path)\n',
        "            pass\n",
        ("tests/workspace/test_leaf_files.py",),
    ),
    # -- keys ---------------------------------------------------------------------------------------------------------
    Plant(
        "what one run's tasks were granted stays for the next run's",
        "workers/grants.py",
        "                os.environ.pop(name, None)\n",
        "                pass\n",
        ("tests/workers/test_grants.py",),
    ),
    Plant(
        "a key that was granted is put on record with a failure",
        "broker/members.py",
        "        texts = {name: conceal(getattr(failure, name), self.env) for name in _TOLD}\n",
        "        texts = {}\n",
        ("tests/lab/test_grants.py",),
    ),
    Plant(
        "a key that a judge was granted is told to proposers",
        "search/judge.py",
        "    if not secrets:\n        return verdict\n    feedback",
        "    if True:\n        return verdict\n    feedback",
        ("tests/lab/test_grants.py",),
    ),
    Plant(
        "a run is resumed without what its tasks were granted",
        "hosts/core.py",
        "        env = granted(started.env, environ)\n",
        "        env = {}\n",
        ("tests/lab/test_grants.py",),
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
    # -- agents -------------------------------------------------------------------------------------------------------
    Plant(
        "an output that does not fit is accepted",
        "agents/tool_loop.py",
        "        if self._schema is not None and (mismatch := self._schema.mismatch(output)):\n",
        "        if False and (mismatch := ''):\n",
        (AGENT,),
    ),
    Plant(
        "an agent's tokens are not counted",
        "agents/tool_loop.py",
        "            self._tokens += receipt.prompt_tokens + (receipt.completion_tokens or 0)\n",
        "            pass\n",
        (AGENT,),
    ),
    Plant(
        "what a tool raises ends the attempt",
        "agents/tool_loop.py",
        "        except (Exception, SystemExit) as error:",
        "        except ZeroDivisionError as error:",
        (AGENT,),
    ),
    Plant(
        "keys are shown to the model",
        "agents/tool_loop.py",
        "        text = self._agent.model.scrub(text)\n",
        "",
        (AGENT,),
    ),
    Plant(
        "a search is made again with the attempt",
        "agents/tool_loop.py",
        "            if kept.call == call:\n",
        "            if False:\n",
        (AGENT,),
    ),
    Plant(
        "a conversation grows without end",
        "agents/conversation.py",
        "        if self._size <= HISTORY_LIMIT:\n",
        "        if True:\n",
        (AGENT,),
    ),
    Plant(
        "broken arguments go back to the server",
        "agents/conversation.py",
        'call.arguments if _is_fit(call.arguments) else "{}"',
        "call.arguments",
        (AGENT,),
    ),
    Plant(
        "a path may lead out of the workspace",
        "agents/tools/files.py",
        "    if not place.is_relative_to(root):\n",
        "    if False:\n",
        ("tests/agents/tools/test_tool_files.py",),
    ),
    Plant(
        "a link put in between is followed",
        "agents/tools/files.py",
        "    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC\n",
        "    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC\n",
        ("tests/agents/tools/test_tool_files.py",),
    ),
    Plant(
        "private addresses are fetched from",
        "agents/tools/web.py",
        "                if not is_public(str(address[0])):\n",
        "                if False:\n",
        ("tests/agents/tools/test_tool_web.py",),
    ),
    Plant(
        "a name is resolved once more to connect to it",
        "agents/tools/web.py",
        "aiohttp.TCPConnector(resolver=_Resolved(addresses), use_dns_cache=False, limit=1)",
        "aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver(), use_dns_cache=False, limit=1)",
        ("tests/agents/tools/test_tool_web.py",),
    ),
    Plant(
        "granted tables are not locked",
        "workspace/granted.py",
        "            for setting in LOCK_DOWN:\n                self._connection.execute(setting)\n",
        "",
        ("tests/agents/tools/test_tool_sql.py",),
    ),
    Plant(
        "a query may write to granted tables",
        "workspace/granted.py",
        '            cursor.execute("begin transaction read only")\n',
        '            cursor.execute("begin transaction")\n',
        ("tests/agents/tools/test_tool_sql.py",),
    ),
)
"""All of them."""
