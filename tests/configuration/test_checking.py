"""The lines of a configuration that `memsync validate` shows: where the fault is, and never a secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configuration.checking import excerpt_of
from pipeline.configuration.masking import continues_secret, without_secrets

SECRET = "hunter2"


@pytest.mark.parametrize(
    "line",
    [
        f"password: {SECRET}",
        f"  'api_key' : '{SECRET}'",
        f"source: {{type: imap, password: {SECRET}, tpye: x}}",
        f"auth: {{type: bearer, token: {SECRET}}}",
        f"auth: {{token_variable: TOKEN, token: {SECRET}}}",
        f"config_variables: {{password: NAME}}, secret: {SECRET}",
        f"password: {SECRET}${{env:A}}",
        f"password: ${{env:A}}{SECRET}",
        f"{{password: ${{env:A}}, token: {SECRET}}}",
        f"url: postgresql://reader:{SECRET}@db/wiki",
        f"url: postgresql://reader:{SECRET}/x@db/wiki",
        f"url: postgresql://reader:{SECRET}/x@db/wiki?password=a",
        f"url: postgresql://reader:{SECRET}${{env:A}}@db/wiki",
        f"url: postgresql://reader:${{env:A}}{SECRET}@db/wiki",
        f"url: postgresql://reader:{SECRET}@${{env:HOST}}/wiki",
        f"url: postgresql://reader:a@{SECRET}@db/wiki",
        f"url: postgresql://${{env:USER}}:{SECRET}@db/wiki",
        f"url: https://example.com/feed?key={SECRET}",
        f"url: https://example.com/feed?${{env:A}}&key={SECRET}",
        f"url: reader:{SECRET}@example.com:docs.git",
        f"command: [tap-github, --token, {SECRET}]",
        f'source: {{type: singer, command: ["tap-github", "--token", "{SECRET}"]}}',
        f"command: [tap-github, '--api-key={SECRET}']",
        f"command: [env, GITHUB_TOKEN={SECRET}, tap-github]",
        f"command: tap-github --password {SECRET}",
        f"command: [tap-github, --token, '${{env:A}}{SECRET}']",
    ],
)
def test_a_line_is_shown_without_its_secrets(line: str) -> None:
    """What validate prints is pasted into tickets, and kept in the logs of a CI."""
    assert SECRET not in without_secrets(line)


@pytest.mark.parametrize(
    "line",
    [
        "password: ${env:A}",
        'authorization: "Bearer ${env:A}"',
        "url: postgresql://reader:${env:A}@db/wiki",
        "url: postgresql://${env:USER}:${env:A}@${env:HOST}:5432/wiki",
        "url: sftp://reader@example.com/docs",
        "auth: {type: bearer, token_variable: TOKEN}",
        "config_variables: {password: WIKI_PASSWORD}",
        "command: [tap-github, --token, '${env:A}', --since, '2026']",
        "command: [tap-github, '--token=${env:A}']",
        "include: ['**/*.md']  # all of it",
        "schedule: '*/30 * * * *'",
    ],
)
def test_what_is_no_secret_is_shown_as_it_stands(line: str) -> None:
    """The fault may be just there."""
    assert without_secrets(line) == line


@pytest.mark.parametrize(
    ("line", "start", "marked"),
    [
        ("  inclde: [x]", 2, "inclde"),
        ("path: 'a b' # c", 6, "'a b'"),
        ("path: a b # c", 6, "a b"),
        ("x: {a: 1, bb: 2}", 10, "bb"),
        ("x: {a: 1}", 3, "{"),
        ("url: sqlite:///${env:A} # c", 5, "sqlite:///${env:A}"),
        ("x:", 2, ""),
    ],
)
def test_the_caret_stands_below_the_word(line: str, start: int, marked: str) -> None:
    excerpt = excerpt_of(line, start)

    assert excerpt.text[excerpt.start : excerpt.start + excerpt.width] == marked


@given(line=st.text("ab:{}[]'\"#$@/? password", max_size=40), start=st.integers(0, 39))
def test_any_line_can_be_shown(line: str, start: int) -> None:
    """A message must not fail where the file is at its worst."""
    excerpt = excerpt_of(line, min(start, len(line)))

    assert 0 <= excerpt.start <= len(excerpt.text)
    assert excerpt.width >= 1


@pytest.mark.parametrize(
    ("text", "is_secret"),
    [
        ("password:\n  SECRET", True),
        ("auth:\n  password: >-\n    first\n    SECRET", True),
        ("{user: me, password:\n  SECRET, port: x}", True),
        ("config:\n  tokens:\n  - a: 1\n  - SECRET", True),
        ("config:\n  tokens:\n  # a comment: of two words\n  - SECRET", True),
        ("password: x\nSECRET", True),  # which is no YAML; who knows what was meant
        ("command:\n  - tap-github\n  - --token\n  - SECRET", True),
        ('command: [tap-github, "--token",\n  "SECRET"]', True),
        ("command:\n  - --since\n  - SECRET", False),
        ("password: x\nport: SECRET", False),
        ("auth:\n  type: SECRET", False),  # `type` tells that it is none
        ("password_variable:\n  SECRET", False),
        ("password: x\ninclude:\n  - SECRET", False),
        ("timeout_s:\n  SECRET", False),
        ("SECRET", False),
    ],
)
def test_a_secret_on_a_line_of_its_own_is_known_by_the_key_above(text: str, is_secret: bool) -> None:
    """The line was shown, below a message that does not show the value."""
    lines = text.splitlines()

    assert continues_secret(lines, len(lines) - 1) == is_secret
