"""A rule's examples, run before it is published: a small message, or facts by hand, and what the rule makes of it.

The rule stands alone here: it is judged whether it is off or expired, with the tags and findings that the example
gives. Nothing is asked, so that a condition which needs an answer is unknown.
"""

from collections.abc import Iterator, Sequence

import msgspec

from gateway.inspection.facts import Link, Lock, Macro, Part
from gateway.inspection.scan import scan
from gateway.mail.address import NULL_PATH, Address, parse_ip, parse_mailbox
from gateway.mail.envelope import Envelope, Recipient, Session, Tls
from gateway.policy.rules.compile import CompiledRule, Source, compile_rule
from gateway.policy.rules.evaluate import outcome_of
from gateway.policy.rules.schema import Example, Rule, WhenUnknown
from gateway.policy.rules.view import Ours, View
from gateway.verdict import Case, Finding

Problem = tuple[str, str]


def problems(rules: Sequence[Rule], source: Source, ours: Ours) -> Iterator[Problem]:
    """Yield every example that cannot be read, or that its rule judges otherwise than it says."""
    for place, rule in enumerate(rules):
        if not rule.examples or (compiled := compile_rule(rule, source)) is None:
            continue
        for number, example in enumerate(rule.examples):
            path = f"rules.{place}.examples.{number}"
            try:
                found = outcome(compiled, example, source, ours)
            except ValueError as error:
                yield path, str(error)
                continue
            if found is not example.expect:
                name = f" {example.name!r}" if example.name else ""
                yield path, f"example{name} of {compiled.label} should be {example.expect}, and is {found}"


def outcome(rule: CompiledRule, example: Example, source: Source, ours: Ours) -> WhenUnknown:
    """Return what the rule makes of the example. Raises ValueError for one that cannot be read."""
    case = _case(example)
    view = View(case, ours, source.zone, findings=[_finding(one) for one in example.findings])
    view.tags = (frozenset(example.tags),) * len(case.envelope.recipients)
    found = outcome_of(rule, view)
    if found.matching:
        return WhenUnknown.MATCH
    return WhenUnknown.DEFER if found.deferred else WhenUnknown.NO_MATCH


def _case(example: Example) -> Case:
    envelope = Envelope(
        _mailbox(example.mail_from, "mail_from") if example.mail_from else NULL_PATH,
        tuple([Recipient(_mailbox(one, "recipients"), example.direction) for one in example.recipients]),
    )
    session = Session(
        id="example",
        listener=example.listener,
        peer_ip=str(parse_ip(example.client_ip)),
        peer_name="",
        helo=example.helo,
        tls=Tls(example.tls, "") if example.tls else None,
        user=example.user,
        started_at=example.at,
    )
    facts = scan(_octets(example.message), envelope=envelope)
    facts = msgspec.structs.replace(
        facts,
        text=example.text or facts.text,
        parts=_parts(example) or facts.parts,
        links=tuple([Link("1", one.target, one.text) for one in example.links]) or facts.links,
    )
    return Case(session, envelope, facts, example.at)


def _mailbox(text: str, name: str) -> Address:
    try:
        return parse_mailbox(text)
    except ValueError as error:
        raise ValueError(f"{name}: {text!r}: {error}") from None


def _octets(message: str) -> bytes:
    """Return the message with CRLF line ends; a header alone gets its empty line."""
    lines = message.replace("\r\n", "\n").encode("utf-8", "replace").replace(b"\n", b"\r\n")
    return lines if b"\r\n\r\n" in lines else lines.rstrip(b"\r\n") + b"\r\n\r\n"


def _parts(example: Example) -> tuple[Part, ...]:
    return tuple(
        [
            Part(
                one.path,
                declared_types=one.declared_types,
                found_types=one.found_types,
                names=one.names,
                size=one.size,
                sha256=one.sha256,
                lock=Lock(one.lock),
                macro=Macro(one.macro),
                active=one.active,
                problems=one.problems,
                is_attachment=True,
            )
            for one in example.files
        ]
    )


def _finding(reason: str) -> Finding:
    name, _, code = reason.partition(":")
    return Finding(code, "", filter=name)
