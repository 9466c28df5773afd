"""The walk through a message's files: one budget, no file unseen without a word."""

import pytest

from gateway.inspection import look
from gateway.inspection.facts import Lock, Macro
from gateway.inspection.formats import Opener
from gateway.inspection.look import LimitReached, Look, Walk
from gateway.inspection.task import Bounds, Errand, Opened, Task


def opened(
    monkeypatch: pytest.MonkeyPatch, opener: Opener, data: bytes = b"PK\x03\x04x", bounds: Bounds | None = None
) -> Opened:
    """Open one attachment with a scripted opener for what looks like a zip file."""
    monkeypatch.setattr(look, "openers", lambda: {"application/zip": (opener,)})
    task = Task("1", 0, len(data), names=("a.zip",), is_attachment=True)
    errand = Errand((task,), bounds=bounds or Bounds())
    return Walk(errand).run(data, errand.tasks)


def test_a_file_is_noted_with_what_its_opener_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    def opener(file: Look) -> None:
        file.note_active("launch")
        file.note_macro(Macro.AUTO_RUN)
        file.note_macro(Macro.PRESENT)
        file.note_lock(is_opened=True)

    (part,) = opened(monkeypatch, opener).parts
    assert (part.path, part.names, part.size) == ("1", ("a.zip",), 5)
    assert (part.active, part.macro, part.lock) == (("launch",), Macro.AUTO_RUN, Lock.OPENED)


def test_members_come_after_their_container(monkeypatch: pytest.MonkeyPatch) -> None:
    def opener(file: Look) -> None:
        if file.depth < 2:
            file.open_member(b"PK\x03\x04" + b"y" * file.depth, "inner.zip")
            file.list_member("secret.txt", size=7, lock=Lock.LOCKED)

    parts = opened(monkeypatch, opener).parts
    assert [part.path for part in parts] == ["1", "1/1", "1/1/1", "1/1/2", "1/2"]
    assert parts[3].lock is Lock.LOCKED


@pytest.mark.parametrize(
    ("bounds", "problem"),
    [
        (Bounds(unpacked_bytes=100), "too_much"),
        (Bounds(file_bytes=100), "too_big"),
        (Bounds(seconds=-1.0), "too_long"),
    ],
)
def test_a_limit_is_a_problem_of_the_file(monkeypatch: pytest.MonkeyPatch, bounds: Bounds, problem: str) -> None:
    (part,) = opened(monkeypatch, lambda file: file.open_member(file.take([b"x" * 64] * 64)), bounds=bounds).parts
    assert part.problems == (problem,)


def test_a_bomb_is_told_by_its_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = opened(monkeypatch, lambda file: file.open_member(file.take([bytes(1 << 20)] * 2, packed=100))).parts
    assert part.problems == ("ratio",)


def test_depth_and_number_of_files_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    def nested(file: Look) -> None:
        file.open_member(file.data)

    parts = opened(monkeypatch, nested, bounds=Bounds(depth=3)).parts
    assert [part.problems for part in parts] == [(), (), (), ("too_deep",)]

    def many(file: Look) -> None:
        while True:
            file.open_member(b"x")

    parts = opened(monkeypatch, many, bounds=Bounds(files=10)).parts
    assert len(parts) == 10
    assert parts[0].problems == ("too_many_files",)


def test_what_an_opener_raises_ends_its_look_at_this_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def opener(file: Look) -> None:
        if file.depth:
            raise KeyError("damaged")
        file.open_member(b"PK\x03\x04")
        file.note_active("launch")

    outer, inner = opened(monkeypatch, opener).parts
    assert (outer.problems, outer.active) == ((), ("launch",))
    assert inner.problems == ("opener_failed",)


def test_limits_pass_through_openers(monkeypatch: pytest.MonkeyPatch) -> None:
    def opener(file: Look) -> None:
        raise LimitReached("too_long")

    assert opened(monkeypatch, opener).parts[0].problems == ("too_long",)
