"""The stage that tests oracles: accuracy, calibration, order, length and cycles beside people's judgments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mnpo.common.ornaments import add_figures
from mnpo.common.progress import Progress
from mnpo.common.reliability_figure import reliability_figure
from mnpo.llm.config import ATTRIBUTES, Compute, Data, Folders, Judging, Models, OracleTest
from mnpo.llm.data.formats import Text
from mnpo.llm.data.judgments import Judgment, read_judgments
from mnpo.llm.data.pairs import Report, check_any
from mnpo.llm.fitting import testing
from mnpo.llm.fitting.testing import Answer
from mnpo.llm.models.job import Job
from mnpo.llm.oracles.asking import Asking, judge
from mnpo.llm.oracles.cards import Card, card_of, model_in
from mnpo.llm.oracles.panel import Panel, panels_of
from mnpo.llm.stages.annotate import answered_record
from mnpo.llm.stages.records import OracleTested, Tested
from mnpo.numerics import Array

#: The figure's name, without its ending.
FIGURE = "oracle-test"


def test_oracle(
    folders: Folders,
    model: Models,
    data: Data,
    judging: Judging,
    oracle_test: OracleTest,
    compute: Compute,
    progress: Progress | None = None,
) -> OracleTested:
    """Let every oracle judge what people judged, and compare; answers are kept in `output_dir`.

    Args:
        folders: everything is written below `output_dir`.
        model: whether code that comes with models may run.
        data: how judgments are read.
        judging: the oracle, where `oracle_test` names none.
        oracle_test: which oracles are tested, and on what.
        compute: the seed.
        progress: called as the work goes on.

    Raises:
        ValueError: no oracle, bad data, or an oracle that does not answer; its answers so far are kept.
    """
    job = Job.start(folders, model, compute, progress)
    panels = panels_of(judging.oracle, oracle_test.tested_oracles, trust_remote_code=model.trust_remote_code)
    names = oracle_test.tested_on or ([data.dataset_name] if data.dataset_name else [])
    if not names:
        raise ValueError("test-oracle needs judgments: name data, or dataset_name")
    rows, agreement, tests, taken = {}, {}, [], list[Asking]()
    for name in names:
        judgments, report = _read(data, name)
        rows[name], agreement[name] = report.as_dict(), testing.agreement(judgments)
        sets = testing.sets_of(judgments, oracle_test.test_set_size, oracle_test.test_sets)
        for title, panel in panels.items():
            asked = [(one.prompt, list(one.responses)) for one in judgments]
            answers, asking = _answers(job, panel, asked)
            taken += asking
            by_member = [_answers(job, Panel(m.oracle.name, (m._replace(weight=1.0),)), asked)[0]
                         for m in panel.members if len(panel.members) > 1]  # fmt: skip
            circled, asking = _answers(job, panel, sets)
            taken += asking
            own = dict(zip([m.oracle.name for m in panel.members], by_member, strict=False))
            tests.append(_tested(title, panel, name, judgments, answers, own, circled, compute.seed))
    record = OracleTested(
        rows=rows, agreement=agreement, tests=tests, oracles=[answered_record(one) for one in taken]
    )
    if job.processes.first:
        if oracle_test.recalibrate:
            _recalibrate(oracle_test.tested_oracles, tests)
        record.write(job.home)
        add_figures(lambda: {FIGURE: reliability_figure(record.as_dict()["tests"])}, job.home)
    job.processes.wait()
    return record


def _read(data: Data, name: str) -> tuple[list[Judgment], Report]:
    """Read the judgments that compare responses."""
    report, kept = Report(), []
    for one in read_judgments(
        name,
        config=data.dataset_config_name,
        split=data.dataset_split,
        limit=data.max_samples,
        columns=data.columns,
        attributes=ATTRIBUTES,
        bounded=ATTRIBUTES,
    ):
        report.read += 1
        if not isinstance(one, Judgment):
            report.drop("malformed", one[0], str(one[1]))
        elif not testing.said_of(one):
            report.drop("nothing is compared", one.number, "nothing is compared")
        elif not all(text.strip() for text in one.responses):
            report.drop("empty", one.number, "empty response")
        else:
            kept.append(one)
    report.kept = len(kept)
    check_any(report)
    return kept, report


def _answers(
    job: Job, panel: Panel, asked: Sequence[tuple[Text, list[str]]]
) -> tuple[list[Answer], list[Asking]]:
    """Put all pairs of each prompt's responses to a panel; prompts with as many responses are asked together."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for place, (_, responses) in enumerate(asked):
        by_size[len(responses)].append(place)
    found: dict[int, Answer] = {}
    taken: list[Asking] = []
    for size, places in sorted(by_size.items()):
        texts = [asked[place] for place in places]
        judgments, asking = judge(job, panel, texts, size, list(combinations(range(size), 2)))
        taken += asking
        for start in range(0, len(texts), judgments.at_once):
            stop = min(start + judgments.at_once, len(texts))
            both = judgments.orders(start, stop)
            for offset, said in enumerate(judgments.between(start, stop)):
                wins = np.tensordot([one.weight for one in said], [one.matrix(size) for one in said], axes=1)
                alone = said[0] if len(said) == 1 else None
                turned: Array | None = None if alone is None or both[0] is None else both[0][offset]
                rewards = None if alone is None else alone.rewards
                found[places[start + offset]] = Answer(np.asarray(wins), rewards, turned)
    return [found[place] for place in range(len(asked))], taken


def _tested(
    title: str,
    panel: Panel,
    name: str,
    judgments: list[Judgment],
    answers: list[Answer],
    members: dict[str, list[Answer]],
    circled: list[Answer],
    seed: int,
) -> Tested:
    pairs = testing.compared(judgments, answers)
    subsets = {
        subset: testing.met(judgments, answers, pairs, np.array([one.subset == subset for one in judgments]))
        for subset in dict.fromkeys(one.subset for one in judgments)
        if subset is not None
    }
    annotators = {}
    for who in sorted({one.annotator for one in judgments if one.annotator is not None}):
        own = members.get(who, answers)
        chosen = np.array([one.annotator == who for one in judgments])
        annotators[who] = testing.met(judgments, own, testing.compared(judgments, own), chosen)
    scale = float(getattr(panel.members[0].oracle, "divisor", panel.members[0].oracle.scale))
    scale = scale if len(panel.members) == 1 else 1.0
    best = testing.best_scale(pairs, scale)
    sections, ties = testing.benchmarks(judgments, answers, subsets)
    return Tested.from_dict(
        {
            "oracle": title,
            "kind": "population" if len(panel.members) > 1 else panel.members[0].oracle.kind,
            "data": name,
            "met": testing.met(judgments, answers, pairs, np.ones(len(judgments), dtype=bool)),
            "subsets": subsets,
            "annotators": annotators,
            "as_is": testing.reliability(pairs, scale, scale),
            "rescaled": None if best is None else testing.reliability(pairs, best, scale),
            "sections": sections,
            "ties": ties,
            "order": testing.orders(answers),
            "length": testing.lengths(pairs),
            "cycles": testing.cycles([one.wins for one in circled], seed),
        }
    )


def _recalibrate(oracles: dict[str, Any], tests: Sequence[Tested]) -> None:
    """Write the scale that fits best into the cards of fitted oracles.

    Raises:
        ValueError: an oracle that has no card, or that was tested on several data sets.
    """
    for name, spec in oracles.items():
        given = spec if isinstance(spec, str) else spec.get("model", "")
        folder = model_in(Path(given).expanduser())
        if not (folder / Card.FILE).is_file():
            raise ValueError(f"recalibrate: {name} is no oracle that mnpo fitted")
        found = [one for one in tests if one.oracle == name]
        if len(found) != 1:
            raise ValueError("recalibrate needs one data set, whose scale the oracle is given")
        if found[0].rescaled is not None:
            card = replace(card_of(folder), scale=found[0].rescaled.scale, calibrated=found[0].met.judgments)
            card.write(folder)
