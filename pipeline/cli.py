"""The command line. A command is imported when it is asked for, and what it needs when it runs."""

import gc
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

# The commands in the order in which people need them; of each, where it is: of which module which name.
SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Set up": {
        "init": "init.init_command",
        "sources": "sources.sources_command",
        "validate": "validate.validate_command",
        "explain": "explain.explain_command",
        "schema": "schema.schema_command",
        "doctor": "doctor.doctor_command",
        "completion": "completion.completion_command",
    },
    "Sync": {
        "preview": "preview.preview_command",
        "plan": "plan.plan_command",
        "run": "run.run_command",
        "search": "search.search_command",
        "schedule": "schedule.schedule_command",
        "watch": "watch.watch_command",
        "deploy": "deploy.deploy_command",
    },
    "See how it goes": {
        "status": "status.status_command",
        "history": "report.history_command",
        "report": "report.report_command",
        "console": "console.console_command",
        "metrics": "metrics.metrics_command",
        "notify": "notify.notify_command",
    },
    "Put right": {
        "dead-letters": "dead_letters.dead_letters_command",
        "replay": "run.replay_command",
        "verify": "verify.verify_command",
        "recover": "verify.recover_command",
    },
    "Rehearse": {
        "local": "local.local_command",
    },
}
COMMANDS: Mapping[str, str] = {name: place for section in SECTIONS.values() for name, place in section.items()}


class Commands(click.Group):
    """The commands of `SECTIONS`."""

    def main(self, *arguments: Any, **named: Any) -> Any:
        if "_MEMSYNC_COMPLETE" in os.environ:  # a shell asks, by the script of `memsync completion`
            import_module("pipeline.commands.completing").register()
        return super().main(*arguments, **named)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        room = formatter.width - 6 - max(map(len, COMMANDS))  # click's, beside the longest name
        for title, section in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in section]
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (name.ljust(max(map(len, COMMANDS))), command.get_short_help_str(room))
                        for name, command in commands
                        if command is not None
                    ]
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches  # noqa: PLC0415 - who types well need not wait for it

            near = get_close_matches(args[0], COMMANDS, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(".")
        found = getattr(import_module(f"pipeline.commands.{module}"), name)
        assert isinstance(found, click.Command)
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="agentcore-memory-sync", message="%(prog)s %(version)s")
def main() -> None:
    """Keep an agent's memory in Amazon Bedrock AgentCore equal to a set of documents.

    PATH is a YAML file that describes a source, or a folder of them.

    Exit codes: 0 in sync, 1 failed, 2 usage or configuration, 3 done with dead letters outstanding, 4 deletions
    withheld by the guard, 5 another run holds the source, 130 and 143 interrupted.
    """
    os.umask(0o077)  # state, outbox and dead letters hold documents: they are their owner's alone
    gc.set_threshold(20_000)  # what flows through forms no circles: looking for them so often costs a tenth of a run
