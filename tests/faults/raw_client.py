"""A client without manners: a plain socket that sends what it is told and reads what comes."""

import contextlib
import socket
import time
from types import TracebackType


class RawClient:
    """One connection from `source` (any loopback address will do). Replies are read as they come."""

    def __init__(self, port: int, source: str = "127.0.0.1", seconds: float = 30.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), seconds, source_address=(source, 0))
        self._buffer = b""

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, _kind: type[BaseException] | None, _value: object, _trace: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_until_cut(self, data: bytes, times: int) -> int:
        """Send `data` so often or until the other side has had enough; return how often."""
        for number in range(times):
            try:
                self.socket.sendall(data)
            except OSError:
                return number
        return times

    def line(self) -> bytes:
        """Return one line without its end, b"" when the connection is over."""
        while b"\n" not in self._buffer:
            try:
                chunk = self.socket.recv(65536)
            except (ConnectionError, TimeoutError):
                return b""
            if not chunk:
                return b""
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def code(self) -> int:
        """Return the code of the next whole reply, 0 when the connection is over."""
        while line := self.line():
            if line[3:4] != b"-":
                return int(line[:3])
        return 0

    def codes_until_closed(self) -> list[int]:
        """Return the codes of all replies up to the end of the connection."""
        codes = []
        while code := self.code():
            codes.append(code)
        return codes

    def hello(self) -> None:
        """Read the greeting and say EHLO."""
        assert self.code() == 220
        self.send(b"EHLO client.example\r\n")
        assert self.code() == 250

    def is_closed_within(self, seconds: float) -> bool:
        """Say whether the other side ends the connection in time; what it says meanwhile is dropped."""
        deadline = time.monotonic() + seconds
        self.socket.settimeout(seconds)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                try:
                    if not self.socket.recv(65536):
                        return True
                except TimeoutError:
                    return False
            return False
        return True
