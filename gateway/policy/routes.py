"""The choice of a route: which next hops a recipient's mail goes to.

It is made anew at each attempt, so that a change helps what waits.
"""

from typing import NamedTuple

from gateway.mail.address import Address
from gateway.mail.envelope import Direction
from gateway.policy.compile import Policy
from gateway.policy.document import Route

TO_MX = Route()  # no hops: the MX of the recipient's domain


class NamedRoute(NamedTuple):
    """A route with its name in the document, "" for the MX of the recipient's domain."""

    route: Route
    name: str


def route_for(recipient: Address, direction: Direction, policy: Policy, wanted: str = "") -> NamedRoute:
    """Return the route for a recipient: the one that a verdict `wanted`, the domain's own, the direction's, or its MX.

    A wanted route that the policy does not have any more is passed over.
    """
    document = policy.document
    # An alias of ours may lead outside: such mail leaves like any other, whoever it was addressed to.
    leaves = direction is Direction.OUTBOUND or recipient.ascii_domain not in document.domains
    by_direction = document.outbound_route if leaves else document.inbound_route
    by_domain = document.domain_routes.get(recipient.ascii_domain, "")
    # Back from the second scanner: the domain's route may lead to the scanner again, this one never does.
    returned = document.returned_route if direction is Direction.RETURNED else ""
    for name in (wanted, returned, by_domain, by_direction):
        if name in document.routes:
            return NamedRoute(document.routes[name], name)
    return NamedRoute(TO_MX, "")
