"""MIME from anybody: structures, encoded words, parameters and transfer encodings, bounded whatever they hold."""

from tests.soak import fuzzing

with fuzzing.instrumented():
    from gateway.inspection.parameters import MAX_READINGS, read_value
    from gateway.inspection.scan import scan
    from gateway.inspection.structure import DEFECTS, MAX_ENTITIES, MAX_TASKS, structure, structure_of
    from gateway.inspection.transfer import decodings
    from gateway.inspection.words import decode_words

HEADER = b"From: a@x.example\r\nMIME-Version: 1.0\r\n"
ENCODINGS = ("base64", "quoted-printable", "x-uuencode", "x-yenc", "x-binhex40")
MAX_RESULTS = 60
SEEDS = (
    b"",
    HEADER
    + b"Content-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b\r\n"
    b"Content-Type: a/b; name*0*=utf-8''a%2E; name*1=exe\r\nContent-Transfer-Encoding: base64\r\n\r\nTVo=\r\n--b--\r\n",
    HEADER
    + b'Content-Type: multipart / mixed; boundary="b"; boundary=bc\r\n\r\n--bc\r\n\r\n--b\r\nno field\r\n--b--\r\n--b',
    HEADER + b"Content-Type: message/rfc822\r\n\r\n" + HEADER + b"\r\nbegin 644 a.exe\r\n#86)C\r\n`\r\nend\r\n",
    HEADER
    + b"\r\n=ybegin line=128 size=3 name=a\r\nabc\r\n=yend\r\n(This file must be converted with BinHex 4.0)\r\n:#N:",
    b"Content-Type: text/plain; name==?utf-8?B?YS5leGU=?= =?utf-7?Q?+2D0-?=\r\n\r\n--x\r\nContent-Type: a/b\r\n\r\n",
    b"QUJD=QUJD==!QUJDR",
)


def look(data: bytes) -> None:
    facts = scan(data)
    for found in (structure(data, facts.body_start, facts.fields), structure_of(data)):
        assert len(found.tasks) <= MAX_TASKS + 1
        assert len(found.entities) <= MAX_ENTITIES
        assert set(found.defects) <= set(DEFECTS)
        for task in found.tasks:
            assert 0 <= task.start <= task.end <= len(data)
            assert list(decodings(data[task.start : task.end], task.encodings))
        for number, entity in enumerate(found.entities):
            assert entity.parent < number
            assert 0 <= entity.start <= entity.body_start <= entity.end <= len(data)
            # In order and inside: a part can be cut out by its span.
            assert all(entity.start <= start <= end <= entity.end for start, end in entity.delimiters)
    for encoding in ENCODINGS:
        assert len(list(decodings(data, (encoding,)))) <= MAX_RESULTS
    text = data.decode("utf-8", "replace")
    decode_words(text)
    assert all(len(readings) <= MAX_READINGS for readings in read_value(text).parameters.values())


if __name__ == "__main__":
    fuzzing.main(look, SEEDS)
