"""The one exception that reaches a user: what is wrong, where, and how to mend it."""


class InputError(Exception):
    """A mistake in what the user gave us (a key, a file, a line, a model), never a bug of ours.

    The command line prints it without a traceback and exits with code 2.

    Args:
        where: file, ``file:line``, config key or model that is wrong.
        problem: what was found there and what was expected.
        mend: what to do about it.
    """

    def __init__(self, where: object, problem: str, mend: str) -> None:
        super().__init__(f"{where}: {problem}\n  mend: {mend}")
        self.where = str(where)
        self.problem = problem
        self.mend = mend
