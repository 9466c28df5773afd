"""A client that speaks to the gateway for whatever address a test is about: XCLIENT gives the peer its address."""

import re
from typing import NamedTuple

from tests.faults.sender import stuffed
from tests.served import Client

REFERENCE = re.compile(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}\b")
PARTNER = "ann@partner.example"
PARTNER_IP = "192.0.2.10"
BOB = "bob@corp.example"
SECONDS = 60.0


class Answer(NamedTuple):
    """What was said to a message: the reply's code and text, and the reference in it ("" without one)."""

    code: int
    text: str
    ref: str


def answer(reply: str) -> Answer:
    found = REFERENCE.search(reply)
    return Answer(int(reply[:3]), reply[4:], found[0] if found else "")


class Peer(Client):
    """One connection past EHLO, on behalf of `ip`."""

    def __init__(
        self, port: int, ip: str = PARTNER_IP, *, name: str = "mail.partner.example", helo: str = "mail.partner.example"
    ) -> None:
        super().__init__(port)
        self.socket.settimeout(SECONDS)
        self.extensions: list[str] = []
        assert self.hello().startswith("250")
        self.speak_for(ip, helo, name=name)

    def speak_for(self, ip: str, helo: str, *, name: str = "") -> None:
        """Begin anew on behalf of `ip`."""
        shown = f"IPV6:{ip}" if ":" in ip else ip
        assert self.ask(f"XCLIENT ADDR={shown} NAME={name or '[UNAVAILABLE]'}").startswith("220 ")
        self.extensions = self.ask(f"EHLO {helo}").split("\n")
        assert self.extensions[0].startswith("250")

    def offer(
        self, raw: bytes, *recipients: str, mail_from: str = PARTNER, parameters: str = "", each: str = ""
    ) -> Answer:
        """Send one message; return the first reply that says no, or the last one. `each` are parameters of RCPT."""
        assert not raw or raw.endswith(b"\r\n"), "the end mark could not be found"
        for command in (
            f"MAIL FROM:<{mail_from}>{parameters and ' ' + parameters}",
            *(f"RCPT TO:<{one}>{each and ' ' + each}" for one in recipients or (BOB,)),
        ):
            if not (reply := self.ask(command)).startswith("250 "):
                self.ask("RSET")
                return answer(reply)
        assert self.ask("DATA").startswith("354 ")
        self.socket.sendall(stuffed(raw))
        return answer(self.reply())

    def quit(self) -> None:
        assert self.ask("QUIT").startswith("221 ")
        self.socket.close()
