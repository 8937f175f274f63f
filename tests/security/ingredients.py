"""What hostile inputs are made of: each function makes one from a random generator, always the same from its seed."""

import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

import orjson

CANARY = "quincebasket"
PASSWORD = "canary-of-the-address"
OUTSIDE = b"never to be read"

Make = Callable[[random.Random], bytes]

ODD_TEXTS = (
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "a\nlevel=error forged", "\u202egnp.exe", "\u2066hidden\u2069", "\0",
    "\ufeff", "\ufffe", "\u2028", "e\u0301" * 50, "🦊" * 40, "'; DROP TABLE records; --", "{source}", "%s%n",
    "=cmd|' /C'",
    "../../etc/passwd", "<script>", "${HOME}", "NaN", "1e999", "9" * 5000, "\x9b31m", "𝒳", "-0", "null", " " * 500,
)  # fmt: skip


def odd(rng: random.Random) -> str:
    return rng.choice(ODD_TEXTS)


def spoilt(rng: random.Random, content: bytes) -> bytes:
    """`content` as it is, or cut off, with bytes changed, doubled, or in another encoding."""
    match rng.randrange(8):
        case 0:
            return content[: rng.randrange(len(content) + 1)]
        case 1:
            changed = bytearray(content)
            for _ in range(min(len(changed), rng.randrange(1, 20))):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            return bytes(changed)
        case 2:
            return rng.choice([b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xff\xfe\0\0", b"\0"]) + content
        case 3:
            return content.decode("utf-8", "replace").encode(
                rng.choice(["utf-16", "utf-32", "utf-7", "cp1252"]), "replace"
            )
        case 4:
            return content * rng.randrange(2, 5)
        case _:
            return content


def repeated(rng: random.Random, *pieces: str) -> str:
    return rng.choice(pieces) * rng.choice([1, 30, 2000, 50_000])


def text(rng: random.Random) -> bytes:
    words = [odd(rng) for _ in range(rng.randrange(1, 30))] + [repeated(rng, "x", "\n", " \t", "\r", "a b ", "👨‍👩‍👧")]
    return spoilt(rng, " ".join(words).encode())


def markdown(rng: random.Random) -> bytes:
    pieces = [
        repeated(
            rng, "[", "![](", "> ", "- ", "*_", "`", "# ", "|", "<div>", "&amp;", "\\", "~~~\n", "    ", "[a](b)", "***"
        ),
        f"# {odd(rng)}\n\n{CANARY}\n",
        f"{odd(rng)}\n===\n",
        f"```{odd(rng)}\n",
        f"[{odd(rng)}]: {odd(rng)}\n",
    ]
    return spoilt(rng, "\n".join(rng.choices(pieces, k=rng.randrange(1, 8))).encode())


def yaml(rng: random.Random) -> str:
    """YAML that asks for too much, or says odd things."""
    levels = rng.randrange(2, 30)
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, levels))
    return rng.choice(
        [
            bomb,
            "a: &a [*a]\n",
            f"a: {'[' * rng.choice([10, 1000, 100_000])}\n",
            f"a: {'{a: ' * rng.choice([10, 1000, 20_000])}\n",
            "".join(f"{' ' * n}a:\n" for n in range(rng.choice([10, 300]))),
            "a: !!python/object/apply:os.system [id]\n",
            f"a: !<{odd(rng)}> x\n",
            "a: 1\na: 2\n",
            "<<: {a: 1}\n",
            "? [a, b]\n: c\n",
            f"a: !!int {'9' * rng.choice([10, 10_000])}\n",
            f"date: {rng.choice(['9999-99-99', '0000-00-00', '2026-01-01T00:00:00+99:00', '1e400', '.inf'])}\n",
            f"title: {orjson.dumps(odd(rng)).decode()}\n",
            f"{orjson.dumps(odd(rng)).decode()}: {CANARY}\n",
            f"a: |\n  {odd(rng)}\n",
            "\ta: b\n",
            f"a: '{'x' * rng.choice([10, 70_000, 2_000_000])}'\n",
            "- 1\n",
            "%YAML 9.9\n",
            "a: *unknown\n",
        ]
    )


def front_matter(rng: random.Random) -> bytes:
    return spoilt(rng, f"---\n{yaml(rng)}{rng.choice(['---', '...', '', '---x'])}\n# {odd(rng)}\n{CANARY}\n".encode())


def html(rng: random.Random) -> bytes:
    pieces = [
        repeated(rng, "<div>", "<p>x", "<table><tr><td>", "<ul><li>", "<b><i>", "<!--", "<script>", "&#x"),
        repeated(rng, "<main>", "<svg>", "<a href=", "</"),
        f"<title>{odd(rng)}</title>",
        f"<meta name='{odd(rng)}' content='{odd(rng)}'>",
        f"<p onload='{odd(rng)}'>{odd(rng)} {CANARY}</p>",
        "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><p>&b;",
        "<![CDATA[", "<?xml version='1.0'?>", f"&#{rng.randrange(0x120000)};", "<style>" + odd(rng), "<main role=main>",
        f"<pre>{odd(rng)}", f"<{odd(rng)}>", "<td colspan=99999999 rowspan=99999999>x",
        "<ol start=-99999999999999999999><li>x",
        f"<meta charset={rng.choice(['utf-7', 'idna', 'rot13', 'zip', 'x' * 50])}>", "<template><iframe><noscript>",
    ]  # fmt: skip
    return spoilt(rng, "".join(rng.choices(pieces, k=rng.randrange(1, 12))).encode())


def json_value(rng: random.Random, depth: int = 0) -> str:
    return rng.choice(
        [
            orjson.dumps(odd(rng)).decode(),
            '"\\ud800"',
            rng.choice(["NaN", "-Infinity", "1e999", "9" * 5000, "null", "true", "-0.0", "0x10"]),
            "[" * rng.choice([3, 1000, 100_000]),
            "[" * 900 + "]" * 900,
            f"[{json_value(rng, depth + 1)}, {json_value(rng, depth + 1)}]" if depth < 4 else "[]",
            f'{{"a": {json_value(rng, depth + 1)}, "a": 1}}' if depth < 4 else "{}",
            f'"{CANARY}"',
        ]
    )


def json_lines(rng: random.Random) -> bytes:
    names = ["id", "text", "title", "updated_at", "content", "", "\\u0000", "ID"]
    lines = [
        "{" + ", ".join(f'"{rng.choice(names)}": {json_value(rng)}' for _ in range(rng.randrange(5))) + "}"
        for _ in range(rng.randrange(1, 12))
    ]
    return spoilt(rng, "\n".join(lines).encode())


def csv(rng: random.Random) -> bytes:
    cells = [*ODD_TEXTS, '"', '""', '"a\n', "x" * 200_000, CANARY, "", "id", "text"]
    rows = [
        rng.choice(",;\t|").join(rng.choices(cells, k=rng.choice([1, 3, 300]))) for _ in range(rng.randrange(1, 10))
    ]
    return spoilt(rng, "\n".join(rows).encode())


def configuration(rng: random.Random) -> bytes:
    settings = [
        "name: docs\n",
        "source: {type: filesystem, path: .}\n",
        f"source: {{type: {orjson.dumps(odd(rng)).decode()}, path: .}}\n",
        f"source: {{type: filesystem, path: {orjson.dumps(odd(rng)).decode()}, include: {json_value(rng)}}}\n",
        "destination: {type: agentcore, memory_id: handbook-a1B2c3D4e5, region: us-east-1}\n",
        f"destination: {{type: agentcore, memory_id: h-a1B2c3D4e5, endpoint_url: 'http://u:{PASSWORD}@h{odd(rng)[:1]}/'}}\n",
        f"record: {{namespace: {orjson.dumps(odd(rng)).decode()}, metadata: {json_value(rng)}}}\n",
        f"chunking: {{max_chars: {json_value(rng)}}}\n",
        f"schedule: {orjson.dumps(odd(rng)).decode()}\n",
        f"{orjson.dumps(odd(rng)).decode()}: 1\n",
        yaml(rng),
    ]
    first = settings[0] + settings[1] + settings[4] if rng.random() < 0.5 else ""
    return spoilt(rng, (first + "".join(rng.sample(settings, rng.randrange(3)))).encode())


def letter(rng: random.Random) -> bytes:
    members = {
        "schema": "memsync/dead-letter/1", "id": "1", "source": "other", "document_id": "a", "operation": "create",
        "record": {"content": {"text": CANARY}}, "key": "k", "digest": "d",
        "error": {"stage": "write", "code": "400", "message": "no"}, "attempts": 1,
        "first_failed_at": "2026-01-01T00:00:00+00:00", "last_failed_at": "2026-01-01T00:00:00+00:00",
        "run_id": "r", "client_token": "t",
    }  # fmt: skip
    line = orjson.dumps(members).decode()
    for name in rng.sample(sorted(members), rng.randrange(4)):
        odd_value = rng.choice(
            [json_value(rng), '"0001-01-01"', '"0001-01-01T00:00:00+23:59"', '"9999-12-31T23:59:59-23:59"', "[]", "{}"]
        )
        old = f'"{name}":{orjson.dumps(members[name]).decode()}'
        line = line.replace(old, f'"{name}":{odd_value}')
    return spoilt(rng, line.encode())


def answer(rng: random.Random) -> bytes:
    outcome = "{" + ", ".join(
        rng.sample(
            [
                '"requestIdentifier": "key"', '"memoryRecordId": "mem-1"', '"status": "SUCCEEDED"',
                '"status": "FAILED"',
                f'"status": {json_value(rng)}', f'"errorCode": {json_value(rng)}', '"errorCode": 400',
                f'"errorMessage": "a text with {CANARY} in it"', f'"errorMessage": {json_value(rng)}',
                f'"requestIdentifier": {json_value(rng)}', f'"memoryRecordId": {json_value(rng)}',
            ],
            rng.randrange(1, 8),
        )
    ) + "}"  # fmt: skip
    message = rng.choice(
        [f'"no: a text with {CANARY} in it"', f"\"Value 'a text with {CANARY}' at 'records.1' failed\""]
    )
    field = f'{{"name": "records.0.text", "message": {message}}}'
    return spoilt(
        rng,
        rng.choice(
            [
                f'{{"successfulRecords": [{outcome}], "failedRecords": []}}',
                f'{{"successfulRecords": [], "failedRecords": [{outcome}]}}',
                f'{{"successfulRecords": [{outcome}], "failedRecords": [{outcome}]}}',
                f'{{"successfulRecords": {json_value(rng)}, "failedRecords": {json_value(rng)}}}',
                f'{{"Error": {{"Code": {orjson.dumps(odd(rng)).decode()}, "Message": {message}}}}}',
                f'{{"Error": {{"Code": "ValidationException", "Message": {message}}}, "fieldList": [{field}]}}',
                json_value(rng),
            ]
        ).encode(),
    )


def name(rng: random.Random) -> bytes:
    kind = rng.choice(["file", "file", "file", "folder", "link", "pipe", "socket", "circle", "hard"])
    raw = rng.choice(
        [odd(rng).encode(), bytes(rng.randrange(1, 256) for _ in range(rng.randrange(1, 60))), b"-rf", b".."]
    )
    return kind.encode() + b":" + raw.replace(b"/", b"%2F")[:255]


def plant(root: Path, made: bytes) -> None:
    """Put what `name` made into the folder `root`."""
    kind, _, raw = made.partition(b":")
    path = os.path.join(os.fsencode(root), raw)  # noqa: PTH118 - a name of bytes
    outside = root.parent / "outside"
    outside.write_bytes(OUTSIDE)
    match kind:
        case b"folder":
            os.mkdir(path)  # noqa: PTH102
            with open(os.path.join(path, raw), "wb") as file:  # noqa: PTH118, PTH123
                file.write(b"a text")
        case b"link":
            os.symlink(os.fsencode(outside), path)  # noqa: PTH211
        case b"circle":
            os.symlink(b".", path)  # noqa: PTH211
        case b"pipe":
            os.mkfifo(path)
        case b"socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
        case b"hard":
            (root / "first").write_bytes(b"a text")
            os.link(root / "first", path)
        case _:
            with open(path, "wb") as file:  # noqa: PTH123
                file.write(b"a text")
