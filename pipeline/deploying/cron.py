"""A crontab."""

import shlex

from pipeline.deploying.calendars import debian_cron
from pipeline.deploying.plan import Deployment, GeneratedFile, Source, comment
from pipeline.errors import ConfigurationError
from pipeline.timetable import delay_of

# Says something, which cron sends by mail, unless the run ended in sync, or another one was at it.
LINE = 'out=$({command} 2>&1); code=$?; [ $code = 0 ] || [ $code = 5 ] || echo "$out"'


def cron_files(deployment: Deployment) -> list[GeneratedFile]:
    """One file with all lines.

    Raises:
        ConfigurationError: cron has no words for a schedule, or for the name of a file.
    """
    if deployment.is_service:
        raise ConfigurationError(
            "cron starts runs and keeps nothing up: --service is for systemd, kubernetes and ecs. Nothing was written."
        )
    head = comment(
        "To install it, add it to what `crontab -e` shows. No lock around it is needed: memsync never runs a source",
        "twice at once. What a run says is sent by mail if the source is not in sync after it.",
    )
    if any(source.settings.schedule_zone for source in deployment.sources):
        head += comment(
            "CRON_TZ is the time zone of the lines below it, for cronie. Debian's cron does not know it, and takes the",
            "zone of the machine.",
        )
    variables = "".join(f"{variable}=\n" for variable in deployment.variables)
    secrets = comment("The secrets of these sources; a crontab is readable by its owner only.") + variables
    mail = f"MAILTO={deployment.mail_to}\n" if deployment.mail_to else comment("MAILTO=you@example.org")
    # A zone holds for all lines below it: those without one come first.
    in_order = sorted(deployment.sources, key=lambda source: source.settings.schedule_zone is not None)
    body = "\n".join(_lines(deployment, source) for source in in_order)
    return [GeneratedFile("memsync.crontab", f"{head}{mail}{secrets if variables else ''}\n{body}")]


def _lines(deployment: Deployment, source: Source) -> str:
    settings = source.settings
    times = source.said(lambda: debian_cron(source.schedule), "cron")
    # What is behind % would be the input of the command.
    command = shlex.join([*deployment.program, "run", str(settings.file)]).replace("%", "\\%")
    if "\n" in command:
        raise ConfigurationError("a line of cron cannot name this file; rename it", path=str(settings.file))
    delay_s = delay_of(source.name, settings.schedule_jitter_s)
    wait = f"sleep {delay_s}; " if delay_s else ""
    lines = comment(f"{source.name}: {source.schedule}")
    if settings.schedule_zone:
        lines += f"CRON_TZ={settings.schedule_zone}\n"
    return f"{lines}{times}  {wait}{LINE.format(command=command)}\n"
