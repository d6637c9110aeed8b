"""What people say of responses, read into one kind of row: pairs, rankings and ratings, with who said it.

Known besides the preference pairs of `mnpo.llm.data.formats`: HelpSteer2's ratings, the several annotators of
HelpSteer3, UltraFeedback's lists of responses with scores, RewardBench 1 and 2, rankings over texts, and PrefLib's
files, whose alternatives are the responses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from mnpo.choices import choose
from mnpo.common.given import read_text, user_path
from mnpo.llm.data.encoding import text_of
from mnpo.llm.data.formats import (
    NUMBERS,
    SCORED,
    STRENGTHS,
    Malformed,
    Text,
    as_row,
    asked,
    first_line,
    is_number,
    numbers_of,
    strength_of,
)
from mnpo.llm.data.sources import Raw, raw_rows, rename

#: How data sets call who judged.
ANNOTATORS = ("annotator", "annotator_id", "annotator_name", "worker", "worker_id")
#: HelpSteer3's judgments of several annotators of one pair: a list of objects with a `score`.
INDIVIDUAL = "individual_preference"
#: UltraFeedback's prompt, list of responses, and what a response's score is called, the first that is there.
ULTRA = ("instruction", "completions", ("overall_score", "fine-grained_score"))
#: Columns that are read besides those of pairs.
COLUMNS = (
    "prompt",
    "chosen",
    "rejected",
    "response",
    "responses",
    "scores",
    "ranking",
    "annotator",
    "subset",
)
#: What HelpSteer2's ratings are, for its five attributes.
LOWEST, HIGHEST = 0, 4
_PREFLIB = (".soc", ".soi", ".toc", ".toi")


@dataclass(frozen=True)
class Judgment:
    """What somebody says of a prompt's responses.

    Attributes:
        number: the row's place in its source, from 1; several judgments can come from one row.
        prompt: a text, or the messages of a conversation.
        responses: K texts.
        ranks: of each response, 0 for the best; those that share one are tied. None: nobody compared them.
        preference: of a pair, how likely the first is the better one, instead of ranks.
        strength: of a pair, how much better, at least 0.
        ratings: of each response, in the order of the attributes; None for one that was not rated.
        weight: how often the judgment counts.
        annotator: who judges.
        subset: what part of a benchmark it belongs to.
        name: what the row is called, its `id`.
    """

    number: int
    prompt: Text
    responses: tuple[str, ...]
    ranks: tuple[int, ...] | None = None
    preference: float | None = None
    strength: float | None = None
    ratings: tuple[tuple[float | None, ...], ...] | None = None
    weight: float = 1.0
    annotator: str | None = None
    subset: str | None = None
    name: str | None = None

    @property
    def is_pair(self) -> bool:
        """Whether it compares two responses."""
        return self.preference is not None

    @property
    def says_nothing(self) -> bool:
        """Whether it prefers no response to another, and rates none."""
        tied = self.preference == 0.5 if self.ranks is None else len(set(self.ranks)) < 2
        return tied and self.ratings is None


@dataclass
class Reader:
    """Reads rows of any known format.

    Attributes:
        attributes: the ratings that are wanted.
        bounded: those of them that must lie between `LOWEST` and `HIGHEST`.
    """

    attributes: Sequence[str] = ()
    bounded: Collection[str] = field(default_factory=tuple)

    def of(self, number: int, raw: Mapping[str, Any]) -> Iterator[Judgment]:
        """Yield the judgments of a row.

        Raises:
            Malformed: what is wrong with it.
        """
        who = next((str(raw[name]) for name in ANNOTATORS if raw.get(name) is not None), None)
        said: dict[str, Any] = {
            "annotator": who,
            "subset": _text(raw.get("subset")),
            "name": _text(raw.get("id")),
        }
        if raw.get("ranking") is not None or raw.get("scores") is not None:
            yield self._ranked(number, raw, said)
        elif all(raw.get(name) is not None for name in ULTRA[:2]):
            yield self._ultra(number, raw, said)
        elif all(raw.get(name) is not None for name in SCORED):
            yield _pool(number, asked(_given(raw, "prompt")), raw[SCORED[0]], raw[SCORED[1]], said)
        elif isinstance(raw.get("chosen"), list) and all(isinstance(text, str) for text in raw["chosen"]):
            yield _best_of(number, raw, said)
        elif raw.get(INDIVIDUAL):
            yield from _individual(number, raw, said)
        elif raw.get("response") is not None and any(raw.get(name) is not None for name in self.attributes):
            yield self._rated(number, raw, said)
        else:
            yield _pair(number, raw, said)

    def _rated(self, number: int, raw: Mapping[str, Any], said: Mapping[str, Any]) -> Judgment:
        """One response with ratings (HelpSteer2)."""
        if not isinstance(raw["response"], str):
            raise Malformed("'response' is no text")
        prompt, ratings = asked(_given(raw, "prompt")), (self._ratings(raw),)
        return Judgment(number, prompt, (raw["response"],), ratings=ratings, weight=_weight(raw), **said)

    def _ultra(self, number: int, raw: Mapping[str, Any], said: Mapping[str, Any]) -> Judgment:
        """A list of responses, each an object with its text and scores (UltraFeedback)."""
        listed = raw[ULTRA[1]]
        if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
            raise Malformed(f"{ULTRA[1]!r} is no list of objects")
        name = next(
            (name for name in ULTRA[2] if any(one.get(name) is not None for one in listed)), ULTRA[2][0]
        )
        scores = [one.get(name) for one in listed]
        return _pool(number, asked(raw[ULTRA[0]]), [one.get("response") for one in listed], scores, said)

    def _ranked(self, number: int, raw: Mapping[str, Any], said: Mapping[str, Any]) -> Judgment:
        """Responses with scores, the higher the better, or with the places of a ranking, 0 the best."""
        by = "scores" if raw.get("scores") is not None else "ranking"
        numbers = raw[by]
        if not isinstance(numbers, list):
            raise Malformed(f"{by!r} is no list")
        if by == "ranking":
            numbers = [-place if is_number(place) else place for place in numbers]
        return _pool(
            number, asked(_given(raw, "prompt")), _given(raw, "responses"), numbers, said, _weight(raw)
        )

    def _ratings(self, raw: Mapping[str, Any]) -> tuple[float | None, ...]:
        found = []
        for name in self.attributes:
            value = raw.get(name)
            if value is not None and not is_number(value):
                raise Malformed(f"the rating {name} is no finite number: {str(value)[:20]!r}")
            if value is not None and name in self.bounded and not LOWEST <= value <= HIGHEST:
                raise Malformed(f"the rating {name} is not between {LOWEST} and {HIGHEST}: {value:g}")
            found.append(None if value is None else float(value))
        return tuple(found)


def read_judgments(
    name: str,
    *,
    config: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    attributes: Sequence[str] = (),
    bounded: Collection[str] = (),
) -> Iterator[Judgment | tuple[int, Malformed]]:
    """Read judgments row by row, in order.

    Args:
        name, config, split, limit, columns: as for `mnpo.llm.data.sources.read`; also a file of PrefLib.
        attributes, bounded: see `Reader`.

    Yields:
        Judgments, and for malformed rows their number and what is wrong.

    Raises:
        ValueError: no such data, no rows, or none that says anything: says what is wrong with the first.
    """
    renamed = dict(columns or {})
    known = dict.fromkeys([*COLUMNS, *NUMBERS, *attributes])
    for ours in renamed:
        choose(ours, known, "key of columns")
    reader, good, wrong, any_rows = Reader(attributes, bounded), False, list[str](), False
    for number, raw in islice(_rows(name, config, split), limit):
        any_rows = True
        try:
            if isinstance(raw, Malformed):
                raise raw
            for judgment in reader.of(number, rename(raw, renamed)):
                yield judgment
                good = True
        except Malformed as reason:
            wrong.append(f"row {number}: {reason}")
            yield number, reason
    if not good:
        named = "; ".join(wrong[:5]) + "; .." * (len(wrong) > 5)
        raise ValueError(f"dataset {name} has no {f'judgment ({named})' if any_rows else 'rows'}")


def _rows(name: str, config: str | None, split: str | None) -> Iterable[Raw]:
    path = user_path(name)
    if path.suffix in _PREFLIB and path.is_file():
        return _preflib(path)
    return raw_rows(name, config, split)


def _preflib(path: Path) -> Iterator[Raw]:
    """Rankings of a PrefLib file: alternatives are the responses, the title is the prompt, equal ballots are one.

    Raises:
        ValueError: a file that cannot be read.
    """
    from preflibtools.instances import OrdinalInstance

    try:
        read_text(path)  # a text of a size that fits
        instance = OrdinalInstance(str(path))
        names = instance.alternatives_name
        rows = [
            (
                [(names[which], place) for place, tied in enumerate(order) for which in tied],
                instance.multiplicity[order],
            )
            for order in instance.orders
        ]
    except Exception as error:  # whatever a reader can do
        raise ValueError(f"dataset {path}: {type(error).__name__}: {first_line(error)}") from None
    for number, (placed, weight) in enumerate(rows, start=1):
        yield (
            number,
            {
                "prompt": instance.title or path.stem,
                "responses": [text for text, _ in placed],
                "ranking": [place for _, place in placed],
                "weight": weight,
            },
        )


# --- formats --------------------------------------------------------------------------------------------------


def _pair(number: int, raw: Mapping[str, Any], said: Mapping[str, Any]) -> Judgment:
    """Anything that is a preference pair; which of the two is preferred, and by how much."""
    row = as_row(number, raw)
    known = row.numbers
    responses = tuple(text_of(side) for side in (row.chosen, row.rejected))
    return Judgment(
        number,
        row.prompt,
        responses,
        preference=known.get("preference", 1.0),
        strength=_strength(known.get("margin")),
        weight=known.get("weight", 1.0),
        **said,
    )


def _individual(number: int, raw: Mapping[str, Any], said: Mapping[str, Any]) -> Iterator[Judgment]:
    """Each annotator's judgment of one pair (HelpSteer3); who is not told apart by name is by place."""
    listed = raw[INDIVIDUAL]
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
        raise Malformed(f"{INDIVIDUAL!r} is no list of objects")
    prompt, *responses = (_given(raw, name) for name in STRENGTHS[1][:3])
    if not all(isinstance(text, str) for text in responses):
        raise Malformed("one of the two responses is no text")
    for place, one in enumerate(listed, start=1):
        strength = strength_of(one.get("score"))
        who = next((str(one[name]) for name in ANNOTATORS if one.get(name) is not None), str(place))
        better = 0.5 if strength == 0 else float(strength < 0)
        yield Judgment(
            number, asked(prompt), tuple(responses), preference=better, strength=float(abs(strength)),
            **{**said, "annotator": who},
        )  # fmt: skip


def _best_of(number: int, raw: Mapping[str, Any], said: Mapping[str, Any]) -> Judgment:
    """Right responses and wrong ones (RewardBench 2)."""
    wrong = raw.get("rejected")
    if not isinstance(wrong, list) or not all(isinstance(text, str) for text in wrong):
        raise Malformed("'chosen' is a list of texts and 'rejected' is none")
    ranks = [0] * len(raw["chosen"]) + [1] * len(wrong)
    return _checked(number, asked(_given(raw, "prompt")), [*raw["chosen"], *wrong], ranks, said, 1.0)


def _pool(
    number: int, prompt: Text, responses: Any, scores: Any, said: Mapping[str, Any], weight: float = 1.0
) -> Judgment:
    """Responses with scores, the higher the better; those without a score are left out."""
    if not isinstance(responses, list) or not isinstance(scores, list) or len(responses) != len(scores):
        raise Malformed("responses and scores are not lists of the same length")
    kept = [(text, score) for text, score in zip(responses, scores, strict=True) if score is not None]
    if not all(is_number(score) for _, score in kept):
        raise Malformed("a score is no finite number")
    order = sorted({float(score) for _, score in kept}, reverse=True)
    ranks = [order.index(float(score)) for _, score in kept]
    return _checked(number, prompt, [text for text, _ in kept], ranks, said, weight)


def _checked(
    number: int, prompt: Text, responses: list[Any], ranks: list[int], said: Mapping[str, Any], weight: float
) -> Judgment:
    if not all(isinstance(text, str) for text in responses):
        raise Malformed("a response is no text")
    if len(responses) < 2:
        raise Malformed(f"a pool needs at least two responses; it has {len(responses)}")
    return Judgment(number, prompt, tuple(responses), ranks=tuple(ranks), weight=weight, **said)


def _given(raw: Mapping[str, Any], name: str) -> Any:
    if raw.get(name) is None:
        raise Malformed(f"no {name!r}")
    return raw[name]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _weight(raw: Mapping[str, Any]) -> float:
    return numbers_of({"weight": raw.get("weight")}).get("weight", 1.0)


def _strength(margin: float | None) -> float | None:
    if margin is not None and margin < 0:
        raise Malformed(f"'margin' is below 0: {margin:g}; the strength of a preference is at least 0")
    return margin
