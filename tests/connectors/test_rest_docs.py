"""The page on `type: rest` says all that there is, and its examples are valid."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from connectors.rest.settings import Auth, Detail, Paging, Parts, Resource, RestSettings

PAGE = (Path(__file__).parents[2] / "docs" / "rest.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def models() -> list[type[BaseModel]]:
    unions = [get_args(get_args(union)[0]) for union in (Auth, Paging)]
    return [RestSettings, Resource, Detail, Parts, *unions[0], *unions[1]]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_the_page_names_every_option(model: type[BaseModel]) -> None:
    """An option that is not there does not exist for its readers."""
    for name in model.model_fields:
        assert re.search(rf"\b{name}\b", PAGE), name


def test_every_option_has_a_description() -> None:
    for model in models():
        for name, field in model.model_fields.items():
            assert name == "type" or field.description, (model, name)


def test_the_walk_through_is_a_source() -> None:
    source = yaml.safe_load(BLOCKS[0])["source"]

    settings = RestSettings.model_validate(source)

    assert settings.resources[0].detail is not None


def test_each_way_of_logging_in_is_one() -> None:
    lines = BLOCKS[1].strip().splitlines()

    ways = {TypeAdapter(Auth).validate_python(yaml.safe_load(line)["auth"]).type for line in lines}

    assert ways == {"bearer", "basic", "api_key", "oauth2"}
