"""Message ids and the references that people read out."""

import pytest

from gateway.mail.errors import Malformed
from gateway.mail.reference import ALPHABET, new_id, parse_reference, reference


def test_an_id_has_26_characters_and_its_time_in_front() -> None:
    found = new_id(1469918176385)
    assert found.startswith("01ARYZ6S41")  # the example of the ULID specification
    assert len(found) == 26
    assert set(found) <= set(ALPHABET)


def test_ids_are_ordered_by_time() -> None:
    times = [0, 1, 31, 32, 1023, 1024, 1 << 40, (1 << 40) + 1, (1 << 48) - 1]
    ids = [new_id(now_ms) for now_ms in times]
    assert ids == sorted(ids)


def test_ids_of_one_millisecond_differ() -> None:
    assert len({new_id(1_800_000_000_000) for _ in range(2000)}) == 2000


@pytest.mark.parametrize("now_ms", [-1, 1 << 48])
def test_a_time_that_no_id_can_hold_is_refused(now_ms: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        new_id(now_ms)


def test_the_reference_is_the_end_of_the_id() -> None:
    assert reference("01ARYZ6S41TSV4RRFFQ67KQ2M9PX") == "7KQ2-M9PX"
    found = new_id(1_800_000_000_000)
    assert found.endswith(parse_reference(reference(found)))


@pytest.mark.parametrize("text", ["7KQ2-M9PX", "7kq2m9px", " 7KQ2 M9PX\n", "7-K-Q-2-M-9-P-X"])
def test_a_reference_is_read_as_people_type_it(text: str) -> None:
    assert parse_reference(text) == "7KQ2M9PX"


def test_letters_that_look_like_digits_are_read_as_digits() -> None:
    assert parse_reference("oO1i-lLI0") == "00111110"


@pytest.mark.parametrize("text", ["", "7KQ2-M9P", "7KQ2-M9PXX", "7KQ2-M9PU", "7KQ2-M9P!", "\u017fKQ2-M9PX", "7" * 1000])
def test_anything_else_is_no_reference(text: str) -> None:
    with pytest.raises(Malformed):
        parse_reference(text)
