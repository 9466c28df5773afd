"""Rules: whatever is written, it is refused with paths or it compiles; and it judges any message without a failure."""

import yaml

from tests.soak import fuzzing

with fuzzing.instrumented():
    from gateway.filters import registry
    from gateway.inspection.scan import scan
    from gateway.judge import judge, questions
    from gateway.policy.compile import Policy, PolicyError, compile, rule_source
    from gateway.policy.document import read_document
    from gateway.policy.rules import examples
    from gateway.verdict import Case
    from tests import make

SPLIT = b"\n%%\n"  # between a rule and the message that it judges
_RULE = b"section: deny, mode: enforce, actions: [{do: reject}]"
SEEDS = (
    b"{number: 1, %b, when: {field: subject, op: contains, value: x}}%b%b" % (_RULE, SPLIT, make.message()),
    b"{number: 1, %b, when: {all: [{field: header, name: X-A, op: matches, value: 'a+b'}, {none: [{field: size, op: "
    b"greater, value: 5}]}]}}%bX-A: =?utf-8?q?aab?=\r\n\r\n" % (_RULE, SPLIT),
    b"{number: 2, section: transform, mode: enforce, actions: [{do: subject, prefix: '[x]'}, {do: remove_header, "
    b'name: X-A, pattern: b}], when_unknown: match}%bFrom: a <a@b.example>, "b, c" <d@e.example>\r\n\r\n' % SPLIT,
    b"{number: 3, %b, when: {field: link.host, op: in_domain, value: '*.x.example'}, examples: [{expect: match, links: "
    b"[{target: 'http://a.x.example'}]}]}%b\r\n" % (_RULE, SPLIT),
    b"{number: 4, %b, when: {field: from.name, op: one_of, value: [a b]}, unless: {field: client.ip, op: in_network, "
    b"value: 192.0.2.0/24}}%bFrom: a b <x@y.example\r\n\r\n" % (_RULE, SPLIT),
)


def look(data: bytes) -> None:
    written, _, raw = data.partition(SPLIT)
    try:
        rule = yaml.safe_load(written)
    except (yaml.YAMLError, ValueError):  # the loader's own: bad escapes, impossible dates
        return
    try:
        document = read_document({"domains": {"corp.example": {}}, "rules": rule if isinstance(rule, list) else [rule]})
        compiled = compile(document, registry(), hop_key=b"k" * 32, hostname="gate.example")
    except PolicyError:
        return
    policy = Policy.of(compiled, 1, 1)
    list(examples.problems(document.rules, rule_source(document), policy))
    case = Case(make.session(), make.envelope(), scan(raw), make.NOW)
    questions(case, policy)
    for one in judge(case, policy, {}).findings:
        assert "failed: " not in one.detail, one.detail


if __name__ == "__main__":
    fuzzing.main(look, SEEDS)
