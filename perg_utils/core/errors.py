"""Errors meant for the person at the keyboard: the text says what is wrong, the value got, and the cure."""


class PergError(Exception):
    """A mistake the user can mend (profile, file, key, server). Shown without a traceback, exit status 2."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook: name and message, no frames."""
        return [f"{type(self).__name__}: {self}"]


class DataError(PergError):
    """An input row, file or count is not what the schema says."""
