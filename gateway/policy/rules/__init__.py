"""The operator's own filters: rules, from their one schema to the closures that judge a message. No I/O."""
