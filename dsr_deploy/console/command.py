"""How every command runs, whatever it does."""

from __future__ import annotations

from typing import Any

import click

from dsr_deploy.console import environment, failures
from dsr_deploy.console.interrupt import interruptible
from dsr_deploy.errors import UserError
from dsr_deploy.parallel.rank import this_rank

SHARED = ("train", "simulate")
"""Commands that several processes do together."""


class Stage(click.Command):
    """A command that stops at Ctrl-C and says in a line what the machine made fail.

    It refuses to do several times at once what processes cannot share.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, whose options are right."""
        world = this_rank().world
        if world > 1 and self.name not in SHARED:
            raise UserError(
                f"{world} processes were started for `{ctx.command_path}`, which is the work of "
                f"one; start it without torchrun, which serves {' and '.join(SHARED)}"
            )
        environment.check()
        try:
            with interruptible():
                return super().invoke(ctx)
        except Exception as error:
            line = failures.explain(error, [str(option.name) for option in self.params])
            if line is None:
                raise
            raise UserError(line) from error


class Stages(click.Group):
    """Lists its commands in the order in which they are used."""

    command_class = Stage

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of their definition."""
        return list(self.commands)
