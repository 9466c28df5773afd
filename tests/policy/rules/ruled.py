"""Rules for tests: the smallest valid one, and what a policy of some makes of a case."""

from typing import Any

import pytest

from gateway.policy.compile import Policy
from gateway.policy.document import PolicyError, Problem
from gateway.policy.rules import evaluate
from gateway.policy.rules.truth import Truth
from gateway.policy.rules.view import View
from gateway.verdict import Answers, Case, Finding, Verdict
from tests import make

Leaf = dict[str, Any]


def leaf(field: str, op: str, value: Any = None, **more: Any) -> Leaf:
    return {"field": field, "op": op, **({} if value is None else {"value": value}), **more}


def rule(when: Any = None, *actions: dict[str, Any], number: int = 1, **more: Any) -> dict[str, Any]:
    """A rule that refuses, unless told otherwise."""
    usual = {"section": "deny", "mode": "enforce", "actions": list(actions) or [{"do": "reject"}]}
    return {"number": number, **usual, **({"when": when} if when else {}), **more}


def policy(*rules: dict[str, Any], **document: Any) -> Policy:
    return make.policy(rules=list(rules), **document)


def truth(
    condition: Leaf, case: Case, *, answers: Answers | None = None, findings: list[Finding] | None = None, **doc: Any
) -> Truth:
    """What the condition says of the case; None: cannot be told."""
    compiled = policy(rule(condition), **doc)
    view = View(case, compiled, compiled.rules.zone, answers, findings if findings is not None else [])
    view.tags = (frozenset({"seen"}),) * len(case.envelope.recipients)
    return compiled.rules.rules[0].tree(view)


def found(case: Case, *rules: dict[str, Any], answers: Answers | None = None, **document: Any) -> list[Finding]:
    compiled = policy(*rules, **document)
    return evaluate.judge(case, compiled, compiled.rules, answers or {}, [])


def verdict(case: Case, *rules: dict[str, Any], **document: Any) -> Verdict:
    (only,) = make.judge(case, policy(*rules, **document)).verdicts
    return only


def problems(*rules: dict[str, Any], **document: Any) -> list[Problem]:
    with pytest.raises(PolicyError) as error:
        policy(*rules, **document)
    return error.value.problems
