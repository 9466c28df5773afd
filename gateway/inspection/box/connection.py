"""One child as its worker sees it: asked over a socket, killed by a descriptor of its process."""

import array
import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

from gateway.inspection.box.channel import READY
from gateway.inspection.box.wire import ANSWER_HEAD, MAX_ANSWER_BYTES

READ_BYTES = 1 << 18
START_OCTETS = 2  # of the zygote and of the child

Answered = tuple[bytes, bool]  # the answer, undecoded, and whether the child wants to be replaced


class ChildLost(Exception):
    """A child died or had to be killed. `problem` is the code of the part it was at."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class Connection:
    """A child, from the request for it on.

    `on_ready` is called once it has locked itself in, `on_gone` when it ends while nobody waits for its answer.
    """

    def __init__(
        self,
        connection: socket.socket,
        on_ready: Callable[["Connection"], None],
        on_gone: Callable[["Connection"], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = connection
        self._on_ready = on_ready
        self._on_gone = on_gone
        self._process = -1  # pidfd
        self._started = b""
        self._unsent: list[memoryview] = []
        self._received = bytearray()
        self._answer: asyncio.Future[Answered] | None = None
        self._is_open = True
        self._loop.add_reader(connection, self._read_start)

    @property
    def is_open(self) -> bool:
        return self._is_open

    async def ask(self, head: bytes, raw: bytes | memoryview, seconds: float, cpu_seconds: float) -> Answered:
        """Send a request; return what the child answers.

        Raises ChildLost when the child dies, talks nonsense, or has not answered after `seconds`. It has died of its
        limit if it worked for `cpu_seconds` or longer. After anything but an answer the child is to be ended.
        """
        if not self._is_open:
            raise ChildLost("crashed")
        began = self._loop.time()
        answer: asyncio.Future[Answered] = self._loop.create_future()
        self._answer = answer
        timer = self._loop.call_later(seconds, self._lose, "too_long")
        try:
            self._send(head, raw)
            return await answer
        except ChildLost as lost:
            took = self._loop.time() - began
            raise ChildLost("too_long" if took >= cpu_seconds else lost.problem) from lost
        finally:
            timer.cancel()
            self._answer = None

    def end(self) -> None:
        """Kill the child; the zygote sees to what is left of it."""
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._unsent.clear()
        if self._process >= 0:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            os.close(self._process)
        self._socket.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ChildLost("crashed"))

    # --- What is sent -----------------------------------------------------------------------------------------------

    def _send(self, head: bytes, raw: bytes | memoryview) -> None:
        """Send all; what the socket has no place for goes as the child takes it."""
        self._unsent = [memoryview(head), memoryview(raw)]
        self._write()
        if self._unsent and self._is_open:
            self._loop.add_writer(self._socket, self._go_on_writing)

    def _write(self) -> None:
        try:
            sent = self._socket.sendmsg(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self._lose("crashed")
            return
        while self._unsent and sent >= len(self._unsent[0]):
            sent -= len(self._unsent.pop(0))
        if self._unsent:
            self._unsent[0] = self._unsent[0][sent:]

    def _go_on_writing(self) -> None:
        self._write()
        if not self._unsent and self._is_open:
            self._loop.remove_writer(self._socket)

    # --- What arrives -----------------------------------------------------------------------------------------------

    def _read_start(self) -> None:
        """Take the zygote's octet with the descriptor, and the child's own."""
        try:
            data, ancillary, _, _ = self._socket.recvmsg(START_OCTETS, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, sent in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and self._process < 0:
                self._process = array.array("i", sent[:4])[0]
        self._started += data
        if not data:
            self._go()
        elif len(self._started) >= START_OCTETS:
            self._be_ready()

    def _be_ready(self) -> None:
        if self._process < 0 or READY not in self._started:
            self._go()
            return
        self._loop.remove_reader(self._socket)
        self._loop.add_reader(self._socket, self._read)
        self._on_ready(self)

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or self._answer is None:
            self._go()  # dead, or it talks without having been asked
            return
        self._received += data
        if len(self._received) >= ANSWER_HEAD.size:
            self._look_for_end()

    def _look_for_end(self) -> None:
        size, is_last = ANSWER_HEAD.unpack_from(self._received)
        have = len(self._received) - ANSWER_HEAD.size
        if size > MAX_ANSWER_BYTES or have > size:
            self._lose("crashed")
        elif have == size and self._answer is not None and not self._answer.done():
            answer = bytes(memoryview(self._received)[ANSWER_HEAD.size :])
            self._received = bytearray()
            self._answer.set_result((answer, bool(is_last)))

    def _go(self) -> None:
        if self._answer is not None:
            self._lose("crashed")
        else:
            self.end()
            self._on_gone(self)

    def _lose(self, problem: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ChildLost(problem))
        self.end()
