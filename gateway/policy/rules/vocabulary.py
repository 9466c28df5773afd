"""The words of rules: every field, operator and action by its name. `compile` gets them as an argument."""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from gateway.policy.rules import conditions
from gateway.policy.rules.actions import ACTIONS, RuleAction
from gateway.policy.rules.fields import FieldSpec
from gateway.policy.rules.operators import OPERATORS, Operator


@dataclass(frozen=True, slots=True)
class Vocabulary:
    fields: Mapping[str, FieldSpec]
    operators: Mapping[str, Operator]
    actions: Mapping[str, type[RuleAction]]


@cache
def vocabulary() -> Vocabulary:
    """Return all fields of the modules in `conditions`, with all operators and actions."""
    modules = [
        importlib.import_module(f"{conditions.__name__}.{one.name}")
        for one in pkgutil.iter_modules(conditions.__path__)
    ]
    fields = {spec.name: spec for module in modules for spec in module.GROUP.specs}
    return Vocabulary(fields, OPERATORS, ACTIONS)
