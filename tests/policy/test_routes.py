from typing import Any

import pytest

from gateway.mail.address import parse_mailbox
from gateway.mail.envelope import Direction
from gateway.policy.routes import TO_MX, route_for
from tests import make

ROUTES = {
    name: {"hops": [{"host": f"{name}.example"}]} for name in ("utm", "exchange", "smarthost", "special", "bureau")
}
DOCUMENT: dict[str, Any] = {
    "routes": ROUTES,
    "inbound_route": "utm",
    "returned_route": "exchange",
    "outbound_route": "smarthost",
    "domain_routes": {"other.example": "special", "branch.example": "special", "büro.example": "bureau"},
}


@pytest.mark.parametrize(
    ("address", "direction", "wanted", "name"),
    [
        ("bob@corp.example", Direction.INBOUND, "", "utm"),
        ("bob@corp.example", Direction.INTERNAL, "", "utm"),
        ("bob@corp.example", Direction.RETURNED, "", "exchange"),
        ("bob@branch.example", Direction.INBOUND, "", "special"),
        ("bob@branch.example", Direction.RETURNED, "", "exchange"),  # never to the scanner again
        ("ann@partner.example", Direction.OUTBOUND, "", "smarthost"),
        ("ann@other.example", Direction.OUTBOUND, "", "special"),
        ("ann@sub.other.example", Direction.OUTBOUND, "", "smarthost"),
        ("ann@xn--bro-hoa.example", Direction.OUTBOUND, "", "bureau"),
        ("ann@other.example", Direction.OUTBOUND, "exchange", "exchange"),
        ("ann@other.example", Direction.OUTBOUND, "gone", "special"),
    ],
)
def test_the_route_of_a_recipient(address: str, direction: Direction, wanted: str, name: str) -> None:
    policy = make.policy(**DOCUMENT)
    found = route_for(parse_mailbox(address), direction, policy, wanted)
    assert found.name == name
    assert found.route == policy.document.routes[name]


def test_without_any_route_mail_goes_to_the_mx() -> None:
    assert route_for(parse_mailbox("ann@other.example"), Direction.OUTBOUND, make.policy()) == (TO_MX, "")


def test_without_a_route_of_its_own_returned_mail_goes_as_inbound_mail_does() -> None:
    policy = make.policy(**{**DOCUMENT, "returned_route": ""})
    assert route_for(parse_mailbox("bob@corp.example"), Direction.RETURNED, policy).name == "utm"
