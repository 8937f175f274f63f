"""What others see of runs: a run that waits, traces and metrics, notifications."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.receiver import Received, receiver

from .conftest import CREDENTIALS, MEMORY_ID, TEXT_CANARY, Folder, Memory, Memsync, free_port

PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text()  # what users read of all this

NEVER_S = 3600.0  # longer than any test waits


@pytest.fixture
def collector() -> Iterator[Received]:
    with receiver() as received:
        yield received


def test_a_run_that_waits_for_the_memory_says_so_and_can_be_stopped(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Nobody should have to attach a debugger to find out why a run takes all night."""
    docs.configure(memory.url, telemetry={"still_running_s": 0.05, "stalled_after_s": 0.1})
    docs.write_documents(3)
    memory.play(latency_s=NEVER_S)

    running = memsync.start("run", "docs.yaml")
    running.wait_for_log("still_running")
    running.wait_for_log("nothing_moved")
    done = running.stop_by(signal.SIGTERM)

    assert done.exit_code == 128 + signal.SIGTERM


# ------------------------------------------------------------------------------------- traces and metrics


def attributes_of(message: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in message.attributes}


def spans_in(collector: Received) -> list[Any]:
    """All spans that came, in the order of their beginning."""
    spans = []
    for body in collector.bodies("/v1/traces"):
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            assert attributes_of(resource.resource)["service.name"] == "memsync"
            spans += [span for scope in resource.scope_spans for span in scope.spans]
    return sorted(spans, key=lambda span: span.start_time_unix_nano)


def metrics_in(collector: Received) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    """The points of the last export, each with its attributes, by the name of their metric."""
    last = ExportMetricsServiceRequest.FromString(collector.bodies("/v1/metrics")[-1])
    found: dict[str, list[tuple[dict[str, Any], Any]]] = {}
    for metric in (
        metric for each in last.resource_metrics for scope in each.scope_metrics for metric in scope.metrics
    ):
        points = getattr(metric, metric.WhichOneof("data")).data_points
        found[metric.name] = [(attributes_of(point), point) for point in points]
    return found


def values(points: Iterable[tuple[Mapping[str, Any], Any]], attribute: str) -> dict[str, float]:
    """The values of points by one of their attributes."""
    return {each[attribute]: getattr(point, point.WhichOneof("value")) for each, point in points}


def test_a_run_is_seen_as_a_trace_and_as_metrics(
    docs: Folder, memory: Memory, memsync: Memsync, collector: Received
) -> None:
    """With the names that dashboards for other programs know already."""
    docs.configure(memory.url, telemetry={"otlp_endpoint": collector.url})
    docs.write_documents(150)
    docs.write("bad.md", "This is unwanted.")
    memory.play(reject_text="unwanted", script=("BatchCreateMemoryRecords:throttle",))

    done = memsync("run", "docs.yaml", "--json")

    assert done.exit_code == 3
    spans = spans_in(collector)
    run = next(span for span in spans if span.name == "memsync run")
    assert not run.parent_span_id
    assert {span.trace_id for span in spans} == {run.trace_id}
    told = attributes_of(run)
    assert (told["memsync.source"], told["memsync.run_id"]) == ("docs", done.report["run_id"])
    assert (told["memsync.status"], told["memsync.records.created"]) == ("dead_letters", 150)
    assert [attributes_of(event)["error.type"] for event in run.events] == ["400"]
    stages = {span.name: span for span in spans if span.parent_span_id == run.span_id}
    assert {"scan", "parse", "ledger", "write"} <= stages.keys()
    requests = [span for span in spans if span.parent_span_id == stages["write"].span_id]
    assert {span.name for span in requests} == {"Bedrock AgentCore/BatchCreateMemoryRecords"}
    throttled, *others = requests
    assert attributes_of(throttled)["error.type"] == "ThrottledException"
    assert attributes_of(throttled)["http.response.status_code"] == 429
    assert all(attributes_of(span)["aws.request_id"] for span in requests)
    assert all(attributes_of(span)["http.response.status_code"] < 300 for span in others)
    assert all(attributes_of(span)["rpc.system"] == "aws-api" for span in requests)
    assert all(run.start_time_unix_nano <= span.end_time_unix_nano <= run.end_time_unix_nano for span in spans)

    metrics = metrics_in(collector)
    assert values(metrics["memsync.documents"], "memsync.outcome") == {"added": 151}
    assert values(metrics["memsync.records"], "memsync.outcome") == {"created": 150, "dead_lettered": 1}
    assert values(metrics["memsync.requests"], "memsync.outcome")["throttled"] == 1
    assert sum(point.count for _, point in metrics["rpc.client.call.duration"]) == len(requests)
    assert values(metrics["memsync.dead_letters"], "memsync.source") == {"docs": 1}
    assert values(metrics["memsync.runs"], "memsync.status") == {"dead_letters": 1}
    assert set(values(metrics["memsync.requests.allowed_rate"], "rpc.method")) == {"BatchCreateMemoryRecords"}
    assert "memsync.run.last_success" not in metrics
    assert [name for name in metrics if f"`{name}`" not in PAGE] == []


def test_a_run_that_leaves_all_in_sync_says_when(
    docs: Folder, memory: Memory, memsync: Memsync, collector: Received
) -> None:
    """An alert on its age is the one that notices that no run starts at all."""
    docs.configure(memory.url, telemetry={"otlp_endpoint": collector.url})
    docs.write_documents(1)

    assert memsync("run", "docs.yaml").exit_code == 0

    metrics = metrics_in(collector)
    assert values(metrics["memsync.run.last_success"], "memsync.source")["docs"] > 1_700_000_000
    assert "memsync.queue.records" not in metrics  # no run is under way any more


def test_a_run_that_needs_somebody_is_an_error_in_its_trace(
    docs: Folder, memory: Memory, memsync: Memsync, collector: Received
) -> None:
    """Whoever looks for errors among traces must find the run that deleted nothing, and why."""
    docs.configure(memory.url, telemetry={"otlp_endpoint": collector.url})
    docs.write_documents(2)
    memsync("run", "docs.yaml")
    docs.remove("000.md", "001.md")

    assert memsync("run", "docs.yaml").exit_code == 4

    good, guarded = (span for span in spans_in(collector) if span.name == "memsync run")
    assert "error.type" not in attributes_of(good)
    assert (attributes_of(guarded)["error.type"], guarded.status.code) == ("guarded", Status.STATUS_CODE_ERROR)


def test_a_run_under_way_shows_what_is_queued_and_what_it_waits_for(
    docs: Folder, memory: Memory, memsync: Memsync, collector: Received
) -> None:
    """Where they grow is where it is slow."""
    docs.configure(memory.url, telemetry={"otlp_endpoint": collector.url})
    docs.write_documents(1)
    memsync("run", "docs.yaml")
    docs.write_documents(3, first=1)
    memory.play(latency_s=NEVER_S)

    def shows_queues() -> bool:
        metrics = metrics_in(collector) if collector.bodies("/v1/metrics") else {}
        return (
            values(metrics.get("memsync.queue.records", ()), "memsync.source") == {"docs": 3}
            and values(metrics["memsync.queue.documents"], "memsync.source") == {"docs": 0}
            and values(metrics.get("memsync.waits", ()), "memsync.reason") == {"service": 1}
        )

    running = memsync.start("run", "docs.yaml", environment={**CREDENTIALS, "OTEL_METRIC_EXPORT_INTERVAL": "20"})
    collector.wait_until(shows_queues)

    assert running.stop_by(signal.SIGTERM).exit_code == 128 + signal.SIGTERM


def test_the_variables_of_opentelemetry_are_enough(
    docs: Folder, memory: Memory, memsync: Memsync, collector: Received
) -> None:
    """A machine whose programs are observed says so once, for all of them; and a caller hands on its own trace."""
    docs.write_documents(1)
    parent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    environment = {
        **CREDENTIALS,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_METRICS_EXPORTER": "none",
        "TRACEPARENT": parent,
    }

    assert memsync("run", "docs.yaml", environment=environment).exit_code == 0
    seen = len(collector.requests)
    assert memsync("run", "docs.yaml", environment={**environment, "OTEL_SDK_DISABLED": "true"}).exit_code == 0
    assert memsync("plan", "docs.yaml", environment=environment).exit_code == 0

    assert {path for path, _ in collector.requests} == {"/v1/traces"}
    assert {span.trace_id.hex() for span in spans_in(collector)} == {parent.split("-")[1]}
    assert len(collector.requests) == seen


def test_no_text_and_unless_wanted_no_name_of_a_document_leaves_in_telemetry(
    docs: Folder, memory: Memory, memsync: Memsync, collector: Received
) -> None:
    """Traces are read by people who may not read the documents; names may be those of patients."""
    memory.play(reject_text="unwanted")
    docs.write("of-somebody.md", f"This is unwanted, {TEXT_CANARY}.")
    docs.configure(memory.url, telemetry={"otlp_endpoint": collector.url})
    memsync("run", "docs.yaml")
    seen = len(collector.requests)
    docs.configure(memory.url, telemetry={"otlp_endpoint": collector.url, "document_ids": True})
    memsync("replay", "docs.yaml")

    assert seen
    without_names, with_names = collector.requests[:seen], collector.requests[seen:]
    assert not any(TEXT_CANARY.encode() in body for _, body in collector.requests)
    assert not any(b"of-somebody" in body for _, body in without_names)
    assert any(b"of-somebody" in body for _, body in with_names)


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_collector_that_is_down_changes_nothing_but_a_line_in_the_log(
    docs: Folder, memory: Memory, memsync: Memsync, collector: Received, *, is_silent: bool
) -> None:
    """Whoever observes must not be able to stop what is observed."""
    collector.is_silent = is_silent
    url = collector.url if is_silent else f"http://127.0.0.1:{free_port()}"
    docs.configure(memory.url, telemetry={"otlp_endpoint": url})
    docs.write_documents(3)

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.records["created"]) == (0, 3)
    (line,) = [line for line in done.logs if line["event"] == "telemetry_not_delivered"]
    assert line["endpoint"] == url
    assert len(memory.records(MEMORY_ID)) == 3


# ---------------------------------------------------------------------------------------------- Prometheus


def samples_in(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """The values by metric and by labels, read as Prometheus would."""
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sample.labels[name] for name in sorted(sample.labels))] = (
                sample.value
            )
    return samples


def test_metrics_tell_how_each_source_stands(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Also of one that never ran: its absence would pass for health."""
    docs.configure(memory.url, "other.yaml", name="other", schedule="0 4 * * *")
    docs.write_documents(5)
    docs.write("bad.md", "This is unwanted.")
    memory.play(reject_text="unwanted")
    memsync("run", "docs.yaml")

    done = memsync("metrics", "docs.yaml", "other.yaml")

    assert (done.exit_code, done.stderr) == (0, "")
    samples = samples_in(done.stdout)
    assert samples["memsync_state_readable"] == {("docs",): 1, ("other",): 1}
    assert samples["memsync_documents"] == {("docs",): 6, ("other",): 0}
    assert samples["memsync_records"] == {("docs",): 5, ("other",): 0}
    assert samples["memsync_dead_letters"] == {("docs",): 1, ("other",): 0}
    assert samples["memsync_dead_letters_by_code"] == {("400", "docs"): 1}
    assert samples["memsync_last_run_status"][("docs", "dead_letters")] == 1
    assert samples["memsync_last_run_status"][("docs", "in_sync")] == 0
    assert samples["memsync_last_run_documents"][("added", "docs")] == 5
    assert samples["memsync_last_run_duration_seconds"][("docs",)] > 0
    assert samples["memsync_next_run_timestamp_seconds"].keys() == {("other",)}
    assert [name for name in samples if f"`{name}`" not in PAGE] == []
    assert "memsync_last_success_timestamp_seconds" not in samples

    memory.play()
    memsync("replay", "docs.yaml")
    samples = samples_in(memsync("metrics", "docs.yaml").stdout)

    assert samples["memsync_last_run_status"][("docs", "in_sync")] == 1
    assert (
        samples["memsync_last_success_timestamp_seconds"][("docs",)]
        == samples["memsync_last_run_timestamp_seconds"][("docs",)]
    )


def test_metrics_of_a_run_under_way_are_those_of_the_one_before(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """An alert must not fall silent for as long as a run hangs."""
    docs.write_documents(1)
    memsync("run", "docs.yaml")
    docs.write_documents(2)
    memory.play(latency_s=NEVER_S)
    running = memsync.start("run", "docs.yaml")
    running.wait_for_log("run_started")
    memory.wait_for_requests(memory.requests)

    samples = samples_in(memsync("metrics", "docs.yaml").stdout)
    running.stop_by(signal.SIGTERM)

    assert samples["memsync_run_under_way"] == {("docs",): 1}
    assert samples["memsync_last_run_status"][("docs", "in_sync")] == 1


def test_metrics_of_a_state_that_cannot_be_read_say_so(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The other sources are still told of."""
    docs.configure(memory.url, "other.yaml", name="other")
    docs.write_documents(1)
    memsync("run", "docs.yaml")
    (docs.state / "state.sqlite3").write_bytes(b"no database")

    done = memsync("metrics", "docs.yaml", "other.yaml")

    assert done.exit_code == 1
    assert "state.sqlite3" in done.stderr
    assert samples_in(done.stdout)["memsync_state_readable"] == {("docs",): 0, ("other",): 1}


def test_a_run_leaves_its_metrics_in_a_file_that_node_exporter_can_read(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """It runs as another user, and reads while others write."""
    docs.configure(memory.url, telemetry={"prometheus_file": "metrics/memsync-{source}.prom"})
    (docs.path / "metrics").mkdir()
    docs.write_documents(3)

    assert memsync("plan", "docs.yaml").exit_code == 0
    assert list((docs.path / "metrics").iterdir()) == []
    assert memsync("run", "docs.yaml").exit_code == 0

    (file,) = (docs.path / "metrics").iterdir()
    assert file.name == "memsync-docs.prom"
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.read_text() == memsync("metrics", "docs.yaml").stdout


def test_two_sources_do_not_overwrite_each_others_metrics(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The one that was overwritten would seem to have gone; the log says how to keep them apart."""
    telemetry = {"prometheus_file": "all.prom"}
    docs.configure(memory.url, telemetry=telemetry)
    docs.configure(memory.url, "other.yaml", name="other", telemetry=telemetry)
    docs.write_documents(1)

    memsync("run", "docs.yaml")
    done = memsync("run", "other.yaml")

    assert done.exit_code == 0
    (line,) = [line for line in done.logs if line["event"] == "metrics_incomplete"]
    assert "{source}" in line["problem"]
    assert samples_in((docs.path / "all.prom").read_text())["memsync_documents"] == {("docs",): 1}


def test_a_file_that_cannot_be_written_changes_nothing_but_a_line_in_the_log(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """The documents are what the run is for."""
    docs.configure(memory.url, telemetry={"prometheus_file": "no/such/folder/memsync.prom"})
    docs.write_documents(1)

    done = memsync("run", "docs.yaml")

    assert done.exit_code == 0
    assert [line["level"] for line in done.logs if line["event"] == "metrics_incomplete"] == ["warning"]


# ------------------------------------------------------------------------------------------ missing extras


def run_without(
    module: str, folder: Folder, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command where `module` is not installed."""
    program = f"import sys; sys.modules[{module!r}] = None; sys.argv = ['memsync', *{arguments!r}]"
    return subprocess.run(
        [sys.executable, "-c", f"{program}; from pipeline.cli import main; main()"],
        cwd=folder.path,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("telemetry", "module", "extra"),
    [
        ({"otlp_endpoint": "http://127.0.0.1:4318"}, "opentelemetry", "otel"),
        ({"prometheus_file": "docs.prom"}, "prometheus_client", "prometheus"),
        ({}, "apprise", "notify"),
    ],
)
def test_a_package_that_is_missing_is_named_before_anything_is_sent(
    docs: Folder, memory: Memory, telemetry: dict[str, str], module: str, extra: str
) -> None:
    """With the command that installs it."""
    docs.configure(memory.url, telemetry=telemetry, notify=NOTIFY if extra == "notify" else {})
    docs.write_documents(1)

    done = run_without(module, docs, "run", "docs.yaml")

    assert (done.returncode, memory.requests) == (2, 0)
    assert f"pip install 'agentcore-memory-sync[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_variables_of_opentelemetry_that_cannot_be_heeded_are_told_and_stop_nothing(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """They may be meant for all programs of the machine; documents are synced all the same."""
    docs.write_documents(1)
    environment = {**CREDENTIALS, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}

    without = run_without("opentelemetry", docs, "run", "docs.yaml", environment=environment)
    wrong = memsync("run", "docs.yaml", environment={**environment, "OTEL_BSP_MAX_QUEUE_SIZE": "0"})

    assert (without.returncode, wrong.exit_code) == (0, 0)
    assert "pip install 'agentcore-memory-sync[otel]'" in without.stderr
    assert [line["problem"] for line in wrong.logs if line["event"] == "telemetry_unavailable"] == [
        "OpenTelemetry cannot use its variables, OTEL_*: ValueError"
    ]


def test_metrics_name_the_package_that_is_missing(docs: Folder) -> None:
    """It is an extra: most have no Prometheus."""
    done = run_without("prometheus_client", docs, "metrics", "docs.yaml")

    assert done.returncode == 2
    assert "pip install 'agentcore-memory-sync[prometheus]'" in done.stderr


# ------------------------------------------------------------------------------------------------- notices

NOTIFY: dict[str, Any] = {"urls_variable": "WHERE_NOTICES_GO"}
TOKEN = "token-that-opens-the-chat"


@pytest.fixture
def service() -> Iterator[Received]:
    """A service that notices are sent to."""
    with receiver() as received:
        yield received


def told_through(*addresses: str) -> dict[str, str]:
    return {**CREDENTIALS, "WHERE_NOTICES_GO": " ".join(addresses)}


def address_of(service: Received) -> str:
    """In the way of Apprise; the path stands for what is secret in the addresses of chats."""
    return service.url.replace("http://", "json://") + f"/{TOKEN}/"


def notices_in(service: Received) -> list[dict[str, Any]]:
    return [json.loads(body) for _, body in service.requests]


def test_people_are_told_when_a_source_turns_bad_and_when_it_has_recovered(
    docs: Folder, memory: Memory, memsync: Memsync, service: Received
) -> None:
    """Once each, however many runs there are between; without a word of the documents."""
    docs.configure(memory.url, notify=NOTIFY)
    environment = told_through(address_of(service))
    docs.write_documents(2)
    memsync("run", "docs.yaml", environment=environment)
    docs.write("bad.md", f"This is unwanted, {TEXT_CANARY}.")
    memory.play(reject_text="unwanted")
    done = [memsync("run", "docs.yaml", environment=environment) for _ in range(2)]
    shown = memsync("notify", "docs.yaml")
    memory.play()
    done.append(memsync("replay", "docs.yaml", environment=environment))
    done.append(memsync("run", "docs.yaml", environment=environment))

    assert [each.exit_code for each in done] == [3, 3, 0, 0]
    bad, good = notices_in(service)
    assert (bad["title"], bad["type"]) == ("memsync: docs has 1 dead letter", "warning")
    assert "1 x 400" in bad["message"]
    assert f"memsync replay {docs.path / 'docs.yaml'}" in bad["message"]
    assert (good["title"], good["type"]) == ("memsync: docs is in sync again", "success")
    assert not any(TEXT_CANARY.encode() in body for _, body in service.requests)
    assert "told that it has dead letters" in shown.stdout
    for each in (*done, shown):
        assert TOKEN not in each.stdout + each.stderr


def test_a_failure_is_told_with_its_reason(docs: Folder, memory: Memory, memsync: Memsync, service: Received) -> None:
    """Also of a run that could not even begin."""
    docs.configure(f"http://127.0.0.1:{free_port()}", notify=NOTIFY, writers={"max_attempts": 1})
    docs.write_documents(1)

    done = memsync("run", "docs.yaml", environment=told_through(address_of(service)))

    assert done.exit_code == 1
    (failed,) = notices_in(service)
    assert (failed["title"], failed["type"]) == ("memsync: docs failed", "failure")
    assert "Check the network" in failed["message"]


def test_of_a_run_that_was_killed_the_next_one_tells(
    docs: Folder, memory: Memory, memsync: Memsync, service: Received
) -> None:
    """For want of memory each night at the same document: no run would ever come so far as to tell anybody."""
    docs.configure(memory.url, notify=NOTIFY)
    environment = told_through(address_of(service))
    docs.write_documents(2)
    memory.play(latency_s=30)
    for _ in range(2):
        run = memsync.start("run", "docs.yaml", environment=environment)
        run.wait_for_log("scan_finished")
        run.stop_by(signal.SIGKILL)
    memory.play()
    done = memsync("run", "docs.yaml", environment=environment)

    assert done.exit_code == 0
    bad, good = notices_in(service)
    assert bad["title"] == "memsync: docs failed"
    assert "never came to its end" in bad["message"]
    # That the other one is at work already, and is not to be started by hand.
    assert "To see how that one does:\n  memsync status " in bad["message"]
    assert "memsync run" not in bad["message"]
    assert good["title"] == "memsync: docs is in sync again"


def test_of_a_run_that_dies_the_scheduler_tells_at_once(
    docs: Folder, memory: Memory, memsync: Memsync, service: Received
) -> None:
    """The next run may be due in a day, and die as well."""
    docs.configure(memory.url, notify=NOTIFY, schedule="0 0 1 1 *")
    docs.write_documents(2)
    memory.play(latency_s=30)
    scheduler = memsync.start("schedule", "docs.yaml", environment=told_through(address_of(service)))
    scheduler.wait_for_log("scan_finished")
    pid = scheduler.process.pid
    (run,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(run), signal.SIGKILL)
    scheduler.wait_for_log("process_died")
    scheduler.stop_by(signal.SIGTERM)

    (told,) = notices_in(service)
    assert told["title"] == "memsync: docs failed"
    assert "SIGKILL" in told["message"]


def test_a_run_that_was_interrupted_is_nobody_s_trouble(
    docs: Folder, memory: Memory, memsync: Memsync, service: Received
) -> None:
    """A deployment stops runs every day, and they have said so."""
    docs.configure(memory.url, notify=NOTIFY)
    environment = told_through(address_of(service))
    docs.write_documents(2)
    memory.play(latency_s=30)
    run = memsync.start("run", "docs.yaml", environment=environment)
    run.wait_for_log("scan_finished")
    stopped = run.stop_by(signal.SIGTERM)
    memory.play()

    done = memsync("run", "docs.yaml", environment=environment)

    assert (stopped.exit_code, done.exit_code) == (143, 0)
    assert notices_in(service) == []


def test_of_a_plan_that_was_refused_nobody_is_told(
    docs: Folder, memory: Memory, memsync: Memsync, service: Received
) -> None:
    """The source stands as it stood; who typed the command has read why."""
    docs.configure(memory.url, notify=NOTIFY)
    environment = told_through(address_of(service))
    docs.write_documents(2)
    memsync("plan", "docs.yaml", "--out", "changes.plan", environment=environment)
    docs.write("000.md", "Something else.")

    refused = memsync("run", "--plan", "changes.plan", environment=environment)

    assert refused.exit_code == 1
    assert "does not fit any more" in refused.stdout
    assert notices_in(service) == []


@pytest.mark.parametrize("trouble", ["silent", "away", "refusing", "nonsense"])
def test_a_service_that_is_down_changes_nothing_but_a_line_in_the_log(
    docs: Folder, memory: Memory, memsync: Memsync, service: Received, trouble: str
) -> None:
    """The run is what matters; and the next run tells what this one could not."""
    docs.configure(memory.url, notify={**NOTIFY, "timeout_s": 2 if trouble == "silent" else 30})
    docs.write("bad.md", "This is unwanted.")
    memory.play(reject_text="unwanted")
    service.is_silent = trouble == "silent"
    service.status = 500 if trouble == "refusing" else 200
    address = {"away": f"json://127.0.0.1:{free_port()}/{TOKEN}", "nonsense": f"nonsense://{TOKEN}"}.get(trouble)

    done = memsync("run", "docs.yaml", environment=told_through(address or address_of(service)))
    docs.configure(memory.url, notify=NOTIFY)
    service.is_silent, service.status = False, 200
    seen = len(service.requests)
    again = memsync("run", "docs.yaml", environment=told_through(address_of(service)))

    assert (done.exit_code, again.exit_code) == (3, 3)
    (line,) = [line for line in done.logs if line["event"] == "notice_not_sent"]
    assert (line["occasion"], line["service"]) == ("dead_letters", "nonsense" if trouble == "nonsense" else "json")
    assert TOKEN not in done.stdout + done.stderr
    assert [each["title"] for each in notices_in(service)[seen:]] == ["memsync: docs has 1 dead letter"]


def test_a_service_that_is_down_does_not_keep_the_others_from_being_told(
    docs: Folder, memory: Memory, memsync: Memsync, service: Received
) -> None:
    """Nor are those told again and again for its sake."""
    docs.configure(memory.url, notify=NOTIFY)
    docs.write("bad.md", "This is unwanted.")
    memory.play(reject_text="unwanted")
    environment = told_through(f"json://127.0.0.1:{free_port()}", address_of(service))

    for _ in range(2):
        assert memsync("run", "docs.yaml", environment=environment).exit_code == 3

    assert len(service.requests) == 1


def test_a_test_notice_says_what_came_of_each_address(
    docs: Folder, memory: Memory, memsync: Memsync, service: Received
) -> None:
    """Whoever sets it up should not have to break a source to see it work."""
    docs.configure(memory.url, notify=NOTIFY)
    closed = f"json://127.0.0.1:{free_port()}/{TOKEN}"

    done = memsync("notify", "docs.yaml", "--test", environment=told_through(address_of(service), closed))
    good = memsync("notify", "docs.yaml", "--test", environment=told_through(address_of(service)))

    assert (done.exit_code, good.exit_code) == (1, 0)
    assert [line.strip() for line in done.stdout.splitlines()] == [
        "docs",
        "✓ 1. json  sent",
        "✗ 2. json  not sent: it could not be reached, or refused the message",
    ]
    assert notices_in(service)[0]["title"] == "memsync: a test of docs"
    assert TOKEN not in done.stdout + done.stderr


def test_a_variable_that_is_not_set_is_told_before_anything_is_sent(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Else nobody would hear of the first failure, nor know why."""
    docs.configure(memory.url, notify=NOTIFY)
    docs.write_documents(1)

    for arguments in (["run", "docs.yaml"], ["notify", "docs.yaml", "--test"]):
        done = memsync(*arguments)
        assert (done.exit_code, memory.requests) == (2, 0)
        assert "WHERE_NOTICES_GO" in done.stderr
    assert memsync("plan", "docs.yaml").exit_code == 0


def test_a_test_where_nobody_is_told_says_how_to_change_that(docs: Folder, memsync: Memsync) -> None:
    """Silence would pass for success."""
    done = memsync("notify", "docs.yaml", "--test")

    assert done.exit_code == 2
    assert "notify.urls_variable" in done.stderr
    assert memsync("notify", "docs.yaml").stdout == "docs  nobody is told\n"
