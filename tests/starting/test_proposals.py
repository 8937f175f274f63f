"""What follows from a look at a source."""

from typing import Any

import pytest

from pipeline.reporting.looks import FoundKind, Look
from pipeline.reporting.previews import DocumentPreview, RecordPreview, TextPreview
from pipeline.starting.apis import described_api, fields_of, paging_of, secret_of
from pipeline.starting.draft import Draft, Setting, tree
from pipeline.starting.proposals import (
    choice_of,
    common_settings,
    content_settings,
    documents_only,
    endings_to_leave_out,
    folders_to_leave_out,
)


def draft_of(**source: Any) -> Draft:
    return tuple(Setting(("source", key), value) for key, value in source.items())


def look_of(*lengths: int, kinds: dict[str, int] | None = None, **text: Any) -> Look:
    """A look at texts of these lengths; `text` is what else is known of each."""
    texts = [TextPreview(f"{number}", text.get("title"), None, length, text.get("unused", {}), text.get("records", ()))
             for number, length in enumerate(lengths)]  # fmt: skip
    found = [FoundKind(ending, count, 1, "unsupported type" if ending == ".png" else None)
             for ending, count in (kinds or {"": len(lengths)}).items()]  # fmt: skip
    return Look(kinds=found, previews=[DocumentPreview(each.id, "", 1, None, [each]) for each in texts])


def proposed(look: Look | None, **source: Any) -> dict[str, Any]:
    return tree(tuple(common_settings(draft_of(**source), "docs", look)))


@pytest.mark.parametrize(
    ("lengths", "max_chars", "said"),
    [
        ([100] * 10, 4000, "stay whole"),
        ([5000] * 10, 6000, "nine of ten"),
        ([100] * 8 + [50_000], 4000, "stay whole"),
        ([50_000] * 10, 4000, "50,000 characters or more"),
    ],
)
def test_chunks_are_as_long_as_the_texts_need(lengths: list[int], max_chars: int, said: str) -> None:
    """Texts that are only just too long would all be cut in two; and long chunks are found worse."""
    settings = {setting.path: setting for setting in common_settings(draft_of(type="s3"), "docs", look_of(*lengths))}

    assert settings["chunking", "max_chars"].value == max_chars
    assert said in settings["chunking", "max_chars"].why


def test_metadata_is_what_most_documents_have() -> None:
    """What a few have cannot be filtered by."""
    unused = {"team": "support", "abstract": "x" * 100, "bad[key]": "a", "url": "https://example.com"}

    metadata = proposed(look_of(1, 2, title="A", unused=unused), type="web")["record"]["metadata"]

    assert metadata == {"title": "{title}", "uri": "{uri}", "team": "{metadata.team}"}
    assert "metadata" not in proposed(look_of(1), type="s3")["record"]


def test_sources_do_not_all_begin_at_the_same_minute() -> None:
    """A dozen of hourly runs at the full hour would wait for each other's quota."""
    minutes = {
        str(tree(tuple(common_settings(draft_of(type="git"), name, None)))["schedule"]).split()[0]
        for name in ("handbook", "tickets", "wiki", "news")
    }

    assert len(minutes) == 4


def test_a_source_that_never_deletes_has_no_guard() -> None:
    """A setting without effect would only puzzle."""
    assert "deletes" not in proposed(None, type="feed", keep="forever")
    assert proposed(None, type="feed", keep="listed")["deletes"] == {"max_fraction": 0.2}


def test_documents_beside_code_are_what_is_meant_unless_they_are_few() -> None:
    """A repository of documents has scripts; a folder of data has a readme."""
    repository = choice_of(look_of(1, kinds={".md": 40, ".py": 60, ".png": 5}))
    data = choice_of(look_of(1, kinds={".md": 1, ".json": 300}))

    assert repository is not None
    assert repository.suggests_documents
    assert documents_only(repository).value == ["*.md"]
    assert data is not None
    assert not data.suggests_documents
    assert choice_of(look_of(1, kinds={".md": 40, ".png": 5})) is None
    assert choice_of(look_of(1, kinds={"": 40})) is None


def test_what_has_no_text_is_left_out_by_its_ending() -> None:
    """Otherwise each report counts it."""
    look = look_of(1, kinds={".md": 40, ".png": 5})
    found = endings_to_leave_out(draft_of(type="git", exclude=["node_modules/"]), look)

    assert found is not None
    assert found.value == ["node_modules/", "*.png"]
    assert endings_to_leave_out(draft_of(type="git", include=["*.md"]), look) is None


def test_folders_that_programs_fill_are_left_out_wherever_they_are() -> None:
    """Each package has its own."""
    found = folders_to_leave_out(Look(folders=("docs", "node_modules", "__pycache__")))

    assert found is not None
    assert sorted(found.value) == ["__pycache__/", "node_modules/"]
    assert folders_to_leave_out(Look(folders=("docs",))) is None


@pytest.mark.parametrize(
    ("text", "media_type"),
    [("<p>a</p>", ["html"]), ("# A\n\nb", ["markdown"]), ("1 < 2 and 3 > 2", []), ("", [])],
)
def test_the_markup_of_rows_is_told_from_rows(text: str, media_type: list[str]) -> None:
    """A database does not say it, and tags in records are noise."""
    look = look_of(10, 10, records=[RecordPreview(len(text), "/", text, {})])

    settings = content_settings(draft_of(type="sql", text="body"), look)

    assert [setting.value for setting in settings] == media_type
    assert content_settings(draft_of(type="sql", text=["a", "b"]), look) == []


# ------------------------------------------------------------------------------------------------------ APIs


def test_the_records_of_an_answer_are_its_longest_list() -> None:
    """Others are lists of links and errors."""
    answer = {"links": [{"rel": "self"}], "data": {"my-pages": [{"id": 1, "body": "a"}, {"id": 2, "body": "b"}]}}

    (base, _, resources) = described_api("https://example.com/v1/pages.json?per=5&api_key=x", answer)

    assert base.value == "https://example.com/v1/"
    assert resources.value == [
        {
            "name": "pages",
            "path": "pages.json",
            "params": {"per": "5"},
            "records": 'data."my-pages"',
            "id": "id",
            "text": "body",
        }
    ]


@pytest.mark.parametrize("name", ["private_token", "X-Amz-Signature", "sig", "key", "subscription-key", "auth_key"])
def test_a_secret_in_the_address_of_an_api_goes_into_no_file(name: str) -> None:
    """GitLab, AWS, Azure and Google have their own words for it."""
    url = f"https://example.com/pages?per=5&{name}=canary"

    settings = described_api(url, [{"id": 1, "body": "a"}])
    found = secret_of(url)

    assert "canary" not in str(settings)
    assert found is not None
    assert (found[0].value["name"], found[1]) == (name, "canary")


@pytest.mark.parametrize("name", ["page_token", "pageToken", "cursor", "keyword", "author", "signed_by"])
def test_what_is_no_secret_stays_in_the_address(name: str) -> None:
    assert secret_of(f"https://example.com/pages?{name}=x") is None


def test_a_field_is_told_by_its_name_or_by_what_is_in_it() -> None:
    """APIs have a dozen names for a title."""
    record = {
        "uuid": "a",
        "Headline": "T",
        "prose": "long " * 50,
        "short": "x",
        "modifiedAt": "2024",
        "link": "https://e",
    }

    assert fields_of([record]) == {
        "id": "uuid",
        "title": "Headline",
        "text": "prose",
        "modified_at": "modifiedAt",
        "uri": "link",
    }


@pytest.mark.parametrize(
    ("answer", "header", "paging"),
    [
        ([], '<https://e/2>; rel="next"', {"type": "link_header"}),
        ({"links": {"next": "https://e/2"}}, "", {"type": "next_url", "path": "links.next"}),
        ({"meta": {"next_cursor": "abc"}}, "", {"type": "cursor", "param": "cursor", "path": "meta.next_cursor"}),
        ({"next": "later", "items": [{"next": "https://e"}]}, "", None),
        ("text", "", None),
    ],
)
def test_an_answer_that_goes_on_is_noticed(answer: Any, header: str, paging: dict[str, str] | None) -> None:
    """Who reads the first page alone takes all other records for deleted."""
    assert paging_of(answer, header) == paging
