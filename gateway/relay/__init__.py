"""The SMTP core and what keeps it going: listener, gate, intake, policy in force, delivery, scheduled work, processes."""
