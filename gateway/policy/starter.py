"""The policy of a first start: one example domain, any recipient, all mail to the built-in mail drop, in observe mode.

It lets mail flow and shows what a stricter policy would do, and blocks nothing but relaying, unknown recipients,
protocol errors and limits.
"""

from gateway.policy.document import Document

EXAMPLE_DOMAIN = "corp.example"
COMMENT = "Starter policy: corp.example, any recipient, to the built-in mail drop, observe mode"


def starter(host: str, port: int) -> Document:
    """Return the starter policy with the mail drop at this address as next hop of all mail."""
    return Document.model_validate(
        {
            "company": "Corp (example)",
            "observe": True,
            "domains": {EXAMPLE_DOMAIN: {"any_recipient": True}},
            "routes": {"drop": {"hops": [{"host": host, "port": port}], "tls": "never"}},
            "inbound_route": "drop",
            "outbound_route": "drop",
            "internal_networks": ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
            "internal_names": ["corp.local"],
            "key_classes": {"general": {"opens": ["business", "reputation", "attachment", "content"]}},
            "filters": {
                "loop": {"mode": "enforce"},
                "own_domain": {"mode": "enforce"},
                "business_only": {"mode": "enforce"},
                "bypass_key": {"mode": "enforce"},
                "header_hygiene": {"mode": "enforce"},
                "author": {"mode": "enforce"},
                "attachment_type": {"mode": "enforce"},
                "macro": {"mode": "enforce"},
                "encrypted": {"mode": "enforce"},
                "bomb": {"mode": "enforce"},
                "unopened": {"mode": "enforce"},
                "ambiguity": {"mode": "enforce"},
            },
        }
    )
