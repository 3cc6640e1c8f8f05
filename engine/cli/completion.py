"""`engine completion SHELL`: the script by which a shell completes names with this program."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from engine.cli.common import json_option, print_json
from engine.errors import EngineError

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print the script by which SHELL completes commands, options and names of profiles, runs and models.

    \b
    bash  source <(engine completion bash)     in ~/.bashrc
    zsh   source <(engine completion zsh)      in ~/.zshrc, below compinit
    fish  engine completion fish | source      in ~/.config/fish/config.fish
    """
    from engine.cli import PROGRAM, cli

    kind = get_completion_class(shell)
    if kind is None:
        raise EngineError(f"click has no completion for {shell}", hint=f"choose one of {', '.join(_SHELLS)}")
    script = kind(cli, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source()
    print_json({"shell": shell, "script": script}) if as_json else click.echo(script.rstrip("\n"))
