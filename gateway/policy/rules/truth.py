"""Three-valued logic (Kleene's strong one): True, False, and None for what cannot be told. Unknown is not false."""

from collections.abc import Callable, Sequence

from gateway.policy.rules.view import View

Truth = bool | None
Tree = Callable[[View], Truth]


def all_of(trees: Sequence[Tree]) -> Tree:
    """False as soon as one is false, unknown if one is unknown, else true; of nothing: true."""
    if len(trees) == 1:
        return trees[0]

    def judge(view: View) -> Truth:
        outcome: Truth = True
        for tree in trees:
            truth = tree(view)
            if truth is False:
                return False
            if truth is None:
                outcome = None
        return outcome

    return judge


def any_of(trees: Sequence[Tree]) -> Tree:
    """True as soon as one is true, unknown if one is unknown, else false; of nothing: false."""
    if len(trees) == 1:
        return trees[0]

    def judge(view: View) -> Truth:
        outcome: Truth = False
        for tree in trees:
            truth = tree(view)
            if truth is True:
                return True
            if truth is None:
                outcome = None
        return outcome

    return judge


def negated(tree: Tree) -> Tree:
    def judge(view: View) -> Truth:
        truth = tree(view)
        return None if truth is None else not truth

    return judge


def always(view: View) -> Truth:
    return True
