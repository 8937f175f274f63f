"""Full-text search in any script, for SQLite's FTS5.

The service searches by meaning. Words and their stems are the nearest thing that needs no model, and any word
of the query may match: bm25 puts the records first that hold the rarer ones.

FTS5 splits text at spaces, but Chinese, Japanese, Thai and others write none, and Korean glues particles to
words. So their characters are indexed one by one, and a query asks for each neighbouring pair as a phrase:
the usual bigram index, with nothing but a change of text before the tokenizer.
"""

import re
from itertools import pairwise

__all__ = ("TOKENIZER", "match_expression", "score", "searchable")

TOKENIZER = "porter unicode61 remove_diacritics 2"

# FTS5 opens a cursor for each term. What stands behind the first thousand hardly changes the ranking.
TERMS_MAX = 1_000

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Myanmar, Khmer
    "\u1100-\u11ff\uac00-\ud7af"  # Hangul
    "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Hiragana, Katakana
    "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_UNSPACED_CHARACTER = re.compile(f"([{_UNSPACED}])")
_TERM = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+")


def searchable(text: str) -> str:
    """`text` as it is indexed: characters of scripts without spaces stand alone."""
    return _UNSPACED_CHARACTER.sub(r" \1 ", text)


def match_expression(query: str) -> str | None:
    """The FTS5 expression that finds any word of `query`; None if it has no word at all.

    Every term is a quoted string of letters and digits, so nothing a user types is FTS5 syntax.
    """
    terms: dict[str, None] = {}
    for word in _TERM.findall(query):
        if len(word) == 1 or not _UNSPACED_CHARACTER.match(word):
            terms[f'"{word}"'] = None
        else:
            for first, second in pairwise(word):
                terms[f'"{first} {second}"'] = None
    return " OR ".join(list(terms)[:TERMS_MAX]) or None


def score(bm25: float) -> float:
    """FTS5's bm25, where lower is better and 0 is no match, as 0..1 where higher is better."""
    relevance = max(-bm25, 0.0)
    return relevance / (1 + relevance)
