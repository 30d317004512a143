"""The root command. It knows the names of its verbs, and imports a verb only when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from .. import __version__

VERBS = {
    "init": "Write a starter stack file.",
    "validate": "Check the stack file.",
    "lock": "Pin what the stack is made of in stack.lock.yaml.",
    "size": "Tell whether the model fits, and on what.",
    "cost": "Show what the stack costs.",
    "plan": "Show what apply would do.",
    "apply": "Make it so.",
    "destroy": "Remove everything that apply made.",
    "show": "Show what exists, as the state has it, or a saved plan.",
    "output": "Print the stack's outputs: endpoint, model, key files.",
    "graph": "Print what depends on what.",
    "state": "Look into the state, and mend what no plan can.",
    "keys": "List, rotate and revoke API keys.",
    "status": "Look at everything that exists and tell how it is.",
    "audit": "Prove that what was applied keeps to its profiles.",
    "logs": "Show the logs of engine and gateway.",
    "catalog": "Show what is known of models, machines and prices.",
    "compliance": "Show what compliance profiles demand, and who says so.",
    "schema": "Print the JSON Schema of the stack file.",
    "version": "Print the version.",
}


class Verbs(TyperGroup):
    """A group whose commands are the modules of this package.

    Contexts and completion items have private types in typer, which differ between its versions: hence `Any`.
    """

    _outline = False
    """Whether names and summaries are enough: for `--help` and for completing a verb's name."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the verbs in the order of their use."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a verb, imported now; None when there is no such verb."""
        del ctx
        if cmd_name not in VERBS:
            return None
        if self._outline:
            return TyperCommand(cmd_name, help=VERBS[cmd_name])
        return get_command(import_module(f"{__package__}.{cmd_name}").app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of verbs, without importing one."""
        self._outline = True
        super().format_commands(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete a verb's name, without importing one."""
        self._outline = True
        return super().shell_complete(ctx, incomplete)


def root() -> Any:
    """Return the command `llmdeploy`."""
    app = typer.Typer(
        cls=Verbs,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Terraform for self-hosted LLMs: a stack file, a plan, and an HTTPS endpoint with keys.",
    )
    app.callback()(_root)
    return get_command(app)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"llmdeploy {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)] = False,
) -> None:
    del version
