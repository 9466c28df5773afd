"""The database: one file for each subject, with its tables and every query on them. Nobody else imports sqlalchemy.

Functions that take a `Database` open their own transaction. Functions that take a `Connection` belong into somebody's
transaction. Whatever is wrong with the database itself comes out as `database.DatabaseAway`.
"""
