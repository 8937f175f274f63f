"""`memsync completion`."""

import click

from pipeline.commands.shared import end_with

SHELLS = ("bash", "fish", "zsh")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print what makes a shell complete memsync's commands.

    \b
    bash: memsync completion bash > ~/.local/share/bash-completion/completions/memsync
    zsh:  memsync completion zsh > ~/.zfunc/_memsync   (a folder in $fpath)
    fish: memsync completion fish > ~/.config/fish/completions/memsync.fish

    It completes commands, options, YAML files, the names of sources, the types of sources, and the documents that are
    dead letters. Bash has to be 4.4 or later.
    """
    from pipeline.commands.completing import script

    def work() -> int:
        click.echo(script(shell, click.get_current_context().find_root().command), nl=False)
        return 0

    end_with(work)
