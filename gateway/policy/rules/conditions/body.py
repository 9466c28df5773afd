"""Fields of what people read: the text of the message."""

from gateway.policy.rules.fields import Registry, Type, Values
from gateway.policy.rules.view import View

GROUP = Registry("body")


@GROUP.field("text", Type.TEXT)
def text(view: View, name: str) -> Values:
    """The text that a reader is shown, of the message and of its files, as far as the inspection kept it."""
    shown = view.case.facts.text
    return (shown,) if shown else ()


@GROUP.field("body.size", Type.NUMBER)
def body_size(view: View, name: str) -> Values:
    """The message without its header, in octets."""
    facts = view.case.facts
    return (max(0, facts.size - facts.body_start),)
