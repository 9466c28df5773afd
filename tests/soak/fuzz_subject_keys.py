"""Subjects: keys are found wherever they are whole, leave the field and the stored facts, and cost linear time."""

from collections.abc import Iterator
from typing import Any

from tests.soak import fuzzing

with fuzzing.instrumented():
    import msgspec

    from gateway.inspection.words import decode_words, encode_words
    from gateway.judge import judge, redact
    from gateway.policy.keys import candidates, is_key, without
    from gateway.verdict import ReplaceField
    from tests import make

KEY = make.KEY
POLICY = make.policy(make.bypass_key(), filters={"bypass_key": {}}, key_classes={"files": {"opens": ["business"]}})
LENGTHS = frozenset({8, 12, 13, 32})
SEEDS = (
    b"",
    b"Files for the web server FF9A022BC918",
    b"=?utf-8?q?Files_FF9A02?=\r\n =?utf-8?b?MkJDOTE4?=",
    b"(FF9A-022B-C918) FF9A 022B C918 FF9A022BC918.",
    b'=?utf-16?b?RgBGADkAQQAwADIAMgBCAEMAOQAxADgA?= [["FF9A022BC918"]]',
    b"a1-b2-c3-d4-e5-f6 a1b2 c3d4 e5f6 00-00",
)


def look(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found = candidates(text, LENGTHS)
    for one in found:
        assert is_key(one.text)
        assert len(one.text) in LENGTHS
        assert "".join(char for char in text[one.start : one.end] if char.isalnum()).upper() == one.text
    left = without(text, [(one.start, one.end) for one in found])
    assert len(left) <= len(text)
    line = "".join(char if char.isprintable() else " " for char in text)
    assert decode_words(encode_words(line)).split() == line.split() or "=?" in line
    check_message(data)


def check_message(data: bytes) -> None:
    """Whatever a Subject is: after the judgement neither what is stored nor what is sent on has the key as found."""
    subject = data.replace(b"\0", b" ").replace(b"\r", b" ").replace(b"\n", b" ")[:3000]
    case = make.case(b"From: eve@unknown.example\r\nSubject: " + subject + b"\r\n\r\nbody\r\n")
    judgement = judge(case, POLICY, {})
    assert "bypass_key:failed" not in [one.reason for one in judgement.findings]
    decoded = decode_words(case.facts.fields[1].value)
    known = [decoded[one.start : one.end] for one in candidates(decoded, {12}) if one.text == KEY]
    if not known:
        return
    stored, facts = redact(judgement, case.facts)
    kept = "\n".join(texts(msgspec.to_builtins((stored, facts)))).upper()
    for spelling in known:
        assert spelling.upper() not in kept
    (strip,) = [one for one in judgement.findings if one.code == "strip"]
    for transform in strip.transforms:
        assert isinstance(transform, ReplaceField)
        assert len(transform.value) < 20_000


def texts(value: Any) -> Iterator[str]:
    """Yield all texts within a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts(one)


if __name__ == "__main__":
    fuzzing.main(look, SEEDS)
