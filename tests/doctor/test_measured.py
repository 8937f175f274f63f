"""What a run makes of what was measured, and of a file that holds something else."""

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.configuration.loading import load_sources
from pipeline.configuration.settings import SourceSettings
from pipeline.runs.measured import (
    MEASURED_FILE,
    Measured,
    Timing,
    measured_of,
    read_measured,
    timing_of,
    write_measured,
)

AWS = "memory_id: handbook-a1B2c3D4e5, region: eu-west-1"
UNKNOWN = Timing(settle_s=90.0, token_trust_s=600.0, young_record_s=12.0)
MEASURED = Measured(
    measured_at=1.0,
    memory_id="throwaway-a1B2c3D4e5",
    region="eu-west-1",
    endpoint_url=None,
    update_lag_s=9.0,
    list_lag_s=40.0,
    token_recognised_s=900.0,
    metadata_lost=("stringListValue",),
)


def source(folder: Path, destination: str = AWS) -> SourceSettings:
    file = folder / "docs.yaml"
    file.write_text(f"source: {{type: filesystem, path: .}}\ndestination: {{{destination}}}\n")
    (settings,) = load_sources([file])
    return settings


def timing(tmp_path: Path, measured: Measured, destination: str = AWS) -> Timing:
    settings = source(tmp_path, destination)
    write_measured(settings.state_folder, measured)
    return timing_of(settings)


def test_without_measurements_a_run_stays_safe(tmp_path: Path) -> None:
    """What was seen by others, and more than that."""
    assert timing_of(source(tmp_path)) == UNKNOWN
    assert timing_of(source(tmp_path, "endpoint_url: local")) == UNKNOWN._replace(settle_s=0.0)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, Timing(settle_s=120.0, token_trust_s=900.0, young_record_s=18.0)),
        ({"list_lag_s": 0.1}, Timing(settle_s=10.0, token_trust_s=900.0, young_record_s=18.0)),
        ({"list_lag_s": None, "update_lag_s": None, "token_recognised_s": None}, UNKNOWN),
        ({"update_lag_s": 0.1}, Timing(settle_s=120.0, token_trust_s=900.0, young_record_s=2.0)),
        ({"token_recognised_s": 60.0}, Timing(settle_s=120.0, token_trust_s=600.0, young_record_s=18.0)),
        (
            {"token_recognised_s": 60.0, "token_forgotten_s": 300.0},
            Timing(settle_s=120.0, token_trust_s=60.0, young_record_s=18.0),
        ),
        (
            {"token_recognised_s": None, "token_forgotten_s": 60.0},
            Timing(settle_s=120.0, token_trust_s=0.0, young_record_s=18.0),
        ),
    ],
)
def test_what_was_measured_is_used_with_a_margin(tmp_path: Path, changed: dict[str, Any], expected: Timing) -> None:
    """Lags are worse at other hours; a token is trusted for no longer than it was seen to be recognised."""
    assert timing(tmp_path, replace(MEASURED, **changed)) == expected


def test_what_the_user_set_stands(tmp_path: Path) -> None:
    """Whoever wrote a number wants that one."""
    assert timing(tmp_path, MEASURED, f"{AWS}, settle_s: 5, token_trust_s: 7") == Timing(5.0, 7.0, 18.0)


@pytest.mark.parametrize("elsewhere", [{"region": "us-east-1"}, {"endpoint_url": "https://proxy.example.com"}])
def test_what_was_measured_elsewhere_is_not_used(tmp_path: Path, elsewhere: dict[str, Any]) -> None:
    """Another region may be slower."""
    assert timing(tmp_path, replace(MEASURED, **elsewhere)) == UNKNOWN


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"])
def test_what_was_measured_where_a_variable_leads_is_not_used_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A memory on this machine lists what was written at once; AWS has taken more than a minute."""
    settings = source(tmp_path)
    write_measured(settings.state_folder, replace(MEASURED, endpoint_url="http://127.0.0.1:8000", list_lag_s=0.0))
    in_aws = timing_of(settings)
    monkeypatch.setenv(variable, "http://127.0.0.1:8000")

    assert in_aws == UNKNOWN
    assert timing_of(settings).settle_s == 10.0


def test_the_file_holds_what_was_measured_for_its_owner_alone(tmp_path: Path) -> None:
    """Like all that is in the state folder; and a second probe replaces the first."""
    settings = source(tmp_path)
    write_measured(settings.state_folder, replace(MEASURED, list_lag_s=1.0))

    file = write_measured(settings.state_folder, MEASURED)

    assert measured_of(settings) == MEASURED
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [each.name for each in file.parent.iterdir()] == [MEASURED_FILE]
    assert json.loads(file.read_text())["schema"] == "memsync/measured/1"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "memsync/measured/2"},
        {"list_lag_s": "long"},
        {"list_lag_s": -1},
        {"token_recognised_s": 1e300},
        {"new": 1},
        None,
    ],
)
def test_a_file_of_another_kind_is_not_believed(tmp_path: Path, change: dict[str, Any] | None) -> None:
    """A later version may mean something else by it; a run then does as if nothing had been measured."""
    settings = source(tmp_path)
    file = write_measured(settings.state_folder, MEASURED)
    file.write_text("{" if change is None else json.dumps(json.loads(file.read_text()) | change))

    assert timing_of(settings) == UNKNOWN
    with pytest.raises(ValueError):  # noqa: PT011 - the words are json's
        read_measured(file)
