"""S30: what becomes of outgoing mail is told to its sender as he asked (RFC 3461, RFC 3464), and to nobody else."""

import email
import email.policy
import re
from email.message import EmailMessage
from typing import Any

import pytest

from gateway.accepted import State
from tests import make
from tests.flows.conftest import Start
from tests.flows.edge import Edge, arrival
from tests.flows.gateway import HOSTNAME, Gateway, document, hop_at, server
from tests.flows.peer import BOB, Answer, Peer
from tests.nameserver import Nameserver
from tests.nexthop import EXTENSIONS, NextHop, Taken
from tests.product import wait_until

BODY = b"The body of the offer.\r\n"
FORWARDER_IP = "10.20.0.6"  # a server of ours that sends under anybody's name
GONE = "550 5.1.1 Nobody of that name"


@pytest.fixture(scope="module")
def without_dsn(edge: Edge) -> NextHop:
    return edge.hop(name="plain.example", extensions=[one for one in EXTENSIONS if one != "DSN"])


@pytest.fixture(scope="module")
def without_utf8(edge: Edge) -> NextHop:
    return edge.hop(name="ascii.example", extensions=[one for one in EXTENSIONS if one != "SMTPUTF8"])


@pytest.fixture(scope="module")
def gateway(
    arrange: Start,
    inside: NextHop,
    outside: NextHop,
    without_dsn: NextHop,
    without_utf8: NextHop,
    nameserver: Nameserver,
) -> Gateway:
    nameserver.zone["null.example", "MX"] = ["0 ."]
    outside.on("RCPT", GONE, when="<gone")
    outside.on("RCPT", "451 4.7.1 Greylisted", when="<grey")
    routes = {
        "plain": {"hops": [hop_at(without_dsn)]},
        "ascii": {"hops": [hop_at(without_utf8)]},
        "by-mx": {},  # the recipient's own mail hosts
    }
    by_domain = {
        "plain.example": "plain",
        "ascii.example": "ascii",
        "null.example": "by-mx",
        "nowhere.example": "by-mx",
    }
    policy = document(inside, outside, routes=routes, domain_routes=by_domain, limits={"warn_hours": 0.0001})
    return arrange(policy, [server(), make.relay_source(f"{FORWARDER_IP}/32", any_sender=True)])


def send(gateway: Gateway, *to: str, parameters: str = "", each: str = "", subject: str = "Offer") -> Answer:
    """Send one message of ours to the world."""
    raw = make.message(from_=BOB, subject=subject, body=BODY)
    with gateway.server() as peer:
        answer = peer.offer(raw, *to, mail_from=BOB, parameters=parameters, each=each)
    assert answer.code == 250, answer
    return answer


class Notice:
    """A notification as its reader's program has it: parsed by the standard library."""

    def __init__(self, taken: Taken) -> None:
        self.taken = taken
        message = email.message_from_bytes(taken.raw, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        assert [defect for part in message.walk() for defect in part.defects] == []
        self.message = message
        self.human, self.status, self.returned = message.iter_parts()

    @property
    def about(self) -> EmailMessage:
        """The fields for the whole message."""
        return self.status.get_payload()[0]  # type: ignore[return-value]

    @property
    def recipients(self) -> dict[str, EmailMessage]:
        """The fields for each recipient."""
        parts: list[Any] = self.status.get_payload()[1:]  # type: ignore[assignment]
        return {str(part["Final-Recipient"]).partition(";")[2].strip(): part for part in parts}


def notices_at(hop: NextHop, answer: Answer, kind: str) -> list[Notice]:
    """Return the notifications of that kind that a hop has about a message: what they return names its reference."""
    mark = f"id {answer.ref}".encode()
    found = [taken for taken in list(hop.messages) if taken.mail.startswith("FROM:<>") and mark in taken.raw]
    return [one for one in map(Notice, found) if kind in {part["Action"] for part in one.recipients.values()}]


def notice_of(hop: NextHop, answer: Answer, kind: str = "failed") -> Notice:
    """Wait for the notification of that kind about a message."""
    found = wait_until(lambda: notices_at(hop, answer, kind), 30, f"a notice of {answer.ref}: {kind}")
    assert isinstance(found[0], Notice)
    return found[0]


def has_notice(gateway: Gateway, answer: Answer) -> bool:
    """Tell whether any notification was made about a message, by the log."""
    return any(event["about"] == answer.ref for event in gateway.events("notice.queued"))


# -- a failure


def test_a_failure_is_told_to_the_sender_in_a_form_that_programs_read(gateway: Gateway, inside: NextHop) -> None:
    answer = send(gateway, "gone@world.example", "ann@world.example")
    notice = notice_of(inside, answer)
    assert notice.taken.recipients == [BOB]
    assert notice.message["To"] == BOB
    assert notice.message["Auto-Submitted"].startswith("auto-")
    assert notice.message.get_content_type() == "multipart/report"
    assert notice.message.get_param("report-type") == "delivery-status"
    assert notice.human.get_content_type() == "text/plain"
    assert "gone@world.example" in notice.human.get_content()
    assert notice.status.get_content_type() == "message/delivery-status"
    assert notice.about["Reporting-MTA"] == f"dns; {HOSTNAME}"
    fields = notice.recipients
    assert list(fields) == ["gone@world.example"], "who has it is not told of"
    assert fields["gone@world.example"]["Action"] == "failed"
    assert fields["gone@world.example"]["Status"] == "5.1.1"
    assert fields["gone@world.example"]["Diagnostic-Code"] == f"smtp; {GONE}"
    gateway.settled(answer.ref, gone=State.FAILED, ann=State.DELIVERED)


def test_a_notice_has_the_null_sender_and_is_no_reason_for_another(gateway: Gateway, inside: NextHop) -> None:
    inside.on("RCPT", GONE, when="<lost@corp.example>")
    raw = make.message(from_="lost@corp.example")
    with gateway.server() as peer:
        answer = peer.offer(raw, "gone@world.example", mail_from="lost@corp.example")
    wait_until(lambda: has_notice(gateway, answer), 20, "the notice")
    (event,) = [one for one in gateway.events("notice.queued") if one["about"] == answer.ref]
    rows = gateway.settled(event["ref"], lost=State.FAILED)
    assert rows["lost"].last_reply == GONE
    assert not any(one["about"] == event["ref"] for one in gateway.events("notice.queued"))


@pytest.mark.parametrize(
    ("domain", "status"), [("nowhere.example", "5.1.2"), ("null.example", "5.1.10")], ids=["no domain", "null MX"]
)
def test_a_domain_that_takes_no_mail_is_told_at_once(
    gateway: Gateway, inside: NextHop, domain: str, status: str
) -> None:
    answer = send(gateway, f"ann@{domain}")
    assert notice_of(inside, answer).recipients[f"ann@{domain}"]["Status"] == status


def test_an_address_that_the_next_hop_cannot_take_is_told(gateway: Gateway, inside: NextHop) -> None:
    answer = send(gateway, "jörg@ascii.example", parameters="SMTPUTF8")
    notice = notice_of(inside, answer)
    (fields,) = notice.recipients.values()
    assert fields["Status"] == "5.6.7"
    assert str(fields["Final-Recipient"]).startswith("utf-8;")


# -- NOTIFY


def test_notify_never_is_obeyed(gateway: Gateway, inside: NextHop) -> None:
    never = send(gateway, "gone@world.example", each="NOTIFY=NEVER")
    gateway.settled(never.ref, gone=State.FAILED)
    asked = send(gateway, "gone@world.example", each="NOTIFY=FAILURE")
    assert notice_of(inside, asked)  # made later, and there
    assert not has_notice(gateway, never)


def test_notify_success_alone_wants_no_failure(gateway: Gateway) -> None:
    answer = send(gateway, "gone@plain.example", each="NOTIFY=SUCCESS")
    assert gateway.settled(answer.ref, gone=State.DELIVERED)
    other = send(gateway, "gone@world.example", each="NOTIFY=SUCCESS")
    gateway.settled(other.ref, gone=State.FAILED)
    wait_until(lambda: has_notice(gateway, answer), 20, "the notice of success")
    assert not has_notice(gateway, other)


def test_success_is_told_by_us_where_the_next_hop_tells_nothing(
    gateway: Gateway, inside: NextHop, without_dsn: NextHop
) -> None:
    answer = send(gateway, "ann@plain.example", each="NOTIFY=SUCCESS ORCPT=rfc822;Ann+2Blist@plain.example")
    assert "NOTIFY" not in arrival(without_dsn, answer.ref).rcpts[0]
    fields = notice_of(inside, answer, "relayed").recipients["ann@plain.example"]
    assert fields["Status"].startswith("2.")
    assert fields["Original-Recipient"] == "rfc822; Ann+list@plain.example"


def test_success_is_left_to_a_next_hop_that_can_tell_it(gateway: Gateway, outside: NextHop) -> None:
    answer = send(
        gateway,
        "ann@world.example",
        parameters="RET=HDRS ENVID=QQ314159",
        each="NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;ann@world.example",
    )
    taken = arrival(outside, answer.ref)
    assert "RET=HDRS" in taken.mail
    assert "ENVID=QQ314159" in taken.mail
    (rcpt,) = taken.rcpts
    wishes = re.findall(r"NOTIFY=(\S+)", rcpt)
    assert set(wishes[0].split(",")) == {"SUCCESS", "FAILURE", "DELAY"}
    assert "ORCPT=rfc822;ann@world.example" in rcpt
    gateway.settled(answer.ref, ann=State.DELIVERED)
    assert not has_notice(gateway, answer)


def test_a_delay_is_told_to_who_asked_for_it_and_to_nobody_else(gateway: Gateway, inside: NextHop) -> None:
    others = [send(gateway, "grey@world.example", each=each) for each in ("NOTIFY=FAILURE", "")]
    asked = send(gateway, "grey@world.example", each="NOTIFY=DELAY,FAILURE")
    for answer in (*others, asked):
        gateway.settled(answer.ref, grey=State.QUEUED)
    gateway.rows.make_due()
    for answer in (*others, asked):
        wait_until(lambda ref=answer.ref: gateway.outcomes(ref)[0].attempts >= 2, 30, "the second attempt")
    fields = notice_of(inside, asked, "delayed").recipients["grey@world.example"]
    assert fields["Status"] == "4.7.1"
    assert fields["Will-Retry-Until"] is not None
    assert not any(has_notice(gateway, answer) for answer in others)


# -- RET and ENVID


@pytest.mark.parametrize(
    ("ret", "kind", "has_body"), [("FULL", "message/rfc822", True), ("HDRS", "text/rfc822-headers", False)]
)
def test_the_notice_returns_as_much_as_was_asked_for(
    gateway: Gateway, inside: NextHop, ret: str, kind: str, has_body: bool
) -> None:
    answer = send(gateway, "gone@world.example", parameters=f"RET={ret} ENVID=order+2B{ret}", subject=f"Offer {ret}")
    notice = notice_of(inside, answer)
    assert notice.about["Original-Envelope-Id"] == f"order+{ret}"
    assert notice.returned.get_content_type() == kind
    assert (BODY.strip() in notice.taken.raw) is has_body
    assert f"Subject: Offer {ret}" in notice.taken.raw.decode()


def test_without_ret_the_header_is_returned(gateway: Gateway, inside: NextHop) -> None:
    notice = notice_of(inside, send(gateway, "gone@world.example"))
    assert notice.returned.get_content_type() == "text/rfc822-headers"


# -- to whom


def test_mail_from_outside_cannot_ask_for_notices(gateway: Gateway) -> None:
    with gateway.partner() as peer:
        assert not any(line.endswith("DSN") for line in peer.extensions)
        assert peer.ask("MAIL FROM:<ann@partner.example> RET=FULL").startswith("555 ")
        assert peer.ask("MAIL FROM:<ann@partner.example>").startswith("250 ")
        assert peer.ask(f"RCPT TO:<{BOB}> NOTIFY=SUCCESS").startswith("555 ")


def test_a_failure_of_mail_from_outside_is_told_nobody(gateway: Gateway, inside: NextHop) -> None:
    inside.on("RCPT", GONE, when="<nobody@corp.example>")
    answer = gateway.receive(make.message(), "nobody@corp.example", mail_from="ann@forged.example")
    gateway.settled(answer.ref, nobody=State.HELD)
    assert not has_notice(gateway, answer)


def test_a_forwarding_server_of_ours_may_be_told_outside(gateway: Gateway, outside: NextHop) -> None:
    with Peer(gateway.outbound_port, FORWARDER_IP) as peer:
        answer = peer.offer(make.message(), "gone@world.example", mail_from="ann@partner.example")
    notice = notice_of(outside, answer)
    assert notice.taken.recipients == ["ann@partner.example"]
    assert b".corp.internal" not in notice.taken.raw
