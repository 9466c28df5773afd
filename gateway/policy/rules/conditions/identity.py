"""Fields about who somebody seems to be: the names that readers are shown beside addresses."""

from gateway.inspection.words import decode_words
from gateway.mail.address import parent_domains
from gateway.policy.rules.fields import Registry, Type, Values
from gateway.policy.rules.view import View

GROUP = Registry("identity")
MAX_NAMES = 100


@GROUP.field("from.name", Type.TEXT)
def from_name(view: View, name: str) -> Values:
    """The display names in From, such as `Ann Author`; `Author, Ann` is also found as `Ann Author`."""
    return shown_names(view.case.facts.values("from"))


@GROUP.field("from.foreign_name", Type.TEXT)
def foreign_name(view: View, name: str) -> Values:
    """The display names in From while an author is in none of our domains: for the names of our own people (VIPs)."""
    own = view.ours.own_domains
    domains = [author.ascii_domain for author in view.case.facts.authors]
    if domains and all(_is_ours(domain, own) for domain in domains):
        return ()
    return shown_names(view.case.facts.values("from"))


@GROUP.field("from.is_ours", Type.FLAG)
def from_is_ours(view: View, name: str) -> Values:
    """Whether an author is in one of our domains or below it, proven or not."""
    own = view.ours.own_domains
    return (any(_is_ours(author.ascii_domain, own) for author in view.case.facts.authors),)


def _is_ours(domain: str, own: frozenset[str]) -> bool:
    return domain in own or not own.isdisjoint(parent_domains(domain))


def shown_names(values: list[str]) -> list[str]:
    """Return the display names in From values, each once: what stands before `<`, and words before a comma last.

    An address without a name yields none. Takes linear time: names within comments are not looked for.
    """
    names: dict[str, None] = {}
    for value in values:
        for piece in value.split("<")[:-1]:
            text = piece.rpartition(">")[2].strip(" \t,;")
            if text.count('"') >= 2:
                text = text[text.find('"') + 1 : text.rfind('"')].replace("\\", "")
            shown = " ".join(decode_words(text).split()).strip("'\" ")
            if shown:
                names[shown] = None
                last, comma, first = shown.partition(",")
                if comma:
                    names[f"{first.strip()} {last.strip()}".strip()] = None
            if len(names) > MAX_NAMES:
                return list(names)
    return list(names)
