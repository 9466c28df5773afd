"""The web surfaces: pages only. No SQL and no commit here, and nothing of the relay."""
