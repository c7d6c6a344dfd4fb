"""What stands in for serving, in tests of the command line."""

from __future__ import annotations

from typing import Any

from fastserve import cli
from fastserve.settings import Settings, declared_options, option_groups, option_name


class Serving:
    """settings: what it was called with, if it was."""

    def __init__(self) -> None:
        self.settings: Settings | None = None

    def __call__(self, settings: Settings) -> int:
        self.settings = settings
        return 0

    def option(self, *argv: str, name: str) -> Any:
        """Run the command, which must serve, and return the value of an option."""
        assert cli.main(argv) == 0
        assert self.settings is not None
        for group_name, group in option_groups():
            for field, declared in declared_options(group):
                if option_name(declared) == name:
                    return getattr(getattr(self.settings, group_name), field)
        raise LookupError(name)
