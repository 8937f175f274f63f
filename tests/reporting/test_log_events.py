"""docs/events.md tells of every line that memsync can log, and of no other."""

from docs.log_events import EVENTS, PAGE, calls, fault_of, page


def test_every_event_that_the_code_logs_is_in_the_table() -> None:
    """People build alerts on them: what is not there is found by nobody."""
    logged = {call.name for call in calls() if call.name is not None}
    counted = {name for name in EVENTS if name.endswith("_in_all")}

    assert logged | counted == EVENTS.keys()
    assert len(logged) > 30


def test_the_levels_and_fields_that_the_code_names_are_in_the_table() -> None:
    """As far as the place that logs shows them; the tests of the command line hold each line against the rest."""
    faults = []
    for call in calls():
        if call.name is None:
            continue
        event = EVENTS[call.name]
        if call.level is not None and call.level not in event.levels:
            faults.append(f"{call.place}: {call.name} at {call.level}")
        faults += [
            f"{call.place}: {call.name} with {field}"
            for field in call.fields
            if field not in (*event.fields, "source", "run_id")
        ]

    assert faults == []


def test_only_counts_and_lines_of_other_processes_have_names_that_are_put_together() -> None:
    """Nobody could look them up in the code. What a run in a process of its own logs is logged again by its name."""
    places = {call.place.partition(":")[0] for call in calls() if call.name is None}

    assert places == {"pipeline/reporting/logs.py", "pipeline/reporting/relay.py"}


def test_the_page_is_as_it_would_be_written_now() -> None:
    """`python docs/log_events.py` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_a_line_is_held_against_the_table() -> None:
    """Else the check of the acceptance tests could not fail."""
    line = {"timestamp": "now", "level": "info", "event": "scan_finished", "source": "docs", "run_id": "1"}

    assert fault_of(line) is None
    assert fault_of({**line, "event": "scan_finnished"}) == "scan_finnished is not in the table"
    assert fault_of({**line, "level": "error"}) == "scan_finished has the level error, not info"
    assert fault_of({**line, "pages": 3}) == "scan_finished has fields that are not in the table: pages"
