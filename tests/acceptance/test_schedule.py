"""`memsync schedule` and `watch`: processes that stay up, started, asked, disturbed and stopped as their users do."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.timetable import delay_of

from .conftest import Completed, Folder, Memory, Memsync, Running

Json = dict[str, Any]

NEVER = "0 0 29 2 *"  # not while a test runs
CONDITION_TIMEOUT_S = 60.0
SOON_S = 4.0  # the command is up by then


@contextmanager
def up(memsync: Memsync, *arguments: str) -> Iterator["Up"]:
    """A command that stays up, for as long as the block."""
    running = memsync.start(*arguments)
    yield Up(running)
    if running.process.poll() is None:
        running.process.kill()


class Up:
    """What can be seen of it."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self.logs: list[Json] = []

    @property
    def pid(self) -> int:
        return self._running.process.pid

    def wait_for(self, event: str, **fields: Any) -> Json:
        """The next log line of that event with these fields."""
        assert self._running.process.stderr is not None
        for line in self._running.process.stderr:
            self.logs.append(json.loads(line))
            if self.logs[-1]["event"] == event and fields.items() <= self.logs[-1].items():
                return self.logs[-1]
        raise AssertionError(f"it ended without {event}: {self.logs}")

    def send(self, number: signal.Signals) -> None:
        self._running.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Completed:
        self.send(number)
        return self.finish()

    def finish(self) -> Completed:
        """Wait for the end; the logs that came before are among `logs`."""
        done = self._running.finish()
        self.logs += done.logs
        return done

    def children(self) -> list[int]:
        """The processes of the runs under way."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def events(self, event: str) -> list[Json]:
        return [log for log in self.logs if log["event"] == event]


def ask(url: str, path: str) -> tuple[int, Json]:
    """What the health says: status and JSON."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url + path, timeout=CONDITION_TIMEOUT_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def due_soon(source: str = "docs") -> Json:
    """Settings with which the source is due in some seconds: a schedule knows only minutes, its jitter seconds."""
    second = int(time.time() + SOON_S) % 60
    jitter_s = next(jitter_s for jitter_s in range(86_400) if delay_of(source, jitter_s) == second)
    return {"schedule": "* * * * *", "schedule_jitter_s": jitter_s}


# ---------------------------------------------------------------------------------------------------- runs


def test_a_source_that_never_ran_is_run_at_once_and_a_stop_is_clean(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Who starts the scheduler in the afternoon does not wait until three at night for a first sync."""
    docs.configure(memory.url, schedule=NEVER)
    docs.write_documents(3)

    with up(memsync, "schedule", "docs.yaml") as scheduler:
        begun = scheduler.wait_for("process_started")
        ended = scheduler.wait_for("process_ended")
        done = scheduler.stop()

    assert (begun["source"], begun["reason"]) == ("docs", "behind")
    assert (ended["source"], ended["status"]) == ("docs", "in_sync")
    assert ended["next_due_at"].startswith("20")
    assert scheduler.events("run_finished")[0]["documents_seen"] == 3
    assert len(memory.documents()) == 3
    assert done.exit_code == 0
    assert done.logs[-1]["event"] == "scheduler_stopped"


def test_a_source_that_is_in_time_waits_for_its_time(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A restart of the scheduler is no reason to list everything again."""
    docs.configure(memory.url, schedule=NEVER)
    docs.write_documents(1)
    memsync("run", "docs.yaml")
    requests = memory.requests

    with up(memsync, "schedule", "docs.yaml") as scheduler:
        read = scheduler.wait_for("configuration_read")
        done = scheduler.stop()

    assert read["sources"]["docs"].startswith("20")
    assert scheduler.events("process_started") == []
    assert memory.requests == requests
    assert done.exit_code == 0


def test_the_time_of_the_schedule_starts_a_run(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """All else is in vain if it does not."""
    docs.write_documents(1)
    docs.configure(memory.url, **due_soon(), schedule_catch_up=False)

    with up(memsync, "schedule", "docs.yaml") as scheduler:
        begun = scheduler.wait_for("process_started")
        scheduler.wait_for("process_ended", status="in_sync")
        scheduler.stop()

    assert begun["reason"] == "due"
    assert begun["late_s"] < SOON_S
    assert len(memory.documents()) == 1


def test_one_that_fails_and_one_that_is_broken_do_not_keep_others_from_running(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A typo in one file, or a folder that is gone, is one source's trouble."""
    docs.configure(memory.url, schedule=NEVER)
    docs.configure(memory.url, "gone.yaml", name="gone", source={"path": "nowhere"}, schedule=NEVER)
    (docs.path / "typo.yaml").write_text("scedule: x\n")
    docs.write_documents(1)

    with up(memsync, "schedule", ".", "--concurrency", "1", "--health-port", "0") as scheduler:
        url = scheduler.wait_for("health_served")["url"]
        broken = scheduler.wait_for("configuration_broken")
        scheduler.wait_for("process_ended", source="docs", status="in_sync")
        scheduler.wait_for("process_ended", source="gone", status="failed", exit_code=1)
        alive, health = ask(url, "/healthz")
        ready, _ = ask(url, "/readyz")
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            metrics = {
                (sample.name, sample.labels["source"]): sample.value
                for family in text_string_to_metric_families(answer.read().decode())
                for sample in family.samples
                if "source" in sample.labels
            }
        done = scheduler.stop()

    assert broken["message"].startswith("typo.yaml:1:1: unknown key `scedule`")
    assert (alive, ready) == (200, 503)
    assert health["broken_files"] == ["typo.yaml"]
    assert metrics["memsync_documents", "docs"] == 1
    assert metrics["memsync_next_run_timestamp_seconds", "gone"] > 0
    assert {source["name"]: source["status"] for source in health["sources"]} == {"docs": "in_sync", "gone": "failed"}
    assert done.exit_code == 0


def test_who_hears_that_it_serves_can_stop_it(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Something that is started and stopped by scripts may be stopped in its first moment: that is no crash."""
    docs.configure(memory.url, schedule=NEVER)
    docs.write_documents(1)

    with up(memsync, "schedule", "docs.yaml", "--health-port", "0") as scheduler:
        scheduler.wait_for("health_served")
        done = scheduler.stop()

    assert done.exit_code == 0


def test_a_run_that_dies_takes_nothing_along(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The kernel kills what needs too much memory; the scheduler stays, says what it was, and runs it again."""
    docs.configure(memory.url, schedule=NEVER)
    docs.write_documents(3)
    memory.play(latency_s=CONDITION_TIMEOUT_S)

    with up(memsync, "schedule", "docs.yaml", "--health-port", "0") as scheduler:
        url = scheduler.wait_for("health_served")["url"]
        scheduler.wait_for("run_started")
        (run,) = scheduler.children()
        os.kill(run, signal.SIGKILL)
        died = scheduler.wait_for("process_died")
        _, health = ask(url, "/healthz")
        memory.play()
        docs.configure(memory.url, **due_soon())
        scheduler.send(signal.SIGHUP)
        scheduler.wait_for("process_ended", status="in_sync")
        scheduler.stop()

    assert (died["level"], died["status"], died["signal"]) == ("error", "died", "SIGKILL")
    assert "memory" in died["consequence"]
    assert health["sources"][0]["status"] == "died"
    assert len(memory.documents()) == 3
    assert memory.holds_everything_once()


def test_a_source_that_another_process_runs_is_left_to_it(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Somebody types `memsync run` while the scheduler is up: said, and tried again the next time."""
    docs.write_documents(3)
    docs.configure(memory.url, schedule=NEVER)
    memory.play(latency_s=CONDITION_TIMEOUT_S)
    by_hand = memsync.start("run", "docs.yaml")
    by_hand.wait_for_log("run_started")
    docs.configure(memory.url, **due_soon())

    with up(memsync, "schedule", "docs.yaml") as scheduler:
        begun = scheduler.wait_for("process_started")
        locked = scheduler.wait_for("process_ended")
        done = scheduler.stop()

    assert begun["reason"] == "due"  # it is running, and so it was not behind
    assert (locked["level"], locked["status"], locked["exit_code"]) == ("warning", "locked", 5)
    assert locked["next_due_at"] > locked["timestamp"]
    assert done.exit_code == 0
    assert by_hand.stop_by(signal.SIGTERM).exit_code == 128 + signal.SIGTERM


# ------------------------------------------------------------------------------------------------- the stop


def test_a_stop_reaches_the_run_and_the_next_one_carries_on(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A deployment in the middle of a sync must neither hang nor lose or double anything."""
    docs.configure(memory.url, schedule=NEVER)
    docs.write_documents(3)
    memory.play(latency_s=CONDITION_TIMEOUT_S)

    with up(memsync, "schedule", "docs.yaml") as scheduler:
        scheduler.wait_for("run_started")
        done = scheduler.stop()

    assert done.exit_code == 0
    assert scheduler.events("scheduler_stopping")[0]["running"] == ["docs"]
    assert scheduler.events("process_ended")[0]["status"] == "interrupted"
    memory.play()
    with up(memsync, "schedule", "docs.yaml") as scheduler:  # what was interrupted is behind
        scheduler.wait_for("process_ended", status="in_sync")
        scheduler.stop()
    assert len(memory.documents()) == 3
    assert memory.holds_everything_once()


def test_a_run_that_does_not_stop_in_time_is_killed(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Whoever stops the scheduler kills it sooner or later: then a run must not be left behind."""
    docs.configure(memory.url, schedule=NEVER)
    docs.write_documents(3)
    memory.play(latency_s=CONDITION_TIMEOUT_S)

    with up(memsync, "schedule", "docs.yaml", "--grace", "0") as scheduler:
        scheduler.wait_for("run_started")
        (run,) = scheduler.children()
        done = scheduler.stop()

    assert done.exit_code == 0
    assert scheduler.events("process_killed")[0]["source"] == "docs"
    assert not Path(f"/proc/{run}").exists()


def test_a_second_signal_ends_all_on_the_spot(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Who presses Ctrl-C again does not want to wait, and wants nothing to be left running."""
    docs.configure(memory.url, schedule=NEVER)
    docs.write_documents(3)
    memory.play(latency_s=CONDITION_TIMEOUT_S)

    with up(memsync, "schedule", "docs.yaml", "--grace", "3600") as scheduler:
        scheduler.wait_for("run_started")
        (run,) = scheduler.children()
        os.kill(run, signal.SIGSTOP)  # it cannot hear the first one
        scheduler.send(signal.SIGINT)
        scheduler.wait_for("scheduler_stopping")
        done = scheduler.stop(signal.SIGINT)

    assert done.exit_code == 128 + signal.SIGINT
    assert not Path(f"/proc/{run}").exists()


# -------------------------------------------------------------------------------------------- configuration


def test_files_that_change_are_read_again(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A new source, one that is mended and one that is gone, without a restart."""
    docs.configure(memory.url, schedule=NEVER)
    (docs.path / "wiki.yaml").write_text("nonsense\n")
    docs.write_documents(1)

    with up(memsync, "schedule", ".", "--health-port", "0") as scheduler:
        url = scheduler.wait_for("health_served")["url"]
        scheduler.wait_for("process_ended", source="docs")
        assert ask(url, "/readyz")[0] == 503
        docs.configure(memory.url, "wiki.yaml", name="wiki", schedule=NEVER)
        scheduler.wait_for("process_ended", source="wiki", status="in_sync")  # found by its change
        assert ask(url, "/readyz")[0] == 200
        (docs.path / "docs.yaml").unlink()
        scheduler.send(signal.SIGHUP)
        read = scheduler.wait_for("configuration_read")
        _, health = ask(url, "/readyz")
        scheduler.stop()

    assert [*read["sources"]] == ["wiki"]
    assert [source["name"] for source in health["sources"]] == ["wiki"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No source here has a schedule: docs. Nothing was started."),
        ("scedule: x\n", "docs.yaml:1:1: unknown key `scedule`"),
    ],
)
def test_a_scheduler_with_nothing_to_do_says_so_and_ends(
    docs: Folder, memsync: Memsync, content: str | None, says: str
) -> None:
    """One that stays up and does nothing looks as if all were well."""
    if content is not None:
        (docs.path / "docs.yaml").write_text(content)

    done = memsync("schedule", "docs.yaml")

    assert done.exit_code == 2
    assert says in done.stderr


def test_a_health_port_that_is_taken_is_a_message(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Two schedulers on one machine are a likely mistake."""
    docs.configure(memory.url, schedule=NEVER)
    port = memory.url.rpartition(":")[2]

    done = memsync("schedule", "docs.yaml", "--health-port", port)

    assert done.exit_code == 2
    assert f"The health cannot be served on 127.0.0.1 port {port}" in done.stderr
    assert memory.requests == 0


def test_the_heartbeat_is_touched(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Who cannot ask over HTTP looks at a file's age."""
    docs.configure(memory.url, schedule=NEVER)
    beat = docs.path / "beat"

    with up(memsync, "schedule", "docs.yaml", "--heartbeat", "beat") as scheduler:
        scheduler.wait_for("process_started")
        scheduler.stop()

    assert time.time() - beat.stat().st_mtime < CONDITION_TIMEOUT_S
    assert beat.stat().st_mode & 0o077 == 0


# ---------------------------------------------------------------------------------------------------- watch


def test_a_change_of_a_file_is_followed_by_a_run_and_a_run_by_none(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """The state, a local memory and the log can be in the folder that is watched: a run must not bring on the next."""
    docs.configure("local", source={"path": "."}, destination={"endpoint_url": "local"})
    docs.write_documents(2)

    with up(memsync, "watch", "docs.yaml", "--settle", "0.2", "--health-port", "0") as watch:
        watch.wait_for("run_finished", created=3)  # the YAML file is one of them
        watch.wait_for("process_ended")
        docs.write("new.md")
        docs.write(".hidden.md")
        watch.wait_for("run_finished", documents_seen=4, created=1)
        docs.remove("new.md")
        watch.wait_for("run_finished", documents_removed=1, deleted=1)
        watch.wait_for("process_ended")
        done = watch.stop()

    assert done.exit_code == 0
    assert len(watch.events("process_started")) <= 4  # the deletion and the writing may have been seen in two pieces


def test_a_folder_that_comes_later_is_waited_for(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A disk that is mounted after the start, or a folder that a build makes anew."""
    docs.configure(memory.url, source={"path": "later"})

    with up(memsync, "watch", "docs.yaml", "--settle", "0.2") as watch:
        watch.wait_for("folder_missing")
        (docs.path / "later").mkdir()
        (docs.path / "later" / "a.md").write_text("# A\n\nOne.\n")
        watch.wait_for("run_finished", status="in_sync", created=1)
        (docs.path / "later").rename(docs.path / "earlier")
        (docs.path / "later").mkdir()
        (docs.path / "later" / "b.md").write_text("# B\n\nTwo.\n")
        watch.wait_for("run_finished", created=1)
        watch.stop()


def test_a_folder_that_is_named_by_a_reference_is_watched(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """`run` takes it, so `watch` has to; and without what it refers to nothing could ever be noticed."""
    docs.configure(memory.url, source={"path": "${env:DOCUMENTS}"})
    docs.write_documents(2)

    refused = memsync("watch", "docs.yaml")
    running = memsync.start("watch", "docs.yaml", "--settle", "0.2", environment={"DOCUMENTS": "docs"})
    try:
        watch = Up(running)
        watch.wait_for("run_finished", created=2)
        docs.write("new.md")
        watch.wait_for("run_finished", created=1)
        watch.stop()
    finally:
        running.process.kill()

    assert refused.exit_code == 1
    assert "DOCUMENTS is not set" in refused.stderr


def test_what_is_no_folder_cannot_be_watched(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Said at once, with what to do instead."""
    docs.configure(memory.url, source={"type": "git", "url": "https://localhost/x.git"})
    text = (docs.path / "docs.yaml").read_text().replace("  path: docs\n", "")
    (docs.path / "docs.yaml").write_text(text)

    done = memsync("watch", "docs.yaml")

    assert done.exit_code == 2
    assert done.stderr.startswith("memsync: Only folders can be watched, and these are none: docs (git).")


def test_without_its_library_it_names_what_to_install(docs: Folder) -> None:
    """It is an extra: most who install memsync do not have it."""
    without = "import sys; sys.modules['watchfiles'] = None; sys.argv = ['memsync', 'watch', 'docs.yaml']"

    done = subprocess.run(
        [sys.executable, "-c", f"{without}; from pipeline.cli import main; main()"],
        cwd=docs.path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "pip install 'agentcore-memory-sync[watch]'" in done.stderr
