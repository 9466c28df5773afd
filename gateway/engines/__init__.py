"""Answers from outside to the questions of a judgement: the only network input and output that a judgement has."""
