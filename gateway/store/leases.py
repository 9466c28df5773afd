"""Leases by name: scheduled work is done by one process of a cluster, whoever has the lease."""

from sqlalchemy import Column, Table, Text

from gateway.store.metadata import METADATA, UtcDateTime

leases = Table(
    "leases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("lease_until", UtcDateTime, nullable=False),
)
