"""What every command does around its own work."""

from __future__ import annotations

from typing import Any

import click

from dsr_deploy.console import environment, failures
from dsr_deploy.console.interrupt import interruptible
from dsr_deploy.errors import UserError
from dsr_deploy.parallel.rank import this_rank

SHARED = ("train", "simulate")
"""Commands that several processes can share."""


class Stage(click.Command):
    """A command that stops at Ctrl-C and reports failures of the machine in one line.

    Only the commands in :data:`SHARED` run in several processes.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, after its options were parsed."""
        world = this_rank().world
        if world > 1 and self.name not in SHARED:
            raise UserError(
                f"{world} processes were started for `{ctx.command_path}`, which runs in one; "
                f"start it without torchrun, which is for {' and '.join(SHARED)}"
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
    """List the commands in the order in which they are used."""

    command_class = Stage

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of their definition."""
        return list(self.commands)
