"""SMTP smuggling: what looks like the end of a message to others is no end here, and does not pass to the next hop."""

import pytest

from gateway.relay.reasons import Reason
from tests import served
from tests.served import LOOPS, serve

ENVELOPE = b"MAIL FROM:<ann@partner.example>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\n"
INNER = b"MAIL FROM:<forged@corp.example>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
# Ends that some server takes or took for the end of mail data (CVE-2023-51764, -51765, -51766 and kin).
FALSE_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\n",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\n\r.\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\n\n.\n\n",
    b"\n.\r",
    b"\n\n.\r\n",
    b"\r\n.\n\r\n",
]


@pytest.mark.parametrize("end", FALSE_ENDS)
@pytest.mark.parametrize("loop", sorted(LOOPS))
def test_a_false_end_ends_nothing_and_is_refused(end: bytes, loop: str) -> None:
    with serve(served.policy(), loop=loop) as gate, gate.session() as client:
        client.send(ENVELOPE)
        assert client.codes(3) == [250, 250, 354]
        client.send(b"Subject: outer\r\n\r\nx" + end + INNER)
        assert client.reply().startswith("554 5.6.0 ")
        assert client.ask("NOOP").startswith("250 ")
        assert gate.taken == []
        assert gate.events.refusals == [("message", Reason.LINE_ENDS, "ann@partner.example", "bob@corp.example")]


@pytest.mark.parametrize("end", FALSE_ENDS)
def test_repaired_it_is_one_message_with_clean_lines(end: bytes) -> None:
    with serve(served.policy(limits={"bare_line_ends": "repair"})) as gate, gate.session() as client:
        client.send(ENVELOPE)
        assert client.codes(3) == [250, 250, 354]
        client.send(b"Subject: outer\r\n\r\nx" + end + INNER)
        assert client.reply().startswith("250 ")
        assert client.ask("NOOP").startswith("250 ")
        (taken,) = gate.taken
        assert b"smuggled" in taken.raw
        assert taken.raw.count(b"\r\n") == taken.raw.count(b"\r") == taken.raw.count(b"\n")
        assert b"\0" not in taken.raw


@pytest.mark.parametrize("end", FALSE_ENDS)
def test_in_chunks_it_is_refused_as_well(end: bytes) -> None:
    text = b"Subject: outer\r\n\r\nx" + end + b"MAIL FROM:<forged@corp.example>\r\n"
    with serve(served.policy()) as gate, gate.session() as client:
        client.send(
            b"MAIL FROM:<ann@partner.example>\r\nRCPT TO:<bob@corp.example>\r\nBDAT %d LAST\r\n" % len(text) + text
        )
        assert client.codes(3) == [250, 250, 554]
        assert gate.taken == []


def test_the_true_end_in_a_chunk_is_content() -> None:
    text = b"Subject: a\r\n\r\n.\r\n" + INNER
    with serve(served.policy()) as gate, gate.session() as client:
        client.send(
            b"MAIL FROM:<ann@partner.example>\r\nRCPT TO:<bob@corp.example>\r\nBDAT %d LAST\r\n" % len(text) + text
        )
        assert client.codes(3) == [250, 250, 250]
        assert [taken.raw for taken in gate.taken] == [text]


@pytest.mark.parametrize("cut", range(1, 5))
def test_the_true_end_counts_in_whichever_pieces_it_comes(cut: int) -> None:
    with serve(served.policy()) as gate, gate.session() as client:
        client.send(ENVELOPE)
        assert client.codes(3) == [250, 250, 354]
        client.send(b"Subject: a\r\n\r\nx" + b"\r\n.\r\n"[:cut])
        client.send(b"\r\n.\r\n"[cut:] + b"NOOP\r\n")
        assert client.codes(2) == [250, 250]
        assert [taken.raw for taken in gate.taken] == [b"Subject: a\r\n\r\nx\r\n"]


@pytest.mark.parametrize("line", [b"NOOP\n", b"NOOP\rNOOP\r\n", b"NO\0OP\r\n", b"NOOP\r\r\n", b"\n", b"NOOP\n\r\n"])
def test_a_command_ends_in_crlf_and_nothing_else(line: bytes) -> None:
    with serve(served.policy()) as gate, gate.session() as client:
        client.send(line + b"QUIT\r\n")
        replies = []
        while reply := client.reply():
            replies.append(reply[:9])
        assert replies[0] == "500 5.5.2"
        assert "250 2.0.0" not in replies
        assert gate.events.reasons[0] is Reason.LINE_ENDS
        client.socket.close()
