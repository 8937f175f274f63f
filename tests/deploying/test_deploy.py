"""What `memsync deploy` prints is taken by those that it is for, and says what the configuration says."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cronsim import CronSim

from pipeline.commands.schedule import schedule_command
from pipeline.configuration.loading import load_sources
from pipeline.deploying.lambda_handler import handle
from pipeline.deploying.plan import RUNS_AT_ONCE, STOP_S, Deployment, sources_to_deploy
from pipeline.deploying.renderers import RENDERERS
from pipeline.errors import ConfigurationError

KUBERNETES_VERSION = "1.34"
DESTINATION = {"type": "agentcore", "memory_id": "handbook-a1B2c3D4e5", "region": "eu-central-1"}
WIKI = {
    "name": "Wiki_pages",
    "source": {"type": "sql", "url_variable": "WIKI_URL", "table": "pages", "id": "id", "text": ["body"]},
    "destination": DESTINATION,
    "schedule": "15 6,18 * * 1-5",
    "schedule_zone": "Europe/Berlin",
}
BUCKET = {"source": {"type": "s3", "bucket": "handbook"}, "destination": DESTINATION, "schedule": "*/30 * * * *"}
FOLDER = {"source": {"type": "filesystem", "path": "docs"}, "destination": DESTINATION, "schedule": "0 3 1,15 * 1"}

Json = dict[str, Any]


def wiki_at(url: str) -> Json:
    return {**WIKI, "source": {"type": "sql", "url": url, "table": "pages", "id": "id", "text": ["body"]}}


def write(below: Path, /, **files: Json) -> list[str]:
    """YAML files by their stems; returns their paths."""
    below.mkdir(parents=True, exist_ok=True)
    for stem, settings in files.items():
        (below / f"{stem}.yaml").write_text(json.dumps(settings))
    return [str(below / f"{stem}.yaml") for stem in files]


PROGRAM = Path(sys.executable).with_name("memsync")


def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command as a user types it."""
    return subprocess.run([PROGRAM, "deploy", *arguments], capture_output=True, encoding="utf-8", check=False)


def deploy(kind: str, *paths: str, service: bool = False, **options: Any) -> dict[str, str]:
    """The files by their names, as the command makes them of these options."""
    sources, _ = sources_to_deploy(load_sources([Path(path) for path in paths]))
    deployment = Deployment(
        sources, service, [str(PROGRAM)], version="1.2", image="memsync:1.2", memory_mib=1024, user="daemon", **options
    )
    return {file.name: file.text for file in RENDERERS[kind](deployment)}


def only(files: dict[str, str]) -> str:
    (text,) = files.values()
    return text


def refusal(kind: str, *paths: str, service: bool = False) -> str:
    with pytest.raises(ConfigurationError) as refused:
        deploy(kind, *paths, service=service)
    return str(refused.value)


# ------------------------------------------------------------------------------------------------- systemd

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def verify_units(units: dict[str, str], folder: Path) -> None:
    """Have systemd itself read them: it tells of unknown keys, values that it cannot read, and programs not there."""
    folder.mkdir()
    for name, text in units.items():
        (folder / name).write_text(text)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(folder / name for name in units)],
        capture_output=True,
        text=True,
        check=False,
    )
    about_ours = [line for line in verified.stderr.splitlines() if "memsync" in line]
    assert (verified.returncode, about_ours) == (0, []), verified.stderr


@needs_systemd
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """A unit with a typo is loaded all the same, without what the typo was about."""
    paths = write(tmp_path, wiki=WIKI, bucket=BUCKET, folder=FOLDER)

    files = deploy("systemd", *paths)

    assert len(files) == 6
    verify_units(files, tmp_path / "units")
    assert files["memsync-folder.timer"].count("OnCalendar=") == 2
    assert "WIKI_URL" in files["memsync-Wiki_pages.service"]


@needs_systemd
def test_systemd_takes_the_service_that_stays_up(tmp_path: Path) -> None:
    """It reloads, it stops cleanly, and one run that the kernel kills does not stop the others."""
    paths = write(tmp_path, wiki=WIKI, bucket=BUCKET)

    files = deploy("systemd", *paths, service=True)

    verify_units(files, tmp_path / "units")
    assert "OOMPolicy=continue" in only(files)
    assert all(path in only(files) for path in paths)


def test_a_failure_is_tried_again_only_where_the_next_time_is_far(tmp_path: Path) -> None:
    """systemd counts every start, also the timer's: with a limit, a source that is due often would soon not be run."""
    units = deploy("systemd", *write(tmp_path, bucket=BUCKET, wiki=WIKI))

    often, rare = units["memsync-bucket.service"], units["memsync-Wiki_pages.service"]
    assert "StartLimit" not in often
    assert "Restart=" not in often
    assert "StartLimitBurst=4" in rare
    assert "RestartPreventExitStatus=2 4" in rare


@needs_systemd
def test_the_units_are_hardened(tmp_path: Path) -> None:
    """A program that reads documents from everywhere should be able to do as little as possible: 10 is unprotected."""
    unit = tmp_path / "memsync.service"
    unit.write_text(deploy("systemd", *write(tmp_path, bucket=BUCKET))["memsync-bucket.service"])

    rated = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=yes",
            "--threshold=30",
            str(unit),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert rated.returncode == 0, rated.stdout


@needs_systemd
def test_odd_names_of_folders_are_kept_whole(tmp_path: Path) -> None:
    """A space parts arguments, and % and $ stand for something else, in systemd as in a shell and in cron."""
    odd = tmp_path / "a b%n$HOME\"q'\\x"
    (path,) = write(odd, bucket=BUCKET)

    units = deploy("systemd", path)

    verify_units(units, tmp_path / "units")
    line = next(line for line in only(deploy("cron", path)).splitlines() if line.startswith("0,30 "))
    inner = re.search(r"out=\$\((.*) 2>&1\)", line)
    assert inner
    assert shlex.split(inner[1].replace("\\%", "%"))[-1] == path
    assert 'b%%n$$HOME\\"q' in units["memsync-bucket.service"]


def test_a_line_break_in_a_name_cannot_become_a_line_of_a_unit(tmp_path: Path) -> None:
    """Whoever may name a folder must not name what root runs."""
    (path,) = write(tmp_path / "x\nExecStartPre=/bin/evil\n", bucket=BUCKET)

    for files in (deploy("systemd", path), deploy("systemd", path, service=True), deploy("kubernetes", path)):
        lines = [line.strip() for text in files.values() for line in text.splitlines()]
        assert not any(line.startswith("ExecStartPre") for line in lines)
    assert "a line of cron cannot name this file" in refusal("cron", path)


# ---------------------------------------------------------------------------------------------------- cron


def test_a_crontab_has_lines_that_cron_reads(tmp_path: Path) -> None:
    """Five fields and a command, and zones only over the lines that they are meant for."""
    paths = write(tmp_path, wiki=WIKI, bucket=BUCKET, folder=FOLDER)

    lines = only(deploy("cron", *paths, mail_to="ops@example.org")).splitlines()

    jobs = [line for line in lines if line and line[0].isdigit()]
    assert len(jobs) == 3
    for job in jobs:
        CronSim(" ".join(job.split()[:5]), datetime(2026, 1, 1, tzinfo=UTC))
    assert lines.index("CRON_TZ=Europe/Berlin") > lines.index(jobs[1])
    assert "MAILTO=ops@example.org" in lines
    assert "WIKI_URL=" in lines


def test_what_cron_runs_is_silent_when_all_is_well_and_says_what_is_wrong(tmp_path: Path) -> None:
    """Mail for every run is read by nobody."""
    local = {**FOLDER, "destination": {"type": "agentcore", "endpoint_url": "local"}, "schedule_jitter_s": 0}
    (path,) = write(tmp_path, local=local)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\nOne.\n")
    line = next(line for line in only(deploy("cron", path)).splitlines() if line and line[0].isdigit())
    command = line.split(maxsplit=5)[5]

    well = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    shutil.move(tmp_path / "docs", tmp_path / "moved")
    ill = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)

    assert (well.stdout, well.stderr) == ("", "")
    assert "failed" in ill.stdout


# ---------------------------------------------------------------------------------------------- Kubernetes


def manifests(text: str) -> list[Json]:
    found = list(yaml.safe_load_all(text))
    for manifest in found:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)
    return found


def of_kind(found: list[Json], kind: str) -> list[Json]:
    return [manifest for manifest in found if manifest["kind"] == kind]


def test_kubernetes_takes_the_manifests(tmp_path: Path) -> None:
    """A field that it does not know is dropped in silence, and with it what the field was for."""
    paths = write(tmp_path, wiki=WIKI, bucket=BUCKET, folder=FOLDER)

    found = manifests(only(deploy("kubernetes", *paths, role_arn="arn:aws:iam::1:role/x")))

    jobs = of_kind(found, "CronJob")
    assert [job["spec"]["schedule"] for job in jobs] == ["15 6,18 * * 1-5", "0,30 * * * *", "0 3 1,15 * 1"]
    assert [job["spec"].get("timeZone") for job in jobs] == ["Europe/Berlin", None, None]
    assert {job["spec"]["concurrencyPolicy"] for job in jobs} == {"Forbid"}
    for job in jobs:
        pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert pod["securityContext"]["runAsNonRoot"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    secret = jobs[0]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [each["name"] for each in secret] == ["WIKI_URL"]
    assert len({manifest["metadata"]["name"] for manifest in of_kind(found, "ConfigMap")}) == 3


def test_pods_are_given_a_role_for_aws_only_if_they_ask_it(tmp_path: Path) -> None:
    """Who tries it out with a memory that is no AWS's would make a role for nothing."""
    local = {"destination": {"type": "agentcore", "endpoint_url": "local"}}
    paths = write(
        tmp_path,
        aws=FOLDER,
        local={**FOLDER, **local},
        local_of_bucket={**BUCKET, **local},
        local_with_secret={**wiki_at("${aws-sm:wiki}"), **local},
    )

    asked = [path for path in paths if "AWS credentials" in only(deploy("kubernetes", path))]

    assert [Path(path).stem for path in asked] == ["aws", "local_of_bucket", "local_with_secret"]


def test_kubernetes_takes_the_set_that_stays_up(tmp_path: Path) -> None:
    """With the probes that the scheduler answers."""
    paths = write(tmp_path, wiki=WIKI, bucket=BUCKET, folder=FOLDER)

    found = manifests(only(deploy("kubernetes", *paths, service=True)))

    (kept,) = of_kind(found, "StatefulSet")
    (container,) = kept["spec"]["template"]["spec"]["containers"]
    assert container["args"][:2] == ["schedule", "/etc/memsync"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert kept["spec"]["replicas"] == 1
    (files,) = of_kind(found, "ConfigMap")
    assert len(files["data"]) == 3


def test_the_configuration_that_is_carried_along_is_valid_and_the_same(tmp_path: Path) -> None:
    """Only the folders change: another name, or another recipe, would create every record anew."""
    odd = {
        **BUCKET,
        "name": "1e3",
        "record": {"metadata": {"a": "0o17", "b": "1e3", "c": "yes", "d": "~", "e": "x: y"}},
    }
    folder = {**FOLDER, "dead_letters": {"path": "letters.jsonl"}, "destination": {**DESTINATION, "profile": "mine"}}
    paths = write(tmp_path, odd=odd, folder=folder)

    found = manifests(only(deploy("kubernetes", *paths)))

    originals = load_sources([Path(path) for path in paths])
    for original, files in zip(originals, of_kind(found, "ConfigMap"), strict=True):
        ((name, text),) = files["data"].items()
        (tmp_path / "carried").mkdir(exist_ok=True)
        (tmp_path / "carried" / name).write_text(text)
        (carried,) = load_sources([tmp_path / "carried" / name])
        assert carried.name == original.name
        assert carried.record == original.record
        assert carried.destination.profile is None
        assert carried.state_folder == Path("/var/lib/memsync") / original.name
        assert carried.dead_letters_path.parent == carried.state_folder
    assert carried.source.model_dump()["path"] == Path("/documents/folder")


def test_what_a_file_extends_is_carried_along_in_it(tmp_path: Path) -> None:
    """The image and the ConfigMap have no other file: no run would come further than to that."""
    (tmp_path / "shared").mkdir()
    shared = {key: value for key, value in FOLDER.items() if key != "destination"}
    (tmp_path / "shared" / "base.yaml").write_text(json.dumps(shared))
    paths = write(tmp_path / "sources", child={"extends": "../shared/base.yaml", "destination": DESTINATION})

    (files,) = of_kind(manifests(only(deploy("kubernetes", *paths))), "ConfigMap")

    (tmp_path / "child.yaml").write_text(files["data"]["child.yaml"])
    (carried,) = load_sources([tmp_path / "child.yaml"])
    assert carried.schedule == FOLDER["schedule"]
    assert carried.source.model_dump()["path"] == Path("/documents/child")


def test_what_runs_leave_behind_goes_where_they_may_write(tmp_path: Path) -> None:
    """The root file system of a container can only be read."""
    left = {"reports": {"path": "reports"}, "telemetry": {"prometheus_file": "{source}.prom"}}
    paths = write(tmp_path, folder={**FOLDER, **left})

    (files,) = of_kind(manifests(only(deploy("kubernetes", *paths))), "ConfigMap")

    (tmp_path / "carried.yaml").write_text(files["data"]["folder.yaml"])
    (carried,) = load_sources([tmp_path / "carried.yaml"])
    assert carried.reports_folder.is_relative_to(carried.state_folder)
    assert carried.prometheus_path is None


def test_a_unit_may_write_reports_and_metrics(tmp_path: Path) -> None:
    """`ProtectSystem=strict` refuses what is not named: a run would leave no report, and no metrics."""
    for folder in ("reports", "metrics"):
        (tmp_path / folder).mkdir()
    left = {
        "reports": {"path": str(tmp_path / "reports")},
        "telemetry": {"prometheus_file": str(tmp_path / "metrics" / "{source}.prom")},
    }
    paths = write(tmp_path / "sources", folder={**FOLDER, **left})

    unit = deploy("systemd", *paths)["memsync-folder.service"]

    (written,) = [line for line in unit.splitlines() if line.startswith("ReadWritePaths=")]
    assert written == f"ReadWritePaths={tmp_path}/metrics {tmp_path}/reports {tmp_path}/sources"


def test_the_variables_that_references_need_are_among_the_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod without them could not read its own settings."""
    monkeypatch.setenv("DOCUMENTS", str(tmp_path / "docs"))
    folder = {**FOLDER, "source": {"type": "filesystem", "path": "${env:DOCUMENTS}"}}
    paths = write(tmp_path, folder=folder, wiki=wiki_at("postgresql://a:${env:WIKI_PASSWORD}@db/wiki"))

    found = manifests(only(deploy("kubernetes", *paths)))

    folder_pod, wiki_pod = (job["spec"]["jobTemplate"]["spec"]["template"]["spec"] for job in of_kind(found, "CronJob"))
    assert [each["name"] for each in wiki_pod["containers"][0]["env"]] == ["WIKI_PASSWORD"]
    assert "/documents/folder" in [mount["mountPath"] for mount in folder_pod["containers"][0]["volumeMounts"]]
    assert f"ReadWritePaths={tmp_path}" in deploy("systemd", paths[0])["memsync-folder.service"]


def test_a_task_may_read_the_secrets_that_its_source_refers_to(tmp_path: Path) -> None:
    """Each run would fail with access denied."""
    url = "postgresql://${ssm:/wiki/user}:${aws-sm:wiki#password}@db/wiki"

    template = yaml.safe_load(deploy("ecs", *write(tmp_path, wiki=wiki_at(url)))["template.yaml"])

    (policy,) = template["Resources"]["TaskRole"]["Properties"]["Policies"]
    resources = {each["Action"][0]: each["Resource"] for each in policy["PolicyDocument"]["Statement"]}
    account = "*:${AWS::AccountId}"
    assert resources["secretsmanager:GetSecretValue"] == [
        {"Fn::Sub": f"arn:${{AWS::Partition}}:secretsmanager:{account}:secret:wiki-??????"}
    ]
    assert resources["ssm:GetParameter"] == [{"Fn::Sub": f"arn:${{AWS::Partition}}:ssm:{account}:parameter/wiki/user"}]


@pytest.mark.parametrize("kind", ["kubernetes", "ecs", "lambda"])
def test_a_secret_that_only_this_machine_has_is_refused(kind: str, tmp_path: Path) -> None:
    """It would be found out by the first run, elsewhere."""
    (tmp_path / "password").write_text("x")
    (path,) = write(tmp_path, wiki=wiki_at("postgresql://a:${file:password}@db/wiki"))

    message = refusal(kind, path)

    assert "source.url" in message
    assert "${file:password}" in message
    assert "Nothing was written" in message


@pytest.mark.parametrize("kind", ["kubernetes", "cron", "ecs", "lambda"])
def test_a_schedule_for_which_there_are_no_words_is_refused(kind: str, tmp_path: Path) -> None:
    """Nearly the same times would be found out late."""
    (path,) = write(tmp_path, bucket={**BUCKET, "schedule": "0 3 LW * *"})

    message = refusal(kind, path)

    assert message.startswith(f'{path}: `schedule: "0 3 LW * *"` means ')
    assert "--service" in message


# ----------------------------------------------------------------------------------------------------- AWS


def references(value: Any) -> Iterator[str]:
    """The names of what a template refers to."""
    if isinstance(value, dict):
        if "Ref" in value:
            yield value["Ref"]
        if "Fn::GetAtt" in value:
            yield value["Fn::GetAtt"][0]
        if isinstance(value.get("Fn::Sub"), str):
            yield from re.findall(r"\$\{([^}]+)\}", value["Fn::Sub"])
        depends = value.get("DependsOn", [])
        yield from depends if isinstance(depends, list) else [depends]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


@pytest.mark.parametrize(("kind", "service"), [("ecs", False), ("ecs", True), ("lambda", False)])
def test_a_template_is_whole(kind: str, service: bool, tmp_path: Path) -> None:
    """All that it refers to is in it, and all that it asks for is used."""
    paths = write(tmp_path, wiki=WIKI, bucket={**BUCKET, "schedule": "0 3 1,15 * 1"})

    files = deploy(kind, *paths, service=service)

    template = yaml.safe_load(files["template.yaml"])
    referred = {name for name in references(template) if not name.startswith("AWS::")}
    known = {*template["Parameters"], *template["Resources"]}
    assert referred <= known
    assert {*template["Parameters"]} <= referred
    assert "handbook-a1B2c3D4e5" in files["template.yaml"]
    # An image that has its files elsewhere than its command looks for them starts, and fails.
    assert "COPY --chmod=644 sources/ /etc/memsync/\n" in files["Containerfile"]
    assert "{" not in files["Containerfile"].replace("${BASE}", "")
    schedules = [each for each in template["Resources"].values() if each["Type"] == "AWS::Scheduler::Schedule"]
    assert len(schedules) == (0 if service else 3)
    assert {name for name in files if name.startswith("sources/")} == {
        "sources/bucket.yaml",
        f"sources/{next(name for name in files if 'wiki' in name).split('/')[1]}",
    }


def test_a_function_finds_its_file_and_keeps_its_state_where_functions_can(tmp_path: Path) -> None:
    """The image says where containers have their state, and what the environment says wins over the file."""
    files = deploy("lambda", *write(tmp_path, bucket=BUCKET))

    template = yaml.safe_load(files["template.yaml"])
    (function,) = [each for each in template["Resources"].values() if each["Type"] == "AWS::Lambda::Function"]
    variables = function["Properties"]["Environment"]["Variables"]
    (mounted,) = function["Properties"]["FileSystemConfigs"]
    assert variables == {
        "MEMSYNC_FILE": "/etc/memsync/bucket.yaml",
        "MEMSYNC_STATE__PATH": mounted["LocalMountPath"],
    }
    assert "lambda_handler.handle" in files["Containerfile"]


def test_documents_on_this_machine_cannot_be_synced_from_aws(tmp_path: Path) -> None:
    """The container would find an empty folder: the guard would have to save the memory."""
    (path,) = write(tmp_path, folder=FOLDER)

    for kind in ("ecs", "lambda"):
        assert "which AWS does not see" in refusal(kind, path)
    assert "Lambda cannot stay up" in refusal("lambda", *write(tmp_path, bucket=BUCKET), service=True)


class Remaining:
    """The context of an invocation with so much time left."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self._seconds * 1000)


@pytest.fixture
def local_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (path,) = write(tmp_path, local={**FOLDER, "destination": {"type": "agentcore", "endpoint_url": "local"}})
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\nOne.\n")
    monkeypatch.setenv("MEMSYNC_FILE", path)
    return tmp_path


def test_a_function_runs_its_source(local_source: Path) -> None:
    """An invocation is a run; what failed is an error of the function, for its alarms."""
    assert handle({}, Remaining(900)) == {"exit_code": 0}

    shutil.rmtree(local_source / "docs")

    with pytest.raises(RuntimeError, match="exit code 1"):
        handle({}, Remaining(900))


def test_a_function_stops_its_run_before_its_time_is_up(local_source: Path) -> None:
    """Cut off by Lambda, it would be frozen in the middle; stopped, it leaves all in order for the next one."""
    assert handle({}, Remaining(0))["exit_code"] in (128 + signal.SIGTERM, -signal.SIGTERM)  # late or early in its life

    assert handle({}, Remaining(900)) == {"exit_code": 0}


# ------------------------------------------------------------------------------------------ the command line


def test_what_is_deployed_knows_the_defaults_of_the_scheduler() -> None:
    """It gives it memory for as many runs as it starts at once, and more time to stop than it gives them."""
    defaults = {option.name: option.default for option in schedule_command.params}

    assert defaults["concurrency"] == RUNS_AT_ONCE
    assert isinstance(defaults["grace_s"], float)
    assert defaults["grace_s"] < STOP_S


def test_a_memory_on_this_machine_is_not_taken_elsewhere_without_a_word(tmp_path: Path) -> None:
    """`init` begins with such a memory; in a cluster every run would succeed, and no agent find a thing."""
    here = {**BUCKET, "destination": {"type": "agentcore", "endpoint_url": "local"}}
    paths = write(tmp_path, bucket=here)

    said = {kind: call(kind, *paths).stderr for kind in ("systemd", "cron", "kubernetes", "ecs", "lambda")}

    assert {kind for kind, words in said.items() if words} == {"kubernetes", "ecs", "lambda"}
    assert all("bucket writes to a memory on this machine" in words for words in said.values() if words)


def test_files_are_written_where_they_are_wanted_and_shown_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of YAML files may hold some that are run by hand: they are left out, and named."""
    by_hand = {key: value for key, value in BUCKET.items() if key != "schedule"}
    paths = write(tmp_path, bucket=BUCKET, by_hand=by_hand)

    shown = call("ecs", *paths)
    monkeypatch.setenv("MEMSYNC_DESTINATION__REGION", "eu-west-1")
    written = call("ecs", *paths, "--out", str(tmp_path / "out"))

    assert (shown.returncode, written.returncode) == (0, 0)
    assert shown.stderr == "memsync: by_hand has no schedule and is left out.\n"
    assert "MEMSYNC_DESTINATION__REGION is set here, and is not in what follows" in written.stderr
    names = ["template.yaml", "Containerfile", "sources/bucket.yaml"]
    for name in names:
        assert f"# ==> {name} <==\n" in shown.stdout
        assert (tmp_path / "out" / name).read_text() in shown.stdout
    assert written.stdout.splitlines()[:3] == [str(tmp_path / "out" / name) for name in names]
    assert written.stdout.splitlines()[3].endswith(f"at the top of {tmp_path}/out/template.yaml.")


def test_without_any_schedule_there_is_nothing_to_deploy(tmp_path: Path) -> None:
    """An empty manifest would be installed, and nothing would run."""
    by_hand = {key: value for key, value in BUCKET.items() if key != "schedule"}

    done = call("kubernetes", *write(tmp_path, by_hand=by_hand))

    assert done.returncode == 2
    assert "No source here has a schedule: by_hand." in done.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("--user", "x\nExecStart=/evil"), ("--mail-to", "a b"), ("--image", 'a"')]
)
def test_names_that_could_be_lines_are_refused(option: str, value: str, tmp_path: Path) -> None:
    """They go into files that root or a cluster reads."""
    done = call("systemd", *write(tmp_path, bucket=BUCKET), option, value)

    assert done.returncode == 2
    assert f"memsync: {option}: " in done.stderr
