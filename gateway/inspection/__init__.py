"""The facts of one message: policy-independent, bounded, serialisable."""
