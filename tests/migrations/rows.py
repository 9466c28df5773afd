"""One row for each table, written as plain SQL: what the store's code of the day does not matter here."""

from gateway.store.database import Database

AT = "2026-11-24 12:00:00.000000+00:00"
LEDGER = {
    "id": "E1",
    "valid_from_rev": 1,
    "owner": "ada",
    "reason": "",
    "created_at": AT,
    "created_by": "ada",
    "ended_by": "",
}

# In the order in which they refer to each other. `revisions` has its row from the first migration on.
ROWS: dict[str, dict[str, object]] = {
    "revisions": {},
    "policy_versions": {
        "version": 1,
        "document": "{}",
        "comment": "",
        "published_by": "ada",
        "published_at": AT,
        "state": "published",
    },
    "audit_entries": {"at": AT, "by": "ada", "action": "add", "subject": "x", "subject_id": "1", "comment": ""},
    "whitelist_entries": {
        **LEDGER,
        "identity": "author_domain",
        "value": "partner.example",
        "subdomains": True,
        "proof": "none",
        "networks": "[]",
    },
    "sends_as_us": {**LEDGER, "domain": "corp.example", "networks": "[]"},
    "relay_sources": {
        **LEDGER,
        "network": "192.0.2.0/24",
        "purpose": "",
        "kind": "server",
        "allowed_domains": "[]",
        "any_sender": False,
        "max_per_hour": 0,
    },
    "recipients": {**LEDGER, "local": "ada", "domain": "corp.example", "target": ""},
    "waivers": {**LEDGER, "sha256": "00", "reasons": "[]", "recipients": "[]"},
    "ledger_uses": {"entry_id": "E1", "last_used_at": AT, "use_count": 1},
    "bypass_keys": {
        **LEDGER,
        "key_class": "files",
        "digest": "00",
        "ciphertext": b"c",
        "length": 12,
        "period": "2026-11",
        "valid_from": AT,
        "uses": 0,
        "recipients": "[]",
        "senders": "[]",
        "types": "[]",
    },
    "claims": {"id": "C1", "entry_id": "E1", "sha256": "00", "recipient": "a", "claimed_at": AT, "message_id": ""},
    "messages": {
        "id": "M1",
        "ref": "REF",
        "accepted_at": AT,
        "direction": "inbound",
        "mail_from": "",
        "recipients": "ada@corp.example",
        "recipient_count": 1,
        "author": "",
        "subject": "",
        "internet_message_id": "",
        "size": 1,
        "sha256": "",
        "peer_ip": "",
        "helo": "",
        "source": "",
        "tls": "",
        "action": "deliver",
        "reason": "",
        "policy_version": 1,
        "is_notice": False,
    },
    "deliveries": {
        "message_id": "M1",
        "group_number": 0,
        "recipient": "ada@corp.example",
        "domain": "corp.example",
        "source": "",
        "direction": "inbound",
        "route": "",
        "action": "deliver",
        "reason": "",
        "state": "held",
        "attempts": 0,
        "expires_at": AT,
        "lease_owner": "",
        "last_host": "",
        "last_reply": "",
        "tls": "",
        "notice_due": "",
    },
    "held_items": {
        "message_id": "M1",
        "group_number": 0,
        "kind": "malware",
        "reason": "",
        "state": "held",
        "held_at": AT,
        "vault_name": "",
        "closed_by": "",
    },
    "refused_sessions": {
        "id": "S1",
        "started_at": AT,
        "last_at": AT,
        "listener": "inbound",
        "peer_ip": "192.0.2.1",
        "peer_name": "",
        "helo": "",
        "tls": "",
        "refused_count": 1,
        "stage": "rcpt",
        "reason": "relay",
        "reply": "",
        "mail_from": "",
        "rcpt_to": "",
    },
    "sent_messages": {"internet_message_id": "<1@corp.example>", "message_id": "M1", "sent_at": AT},
    "correspondents": {
        "ours": "ada@corp.example",
        "theirs": "a@far.example",
        "domain": "far.example",
        "first_at": AT,
        "last_at": AT,
        "message_count": 1,
    },
    "jobs": {
        "id": "J1",
        "kind": "x",
        "state": "waiting",
        "progress": 0,
        "note": "",
        "asked_at": AT,
        "asked_by": "ada",
        "lease_owner": "",
    },
    "leases": {"name": "retention", "owner": "me", "lease_until": AT},
    "hourly_counters": {"hour": AT, "name": "messages", "key": "inbound:deliver", "value": 1},
}


def fill(database: Database) -> None:
    """Put one row into each table."""
    with database.writing() as connection:
        for table, row in ROWS.items():
            if row:
                place = "?" if database.is_sqlite else "%s"
                names = ", ".join(f'"{name}"' for name in row)
                statement = f"INSERT INTO {table} ({names}) VALUES ({', '.join([place] * len(row))})"
                connection.exec_driver_sql(statement, tuple(row.values()))
        if not database.is_sqlite:
            for table, column, value in (("traces", "trace", b"x"), ("replay_texts", "text", "x")):
                connection.exec_driver_sql(
                    f"CREATE TABLE {table}_20261124 PARTITION OF {table}"
                    " FOR VALUES FROM ('2026-11-24') TO ('2026-11-25')"
                )
                connection.exec_driver_sql(
                    f"INSERT INTO {table} (day, message_id, {column}) VALUES ('2026-11-24', 'M1', %s)", (value,)
                )
