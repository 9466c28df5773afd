"""tar archives of every kind that mail carries."""

import io
import tarfile

import pytest

from gateway.inspection.formats.tar_archive import records
from tests.inspection.formats.walking import names, walked


def tarred(*members: tuple[str, bytes], form: int = tarfile.PAX_FORMAT, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_opened_with_their_names(form: int) -> None:
    long = "folder/" + "n" * (90 if form == tarfile.USTAR_FORMAT else 300) + ".js"
    parts = walked(tarred(("a.txt", b"x" * 600), (long, b"y"), form=form), "a.tar")
    assert names(parts) == ["a.txt", long]
    assert [part.size for part in parts[1:]] == [600, 1]
    assert not any(part.problems for part in parts)


def test_a_name_beyond_ascii_is_read() -> None:
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert names(walked(tarred(("gr\u00fcn.txt", b"x"), form=form))) == ["gr\u00fcn.txt"]


def test_an_archive_without_a_signature_is_told_by_its_sum() -> None:
    data = bytearray(tarred(("a.txt", b"x"), form=tarfile.USTAR_FORMAT))
    data[257:265] = bytes(8)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    assert names(walked(bytes(data))) == ["a.txt"]


def test_an_archive_behind_another_is_opened_too() -> None:
    parts = walked(tarred(("a.txt", b"x")) + tarred(("b.txt", b"y")))
    assert names(parts) == ["a.txt", "b.txt"]


def test_what_is_odd_is_said() -> None:
    assert walked(tarred(("../a.txt", b"x")))[0].problems == ("odd_name",)
    whole = tarred(("a.txt", b"x" * 5000))
    cut = walked(whole[:2048])
    assert cut[0].problems == ("truncated",)
    assert cut[1].size == 1536
    assert walked(whole + b"junk" * 128)[0].problems == ("appended_data",)
    broken = tarred(("a.txt", b"x"), ("b.txt", b"y"))
    assert walked(broken[:1024] + b"z" * 512 + broken[1536:])[0].problems == ("damaged",)


def test_a_sparse_file_is_not_opened_and_that_is_said() -> None:
    parts = walked(tarred(("a.img", b"x"), kind=tarfile.GNUTYPE_SPARSE, form=tarfile.GNU_FORMAT))
    assert parts[0].problems == ("unsupported",)
    assert (names(parts), parts[1].problems) == (["a.img"], ("unsupported",))


def test_records_of_a_pax_header_end_at_nonsense() -> None:
    assert list(records(b"11 path=ab\n6 a=b\n")) == [(b"path", b"ab"), (b"a", b"b")]
    assert list(records(b"99999999999999999999 path=ab\n")) == []
    assert list(records(b"0 path=ab\n")) == []
    assert list(records(b"x" * 100)) == []
