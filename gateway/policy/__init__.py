"""What the operator decided: the policy document, the ledger's values, routes, and `compile`. Frozen values, no I/O."""

from gateway.policy.compile import Policy, PolicyError

__all__ = ["Policy", "PolicyError"]
