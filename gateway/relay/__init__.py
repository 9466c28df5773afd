"""The SMTP core: listener, gate, intake, the policy in force, delivery, scheduled work, processes."""
