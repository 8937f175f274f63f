"""What others see of runs: a run that waits, traces and metrics, notifications."""

import signal

from .conftest import Folder, Memory, Memsync

NEVER_S = 3600.0  # longer than any test waits


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
