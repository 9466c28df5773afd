"""What mail is, by its standards: addresses, envelope, fields, notifications, replies. Bytes in, bytes out; no I/O."""
