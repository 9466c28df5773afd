"""Names of domains as text: the strict form of the envelope, what people type, the A-label form that is compared.

Nothing is looked up. International names are mapped as RFC 5895 says (compatibility forms, lower case, ideographic
full stops) and written in punycode (RFC 3492); the letters of a label are checked by their Unicode category, which is
close to the tables of RFC 5892 and errs on the side of refusing.
"""

import re
import unicodedata
from functools import lru_cache

from gateway.mail.errors import Malformed

MAX_DOMAIN = 255  # octets, RFC 5321 section 4.5.3.1.2
MAX_LABEL = 63  # octets, RFC 1035 section 2.3.4

# RFC 5321 section 4.1.2: sub-domain = Let-dig [Ldh-str].
_STRICT = re.compile(r"[a-z0-9]++(?>(?:-++[a-z0-9]++)*)(?>(?:\.[a-z0-9]++(?>(?:-++[a-z0-9]++)*))*)")
_FULL_STOPS = str.maketrans("\u3002\uff0e\uff61", "...")  # RFC 5895 section 2, step 3
_JOINERS = "\u200c\u200d"  # RFC 5892 appendix A.1 and A.2: only after a virama
_MIDDLE_DOTS = "\u00b7\u0375\u05f3\u05f4\u30fb"  # RFC 5892 appendix A: allowed in context
_VIRAMA = 9  # canonical combining class


def is_strict(domain: str) -> bool:
    """Tell whether a lower-case ASCII `domain` is one by RFC 5321 section 4.1.2: no underscores, no dot at the end.

    A last label of digits alone is refused as well: no top-level domain is (RFC 3696 section 2), so it is an address
    in disguise.
    """
    if len(domain) > MAX_DOMAIN or not _STRICT.fullmatch(domain):
        return False
    if len(domain) > MAX_LABEL and any(len(label) > MAX_LABEL for label in domain.split(".")):
        return False
    return not (domain[-1].isdigit() and domain.rpartition(".")[2].isdigit())


def domain_of_text(text: str) -> str:
    """Return the domain name that a person typed, as it is compared: lower case, A-labels, no dot at the end.

    Underscores are refused, as are addresses, wildcards and an empty name. Raises Malformed (a ValueError).
    """
    name = text.strip()
    if len(name) > 4 * MAX_DOMAIN:
        raise Malformed("a domain name has at most 255 octets")
    domain = ascii_domain(name.translate(_FULL_STOPS).removesuffix("."))
    if not is_strict(domain):
        raise Malformed("not a domain name")
    return domain


@lru_cache(maxsize=4096)
def parent_domains(domain: str) -> tuple[str, ...]:
    """Return the domains above `domain`, the nearest first, the top-level domain last; not `domain` itself."""
    parents = []
    at = domain.find(".")
    while at >= 0:
        parents.append(domain[at + 1 :])
        at = domain.find(".", at + 1)
    return tuple(parents)


def ascii_domain(domain: str) -> str:
    """Return `domain` lower-cased and with its U-labels as A-labels. Raises Malformed for labels that cannot be."""
    if domain.isascii():
        return domain.lower()
    return _ascii_domain(domain)


@lru_cache(maxsize=1024)
def _ascii_domain(domain: str) -> str:
    if len(domain) > 4 * MAX_DOMAIN:
        raise Malformed("a domain name has at most 255 octets")
    mapped = unicodedata.normalize("NFKC", domain.translate(_FULL_STOPS)).lower()
    mapped = unicodedata.normalize("NFKC", mapped)
    return ".".join(_a_label(label) for label in mapped.translate(_FULL_STOPS).split("."))


def _a_label(label: str) -> str:
    if label.isascii():
        return label
    if label[0] == "-" or label[-1] == "-" or label[2:4] == "--" or unicodedata.category(label[0])[0] == "M":
        raise Malformed("a domain label begins or ends wrongly")  # RFC 5891 section 4.2.3
    for before, letter in zip("\0" + label, label, strict=False):
        if not _is_in_label(letter, before):
            raise Malformed("a domain label holds a character that names cannot have")
    encoded = "xn--" + label.encode("punycode").decode("ascii")
    if len(encoded) > MAX_LABEL:
        raise Malformed("a domain label has at most 63 octets")
    return encoded


def _is_in_label(letter: str, before: str) -> bool:
    if letter in _JOINERS:
        return unicodedata.combining(before) == _VIRAMA
    if letter == "-" or letter in _MIDDLE_DOTS:
        return True
    category = unicodedata.category(letter)
    return category[0] in "LM" or category == "Nd"
