"""The database's schema, step by step: one migration for one purpose, up and down, on SQLite and PostgreSQL.

They are run by `gateway.store.schema` (`gatepost migrate`), which brings the connection. They import nothing of ours.
"""
