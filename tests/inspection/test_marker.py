import pytest

from gateway.inspection.marker import passes, sign

KEY = b"k" * 32


def test_a_signed_marker_tells_its_count() -> None:
    assert passes([sign(3, KEY)], KEY) == 3


def test_the_highest_of_several_markers_counts() -> None:
    assert passes([sign(1, KEY), sign(2, KEY), "v1 9 ffff"], KEY) == 2


@pytest.mark.parametrize(
    "value",
    [
        "",
        "v1",
        "v1 3",
        "v1 3 " + "0" * 32,
        sign(3, b"another key"),
        sign(3, KEY).replace("v1 3", "v1 1"),
        sign(3, KEY).replace("v1 3", "v1  3"),
        sign(3, KEY) + " x",
        sign(3, KEY).upper(),
        "v1 é " + "ä" * 32,
        "v1 3 \ud800",
    ],
)
def test_a_marker_that_we_did_not_sign_counts_for_nothing(value: str) -> None:
    assert passes([value], KEY) == 0


def test_without_a_key_no_marker_is_believed() -> None:
    assert passes([sign(3, b"")], b"") == 0
