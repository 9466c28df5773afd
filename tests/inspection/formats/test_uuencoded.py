"""Files in uuencode: every one in a text, with its name."""

import base64
import binascii

from tests.inspection.formats.walking import names, walked


def encoded(name: str, data: bytes) -> bytes:
    lines = b"".join(binascii.b2a_uu(data[place : place + 45]) for place in range(0, len(data), 45))
    return b"begin 644 " + name.encode() + b"\n" + lines + b"`\nend\n"


def test_files_are_opened_one_after_the_other() -> None:
    parts = walked(encoded("a.js", b"x" * 100) + b"words\n" + encoded("b.txt", b"y"), "a.uu")
    assert names(parts) == ["a.js", "b.txt"]
    assert [part.size for part in parts[1:]] == [100, 1]
    assert parts[0].problems == ()


def test_the_base64_form_is_opened() -> None:
    parts = walked(b"begin-base64 644 a.txt\r\n" + base64.b64encode(b"hello") + b"\r\n====\r\n", "a.uu")
    assert (names(parts), parts[1].size) == (["a.txt"], 5)


def test_what_is_cut_or_changed_is_said() -> None:
    whole = encoded("a.js", b"x" * 100)
    assert walked(whole[:60])[0].problems == ("truncated",)
    assert walked(whole.replace(b"M>", b"Mz", 1))[0].problems == ("damaged",)


def test_a_file_is_found_behind_the_words_of_a_letter() -> None:
    assert names(walked(b"Dear all,\r\n\r\n" + encoded("a.js", b"x"), "letter.txt")) == ["a.js"]
