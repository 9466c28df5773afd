"""The fields that a rule may ask about: one module a group, one registered function a field."""
