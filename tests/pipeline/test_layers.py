"""What the import rules of pyproject.toml are told to look at."""

import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2]

# What lies directly in the folder and is no part of the core: the way in, adapters, and what other processes share.
EDGES = {
    "__init__", "__main__", "cli", "dead_letters", "early_signals", "files", "letter_edit", "process_limits",
    "references", "saved_plans", "worker_process", "workers",
}  # fmt: skip


def test_each_module_directly_in_the_folder_is_held_to_the_rules_of_the_core_or_named_as_an_edge() -> None:
    """A new stage that nobody lists could read the clock, and no simulation would repeat its runs."""
    rules = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    core = next(rule["source_modules"] for rule in rules if rule["name"].startswith("The core knows"))
    held = {module.removeprefix("pipeline.") for module in core if module.count(".") == 1}
    assert {file.stem for file in (PROJECT / "pipeline").glob("*.py")} - EDGES == held
