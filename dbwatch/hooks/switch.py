"""The switch of all hooks. They are installed once and never removed; switched off, they do nothing."""


class Switch:
    """``on`` is read at the start of every attempt: off, no record is made, and without a record no hook acts."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = False


SWITCH = Switch()
