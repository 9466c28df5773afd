"""Drives the transcripts beside it against a real listener, on both event loops.

A transcript begins with settings, `name: value` (listener, source, known, portal, tls, errors, message_bytes, xclient,
proxy), then:

    C: text         the client sends a line; lines in a row go out in one piece
    R: text         the same without CRLF, with Python's escapes (\\r \\n \\0 \\x80)
    S: text         the next reply, or for one of several lines each of them, begins so
    S+ text         one of the lines of the last reply is so (EHLO's extensions)
    S- text         none of the lines of the last reply begins so
    TLS             the client does the handshake
    CLOSED          the server ends the connection
    T: a@b <- c@d   the next message that was taken: recipients, sender
    M: text         its octets, with escapes

`#` begins a comment.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.mail.envelope import ListenerKind
from gateway.policy.compile import Policy
from tests import make, served
from tests.served import LOOPS, Client, Served, Taken, serve, tls_context

TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.smtp"))
Line = tuple[int, str, str]


def read(file: Path) -> tuple[dict[str, str], list[Line]]:
    """Return the settings and the lines with their numbers."""
    settings: dict[str, str] = {}
    lines: list[Line] = []
    for number, text in enumerate(file.read_text().splitlines(), 1):
        mark, _, rest = text.partition(" ")
        if not text.strip() or text.startswith("#"):
            continue
        if mark in ("C:", "R:", "S:", "S+", "S-", "TLS", "CLOSED", "T:", "M:"):
            lines.append((number, mark, rest))
        elif not lines and mark.endswith(":"):
            settings[mark[:-1]] = rest
        else:
            raise AssertionError(f"{file.name}:{number}: what is {text!r}?")
    return settings, lines


def policy_of(settings: dict[str, str]) -> Policy:
    limits = {name: int(settings[name]) for name in ("errors", "message_bytes") if name in settings}
    document: dict[str, Any] = {"trust": {name: [settings[name]] for name in ("xclient", "proxy") if name in settings}}
    if "known" in settings:
        document["domains"] = {"corp.example": {}}
    entries: list[Any] = [make.known(address) for address in settings.get("known", "").split()]
    if "source" in settings:
        entries.append(make.relay_source(settings["source"]))
    return served.policy(*entries, limits=limits, portal_url=settings.get("portal", ""), **document)


def octets_of(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


class Player:
    """Plays one transcript."""

    def __init__(self, gate: Served, client: Client, name: str) -> None:
        self.gate = gate
        self.client = client
        self.name = name
        self.reply: list[str] = []
        self.messages: Iterator[Taken] = iter(())
        self.message: Taken | None = None

    def play(self, lines: list[Line]) -> str:
        """Do all lines; return what is wrong with the first that is not kept, "" when all are."""
        outgoing = b""
        self.messages = self._messages()
        for number, mark, text in lines:
            if mark == "C:":
                outgoing += text.encode() + b"\r\n"
            elif mark == "R:":
                outgoing += octets_of(text)
            else:
                if outgoing:
                    self.client.send(outgoing)
                    outgoing = b""
                problem = self._step(mark, text)
                if problem:
                    return f"{self.name}:{number}: wanted {mark} {text}, {problem}"
        if outgoing:
            return f"{self.name}: ends before the answer"
        return "" if next(self.messages, None) is None else f"{self.name}: a message was taken that is not in it"

    def _messages(self) -> Iterator[Taken]:
        seen = 0
        while seen < len(self.gate.taken):
            yield self.gate.taken[seen]
            seen += 1

    def _step(self, mark: str, text: str) -> str:
        """Do or check one line; return what is wrong."""
        if mark == "S:":
            self.reply = self.client.reply().split("\n")
            return "" if all(line.startswith(text) for line in self.reply) else f"got {self.reply}"
        if mark == "S+":
            return "" if any(line[4:] == text for line in self.reply) else f"got {self.reply}"
        if mark == "S-":
            return f"got {self.reply}" if any(line[4:].startswith(text) for line in self.reply) else ""
        if mark == "TLS":
            self.client.starttls()
            return ""
        if mark == "CLOSED":
            return "" if self.client.is_closed() else "the connection goes on"
        return self._check_message(mark, text)

    def _check_message(self, mark: str, text: str) -> str:
        if mark == "T:":
            self.message = next(iter(self.messages), None)
            if self.message is None:
                return "no message was taken"
            found = f"{' '.join(self.message.recipients)} <- {self.message.envelope.mail_from}".rstrip()
            return "" if found == text else f"got {found}"
        assert self.message is not None
        return "" if self.message.raw == octets_of(text) else f"got {self.message.raw!r}"


@pytest.mark.parametrize("loop", sorted(LOOPS))
@pytest.mark.parametrize("file", TRANSCRIPTS, ids=lambda file: file.stem)
def test_transcript(file: Path, loop: str) -> None:
    settings, lines = read(file)
    kind = ListenerKind(settings.get("listener", "inbound"))
    context = tls_context() if settings.get("tls") == "yes" else None
    with (
        serve(policy_of(settings), kind, context=context, loop=loop) as gate,
        gate.connect(greeted=False) as client,
    ):
        assert Player(gate, client, file.name).play(lines) == ""


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 20
