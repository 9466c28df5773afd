"""What alembic runs for each command: the migrations on the connection that `gateway.store.schema` opened.

One transaction around all of them, on SQLite as well: a schema is either the old one or the new one.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
