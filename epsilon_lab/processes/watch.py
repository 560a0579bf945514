"""What a program writes while it runs, and its end at the first limit it exceeds.

Two ways to listen to a program: `Watch` waits for the one answer it gives and for its exit; `Interview` hands it one
question after another, and its time is what it takes to answer: while the asker thinks, no clock runs.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress

from epsilon_lab.processes.channel import LENGTH, Channel, ChannelClosed
from epsilon_lab.processes.limits import Limits

STORY = 1 << 16
"""Bytes of a failed program's own account."""

_READ = 1 << 18
_TAIL = 16_000  # bytes of output kept
_IDLE_S = 3600.0  # a wait without a deadline is begun anew this often


class Watch:
    """Reads what a program writes until it ends, and ends it if it must be.

    Args:
        answer_fd: Where the program's answer comes from; closed by `drain`.
        print_fd: Where its prints come from; closed by `drain`.
        channel: To who asked for the run; once it closes nobody waits for the program.
        limits: What the program may take.
    """

    def __init__(self, answer_fd: int, print_fd: int, channel: Channel, limits: Limits) -> None:
        self.answer = bytearray()
        self.tail = bytearray()
        self.stopped = ""
        """Why the program was killed: "timeout", "too_large", a sentence; "" if it was not."""

        self._channel = channel
        self._cap = limits.output_bytes + STORY
        self._open = {answer_fd: self.answer, print_fd: self.tail}
        self._poll = select.poll()
        for fd in self._open:
            os.set_blocking(fd, False)
        for fd in (*self._open, channel.fileno()):
            self._poll.register(fd, select.POLLIN)
        self._left_s = limits.timeout_s
        self._since: float | None = time.monotonic()
        """When the clock was started; None while it does not run."""

    def until_exit(self, pid: int) -> None:
        """Wait for a program to end, and kill it if it must be.

        Raises:
            ChannelClosed: Nobody waits for it any more; it is killed.
        """
        exit_fd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        if exit_fd is not None:
            self._poll.register(exit_fd, select.POLLIN)
        killed = False
        try:
            while True:
                left = self._left_s - (0.0 if self._since is None else time.monotonic() - self._since)
                if left <= 0 and not self.stopped:
                    self.stopped = "timeout"
                if self.stopped and not killed:
                    os.kill(pid, signal.SIGKILL)
                    killed = True
                pause = 1.0 if killed else _IDLE_S if self._since is None else left
                # Without a descriptor for the exit (macOS) it is asked for two hundred times a second.
                ready = self._poll.poll(1000 * max(0.0, min(pause, 1.0 if exit_fd is not None else 0.005)))
                for fd, event in ready:
                    if fd in self._open:
                        self._attend(fd, event)
                    elif fd == self._channel.fileno():
                        try:
                            self._called()
                        except ChannelClosed:
                            os.kill(pid, signal.SIGKILL)
                            raise
                if any(fd == exit_fd for fd, _ in ready) or (exit_fd is None and _has_exited(pid)):
                    return
        finally:
            if exit_fd is not None:
                os.close(exit_fd)

    def drain(self) -> None:
        """Once nobody is left to write: read what is left, and close."""
        for fd in list(self._open):
            while self._read(fd) and len(self.answer) <= self._cap:
                pass
        for fd in list(self._open):
            self._close(fd)
        if len(self.answer) > self._cap:
            self.stopped = "too_large"

    def _attend(self, fd: int, event: int) -> None:  # noqa: ARG002 - an interview also writes
        if not self._read(fd):
            self._poll.unregister(fd)
        if len(self.answer) > self._cap and not self.stopped:
            self.stopped = "too_large"

    def _called(self) -> None:
        """The channel is readable: nothing is to be said while a program runs, so that is the end."""
        if self._channel.is_closed():
            raise ChannelClosed("nobody waits for this program")

    def _read(self, fd: int) -> bool:
        """Take what is there; False once there can be no more."""
        try:
            part = os.read(fd, _READ)
        except BlockingIOError:
            return True
        except ConnectionResetError:  # a socket whose other end was closed with something unread
            part = b""
        if not part:
            self._close(fd)
            return False
        kept = self._open[fd]
        kept += part
        if kept is self.tail:
            del kept[:-_TAIL]
        return True

    def _close(self, fd: int) -> None:
        del self._open[fd]
        os.close(fd)


class Interview(Watch):
    """Hands a program one question at a time, and its answers to who asked.

    On the channel a question comes as `{"question": bytes}` and is answered by `{"answer": bytes}`; None for a question
    ends it. The program gets a question, and gives an answer, as a length and that many bytes. It answers b"o" and an
    encoded output; anything else is left in `answer`, as a run leaves it, for the verdict. The caps hold for the whole
    interview.

    Args:
        answer_fd: Where answers come from and questions go to.
        question: The first.
    """

    def __init__(self, answer_fd: int, print_fd: int, channel: Channel, limits: Limits, question: bytes) -> None:
        super().__init__(answer_fd, print_fd, channel, limits)
        self._fd = answer_fd
        self._due = True
        """Whether who asked waits for a message: each of theirs gets one, an answer or the report."""

        self._unsent = memoryview(b"")
        self._put(question)

    def _called(self) -> None:
        super()._called()
        question = self._channel.receive()["question"]
        self._due = True
        if question is None:
            self.stopped = self.stopped or "done"
        else:
            self._put(question)

    def drain(self) -> None:
        """Read what is left; a program that ended unasked says so in answer to the next question."""
        super().drain()
        if not self.stopped:
            self._heard()
        del self.answer[: LENGTH.size]
        if self.answer[:1] == b"o":  # an answer that lost its end is none
            self.answer.clear()
        if not self._due:
            self._channel.receive()

    def _put(self, question: bytes) -> None:
        self._since = time.monotonic()
        self._unsent = memoryview(LENGTH.pack(len(question)) + question)
        self._send()

    def _send(self) -> None:
        if self._fd in self._open:
            with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):  # who reads no more answers no more
                self._unsent = self._unsent[os.write(self._fd, self._unsent) :]
            self._poll.modify(self._fd, select.POLLIN | (select.POLLOUT if self._unsent else 0))

    def _attend(self, fd: int, event: int) -> None:
        if event & select.POLLOUT:
            self._send()
        if event & ~select.POLLOUT:
            super()._attend(fd, event)
            if fd == self._fd and not self.stopped:
                self._heard()

    def _heard(self) -> None:
        """Pass an answer on once it is whole; a failure stays, and the program's exit says the rest."""
        if self.answer and self._since is None:
            self.stopped = "the program answered without being asked"
        elif len(self.answer) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self.answer)[0]
            if end > self._cap:
                self.stopped = "too_large"
            elif len(self.answer) >= end and self.answer[LENGTH.size : LENGTH.size + 1] == b"o":
                self._left_s -= time.monotonic() - (self._since or 0.0)
                self._since, self._due = None, False
                self._cap -= end
                self._channel.send({"answer": bytes(memoryview(self.answer)[LENGTH.size + 1 : end])})
                del self.answer[:end]
                if self.answer:
                    self._heard()


def _has_exited(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
