"""Fields of the moment and of the judgement so far: the time, tags of earlier sections, what the filters found."""

from gateway.policy.rules.fields import Registry, Type, Values
from gateway.policy.rules.view import View
from gateway.verdict import Kind, Unknown

GROUP = Registry("flow")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@GROUP.field("time.hour", Type.NUMBER)
def hour(view: View, name: str) -> Values:
    """The hour of the day, 0 to 23, in the company's time zone."""
    return (view.local_time.hour,)


@GROUP.field("time.weekday", Type.CODE, choices=WEEKDAYS)
def weekday(view: View, name: str) -> Values:
    """The day of the week in the company's time zone."""
    return (WEEKDAYS[view.local_time.weekday()],)


@GROUP.field("tag", Type.TEXT, is_late=True)
def tag(view: View, name: str) -> Values:
    """The tags that rules of earlier sections set."""
    tags = view.tags_here()
    return tags if isinstance(tags, Unknown) else tuple(tags)


@GROUP.field("finding", Type.TEXT, is_late=True)
def finding(view: View, name: str) -> Values:
    """What the filters found, by filter and code: business_only:listed. Filters in shadow are not heard."""
    found = view.findings_here()
    return found if isinstance(found, Unknown) else [one.reason for one in found]


@GROUP.field("finding.kind", Type.CODE, choices=Kind, is_late=True)
def finding_kind(view: View, name: str) -> Values:
    """The kinds of the filters' objections: those that would have held or refused the message, or counted a score."""
    found = view.findings_here()
    if isinstance(found, Unknown):
        return found
    return [one.kind for one in found if one.action.severity or one.score]
