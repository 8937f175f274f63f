"""Units for systemd: a timer for each source, or one service that looks at the clock itself."""

import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from pipeline.configuration.settings import SourceSettings
from pipeline.deploying.calendars import on_calendar
from pipeline.deploying.plan import RUNS_AT_ONCE, STOP_S, Deployment, GeneratedFile, Source, comment
from pipeline.timetable import Timetable

UNITS = "/etc/systemd/system"
SECRETS = "/etc/memsync"
TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - what PrivateTmp hides

# What is not needed is not had. Documents are read wherever they are; written are the state and the dead letters.
HARDENING = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
ProtectProc=invisible
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
"""


RARE_S = 3600
TIMES_LOOKED_AT = 100
LIMIT = """\
StartLimitIntervalSec=30min
StartLimitBurst=4
"""
AGAIN = """\
# A failure is tried again, three times. 2, the configuration, and 4, the guard against mass deletion, are for you to
# look at.
Restart=on-failure
RestartSec=5min
RestartPreventExitStatus=2 4
"""


def systemd_files(deployment: Deployment) -> list[GeneratedFile]:
    """The units.

    Raises:
        ConfigurationError: systemd has no words for a schedule.
    """
    if deployment.is_service:
        return [GeneratedFile("memsync.service", _service(deployment))]
    files = []
    for source in deployment.sources:
        unit = f"memsync-{source.name}"
        files.append(GeneratedFile(f"{unit}.service", _run(deployment, source)))
        files.append(GeneratedFile(f"{unit}.timer", _timer(source)))
    return files


def _timer(source: Source) -> str:
    settings = source.settings
    times = source.said(lambda: on_calendar(source.schedule, settings.schedule_zone), "systemd")
    lines = "\n".join(f"OnCalendar={time}" for time in times)
    return f"""\
{comment(f"When {settings.file} is due: {source.schedule}")}
[Unit]
Description=memsync {source.name}: when it is due

[Timer]
{lines}
AccuracySec=1s
RandomizedDelaySec={settings.schedule_jitter_s}
FixedRandomDelay=yes
Persistent={"yes" if settings.schedule_catch_up else "no"}

[Install]
WantedBy=timers.target
"""


def _run(deployment: Deployment, source: Source) -> str:
    unit = f"memsync-{source.name}"
    secrets = f"{SECRETS}/{source.name}.env"
    head = comment(
        f"A run of {source.settings.file}; {unit}.timer starts it.",
        "",
        *_instructions(deployment, [source], f"{unit}.*", f"{unit}.timer", secrets),
        f"  systemctl start {unit}.service       # runs it now",
        f"  journalctl -u {unit}.service -e      # what it said",
    )
    # Each start counts, also those of the timer: where they come often, the next one is soon enough.
    limit, again = (LIMIT, AGAIN) if _shortest_wait_s(source) >= RARE_S else ("", "")
    return f"""\
{head}
[Unit]
Description=memsync {source.name}: make the agent's memory equal to its documents
Wants=network-online.target
After=network-online.target
{limit}
[Service]
Type=oneshot
ExecStart={_words([*deployment.program, "run", str(source.settings.file)])}
# 3: done, dead letters wait for you. 5: another run is at it. 143: it was stopped, and the next one carries on.
SuccessExitStatus=3 5 143
{again}{_surroundings(deployment, [source], secrets)}"""


def _service(deployment: Deployment) -> str:
    secrets = f"{SECRETS}/memsync.env"
    files = [str(source.settings.file) for source in deployment.sources]
    head = comment(
        "Runs these sources when they are due: " + ", ".join(source.name for source in deployment.sources),
        "",
        *_instructions(deployment, deployment.sources, "memsync.service", "memsync.service", secrets),
        "  systemctl reload memsync.service     # reads the YAML files again",
        "  journalctl -u memsync.service -e     # what it said",
    )
    return f"""\
{head}
[Unit]
Description=memsync: make the agent's memory equal to its documents
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart={_words([*deployment.program, "schedule", *files])}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=30
RestartPreventExitStatus=2
# Of all that runs here, the kernel may kill a run that needs too much memory: the others go on.
OOMPolicy=continue
{_surroundings(deployment, deployment.sources, secrets)}
[Install]
WantedBy=multi-user.target
"""


def _instructions(
    deployment: Deployment, sources: Sequence[Source], units: str, to_enable: str, secrets: str
) -> list[str]:
    variables = list(dict.fromkeys(variable for source in sources for variable in source.variables))
    lines = [
        f"It runs as {deployment.user}, who must be able to read the YAML file and the documents, and to write in",
        *(f"  {folder}" for folder in _written(sources)),
        "To install it, as root:",
    ]
    if variables:
        lines += [
            f"  install -D -m 600 /dev/null {secrets}",
            f"  editor {secrets}   # a line NAME=value for {', '.join(variables)}",
        ]
    return [
        *lines,
        f"  install -m 644 {units} {UNITS}/",
        "  systemctl daemon-reload",
        f"  systemctl enable --now {to_enable}",
    ]


def _surroundings(deployment: Deployment, sources: Sequence[Source], secrets: str) -> str:
    folders = [path for source in sources for path in _folders(source)]
    is_temporary = any(str(path).startswith(tuple(f"{each}/" for each in TEMPORARY)) for path in folders)
    lines = [
        # Only memsync is told to stop, and tells those that it has started; what is left after that is killed.
        "KillMode=mixed",
        f"TimeoutStopSec={STOP_S}",
        *(["TimeoutStartSec=infinity"] if not deployment.is_service else []),
        f"User={deployment.user}",
        f"EnvironmentFile=-{secrets}",
        f"MemoryMax={deployment.memory_mib * (RUNS_AT_ONCE if deployment.is_service else 1)}M",
        "Nice=10",
        f"ReadWritePaths={_words(_written(sources))}",
        f"PrivateTmp={'no' if is_temporary else 'yes'}",
    ]
    return "\n".join(lines) + "\n" + HARDENING


def _shortest_wait_s(source: Source) -> float:
    """The shortest time between two of the next times that the source is due."""
    timetable, moment = Timetable(source.schedule), 0.0
    times = [moment := timetable.due_after(moment) for _ in range(TIMES_LOOKED_AT)]
    return min(later - earlier for earlier, later in pairwise(times))


def _folders(source: Source) -> list[Path]:
    found = [source.settings.file, *_outputs(source.settings)]
    return [*found, *([source.documents] if source.documents is not None else [])]


def _written(sources: Sequence[Source]) -> list[str]:
    """The folders that are written to, as far as they are there already: systemd makes none."""
    found = {_nearest(path.parent) for source in sources for path in _outputs(source.settings)}
    return sorted(str(folder) for folder in found if not found.intersection(folder.parents))


def _outputs(settings: SourceSettings) -> list[Path]:
    """What runs write, each in a folder that exists or that they make."""
    metrics = settings.prometheus_path
    always = [settings.state_folder, settings.dead_letters_path, settings.reports_folder]
    return [*always, *([metrics] if metrics is not None else [])]


def _nearest(folder: Path) -> Path:
    folder = Path(os.path.normpath(folder))
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def _words(words: Sequence[str]) -> str:
    """Words as they stand in a unit: `%` and `$` would stand for something else, a space would part them."""
    return " ".join(map(_word, words))


def _word(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    escaped = re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", escaped)
    return escaped if re.fullmatch(r"[\w@%+=:,./-]+", escaped) else f'"{escaped}"'
