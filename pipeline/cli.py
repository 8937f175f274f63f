"""The command line. A command is imported when it is asked for, and what it needs when it runs."""

import gc
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

# Where each command is: of which module which name.
COMMANDS: Mapping[str, str] = {
    "console": "console.console_command",
    "completion": "completion.completion_command",
    "dead-letters": "dead_letters.dead_letters_command",
    "history": "report.history_command",
    "deploy": "deploy.deploy_command",
    "explain": "explain.explain_command",
    "doctor": "doctor.doctor_command",
    "init": "init.init_command",
    "local": "local.local_command",
    "metrics": "metrics.metrics_command",
    "notify": "notify.notify_command",
    "plan": "plan.plan_command",
    "preview": "preview.preview_command",
    "recover": "verify.recover_command",
    "replay": "run.replay_command",
    "report": "report.report_command",
    "run": "run.run_command",
    "schedule": "schedule.schedule_command",
    "schema": "schema.schema_command",
    "search": "search.search_command",
    "sources": "sources.sources_command",
    "status": "status.status_command",
    "validate": "validate.validate_command",
    "verify": "verify.verify_command",
    "watch": "watch.watch_command",
}


class Commands(click.Group):
    """The commands of `COMMANDS`."""

    def main(self, *arguments: Any, **named: Any) -> Any:
        if "_MEMSYNC_COMPLETE" in os.environ:  # a shell asks, by the script of `memsync completion`
            import_module("pipeline.commands.completing").register()
        return super().main(*arguments, **named)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return sorted(COMMANDS)

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
