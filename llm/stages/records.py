"""What stages leave: frozen records, each in a JSON file of its own in the output folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mnpo.common.records import FileRecord, Record
from mnpo.common.seals import about_sealed, damage
from mnpo.llm.models.folders import MODEL
from mnpo.llm.storage.manifests import read_manifest

#: The stages' data sets, in the output folder; `mnpo.llm.data.schema.TABLES` has their columns.
SAMPLES, ANNOTATIONS, PREFERENCES = "prompts-and-responses", "annotations", "preferences"
SCORED, HELD_OUT = "scored", "held-out"
#: What is said where a fit finds none.
NO_PAIRS = (
    "the configuration lacks dataset_name, and output_dir holds no preferences; "
    "mnpo llm sample and annotate make them"
)
#: What is said where an oracle is to be fitted to none.
NO_JUDGMENTS = "the configuration lacks dataset_name, the judgments that the oracle is fitted to"
#: What is said where held-out pairs are to come of pairs that were made.
NO_SPLITS = "pairs that annotate made have no splits for eval_split; give eval_size, or eval_dataset_name"

#: What became of a data set's rows: `mnpo.llm.data.pairs.Report` as plain data.
RowReport = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Drawn(Record):
    """Responses of one model.

    Attributes:
        name: what the model is called.
        model: its folder.
        drawn, reused: responses that were drawn, and found in the store.
        tokens: of those drawn.
        seconds: wall clock.
        tokens_per_second: None if nothing was drawn.
        length: tokens of a response, mean over all.
        ended: the share that the model ended by itself.
    """

    name: str
    model: str
    drawn: int
    reused: int
    tokens: int
    seconds: float
    tokens_per_second: float | None
    length: float
    ended: float


@dataclass(frozen=True, kw_only=True)
class Answered(Record):
    """Questions put to one oracle.

    Attributes:
        oracle, kind: the oracle's.
        asked, reused: questions that were asked, and found in the store.
        seconds: wall clock.
    """

    oracle: str
    kind: str
    asked: int
    reused: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Scored(Record):
    """Log-probabilities under one model.

    Attributes:
        anchor: what the model is called.
        model: its folder.
        scored, reused: responses that were scored, and found in the store.
        seconds: wall clock.
        mean_chosen, mean_rejected: mean log-probabilities of the training pairs in nats, where there are pairs.
    """

    anchor: str
    model: str
    scored: int
    reused: int
    seconds: float
    mean_chosen: float | None = None
    mean_rejected: float | None = None


@dataclass(frozen=True, kw_only=True)
class SamplesManifest(Record):
    """What samples are by content: a digest, whose they are besides the policy's, and the vocabulary's digest."""

    samples: str
    opponents: list[str]
    tokenizer: str


@dataclass(frozen=True, kw_only=True)
class Samples(FileRecord):
    """What `sample` leaves.

    Attributes:
        folder: a data set, `mnpo.llm.data.schema.SAMPLES`.
        manifest: what it is by content.
        prompts: what became of the prompts that were read.
        used: how many are for training and for evaluation.
        models: who was sampled.
    """

    FILE: ClassVar[str] = "samples.json"

    folder: str
    manifest: SamplesManifest
    prompts: dict[str, RowReport]
    used: dict[str, int]
    models: list[Drawn]

    def intact(self, folder: Path) -> bool:
        """See `FileRecord`."""
        found = about_sealed(folder / SAMPLES)
        return found is not None and found["content"] == self.manifest.samples


@dataclass(frozen=True, kw_only=True)
class Weights(Record):
    """Importance weights of the responses in sample games.

    Attributes:
        responses: K.
        effective: how many equal responses they are worth, (Σ w)²/Σ w², mean over prompts.
        least: the smallest of these.
        collapsed: prompts whose weights are worth fewer than two responses.
        rows: their numbers in the source, the first of them.
    """

    responses: int
    effective: float
    least: float
    collapsed: int
    rows: list[int]


@dataclass(frozen=True, kw_only=True)
class PairsManifest(Record):
    """What sampled pairs are made of.

    Attributes:
        samples: the samples' digest.
        oracles: weight, scale and digest of each.
        recipe: how.
        seed: the run's and the player's.
        anchors: digests of the policies that responses are weighed by, of an implicit step.
    """

    samples: str
    oracles: list[list[Any]]
    recipe: str
    seed: list[Any]
    anchors: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Annotations(FileRecord):
    """What `annotate` leaves.

    Attributes:
        folder: a data set of win matrices and rewards, `mnpo.llm.data.schema.ANNOTATIONS`.
        pairs: a data set of pairs, `mnpo.llm.data.schema.PAIRS`.
        manifest: what the pairs are made of.
        made: how many pairs.
        dropped: reason -> how many could not be made.
        teaches: what the pairs teach, in a line.
        oracles: who was asked.
        scores: whose log-probabilities weigh the responses, of an implicit step.
        weights: these weights.
    """

    FILE: ClassVar[str] = "annotations.json"

    folder: str
    pairs: str
    manifest: PairsManifest
    made: int
    dropped: dict[str, int]
    teaches: str
    oracles: list[Answered]
    scores: list[Scored]
    weights: Weights | None

    def intact(self, folder: Path) -> bool:
        """See `FileRecord`."""
        encoded, pairs = EncodedPairs.read(folder / PREFERENCES), about_sealed(folder / PREFERENCES)
        whole = encoded is not None and pairs is not None and pairs["content"] == encoded.digest
        return whole and damage(folder / ANNOTATIONS) is None


@dataclass(frozen=True, kw_only=True)
class EncodedPairs(FileRecord):
    """What sampled pairs are, beside them.

    Attributes:
        digest: of their content.
        manifest: what they are made of.
        tokenizer: the vocabulary's digest.
        longest: tokens of the longest prompt and response.
        report: what became of them.
    """

    FILE: ClassVar[str] = "encoded.json"

    digest: str
    manifest: PairsManifest
    tokenizer: str
    longest: int
    report: RowReport


@dataclass(frozen=True, kw_only=True)
class ScoresManifest(Record):
    """What scored pairs are by content: digests of the splits, and of what else each anchor's scores depend on."""

    pairs: dict[str, str]
    anchors: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Scores(FileRecord):
    """What `score` leaves.

    Attributes:
        folder: a data set with splits, `mnpo.llm.data.schema.SCORED`.
        manifest: what it is by content.
        rows: what became of the data's rows.
        anchors: whose log-probabilities they are.
    """

    FILE: ClassVar[str] = "scores.json"

    folder: str
    manifest: ScoresManifest
    rows: dict[str, RowReport]
    anchors: list[Scored]

    def intact(self, folder: Path) -> bool:
        """See `FileRecord`."""
        there = read_manifest(folder / SCORED)
        return there == self.manifest.as_dict() and all(
            damage(folder / SCORED / split) is None for split in self.manifest.pairs
        )


@dataclass(frozen=True, kw_only=True)
class Fitted(FileRecord):
    """What `fit` leaves; the model stands beside it.

    Attributes:
        objective: its name and parameters.
        rule: the update rule, if there is one.
        target: what h was regressed on, of the MNPO objectives.
        pairs: how many, by split.
        rows: what became of the data's rows.
        anchors: who was scored.
        steps: of the optimizer.
        loss: the last that was logged.
        eval: metrics of held-out pairs.
        log: transformers' log.
        processes, distributed: how many processes, and how they shared the work.
        seconds: of training, wall clock.
        resumed: the checkpoint that it went on from, "complete" if nothing was left to do.
        model: the folder of the trained model.
    """

    FILE: ClassVar[str] = "results.json"

    objective: dict[str, Any]
    rule: dict[str, Any] | None
    target: str | None
    pairs: dict[str, int]
    rows: dict[str, RowReport]
    anchors: list[Scored]
    steps: int
    loss: float
    eval: dict[str, float]
    log: list[dict[str, Any]]
    processes: int
    distributed: str
    seconds: float
    resumed: str | None
    model: str

    def intact(self, folder: Path) -> bool:
        """See `FileRecord`."""
        return damage(folder / MODEL) is None


@dataclass(frozen=True, kw_only=True)
class Interval(Record):
    """A mean with a confidence interval of 95%."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Bracket(Record):
    """A gap that is known from samples, from both sides (docs/concepts.md, (16)).

    Attributes:
        measure: "duality gap" (of two players who are alike), "NashConv" (of more), or "exploitability" (of one
            player among others).
        plug_in: too high in the mean, as far as the best response is among the responses.
        split: too low in the mean.
        tau: the KL strength of the game.
        players: how many play it, n.
        responses: K, of the policy to each prompt, and as many of the reference and of each opponent.
        effective: on how many of the 2K responses the estimated best response rests, mean over prompts.
    """

    measure: str
    plug_in: Interval
    split: Interval
    tau: float
    players: int
    responses: int
    effective: float


@dataclass(frozen=True, kw_only=True)
class Evaluated(FileRecord):
    """What `evaluate` leaves.

    Attributes:
        model: the folder of the policy that was tested.
        folder: everybody's answers, `mnpo.llm.data.schema.HELD_OUT`.
        prompts: how many.
        win_rate: opponent -> oracle -> the policy's win rate, mean over prompts.
        length: tokens of its responses, mean.
        ended: the share that it ended by itself.
        kl, kl_error: the mean of log π/π_ref over its responses in nats, and its standard error.
        gap: oracle -> `Bracket`, how far the policy is from an equilibrium; None where that is not estimated.
        models, oracles, scores: what was drawn, asked and scored.
    """

    FILE: ClassVar[str] = "evaluation.json"

    model: str
    folder: str
    prompts: int
    win_rate: dict[str, dict[str, Interval]]
    length: float
    ended: float
    kl: float
    kl_error: float
    gap: dict[str, Bracket | None]
    models: list[Drawn]
    oracles: list[Answered]
    scores: list[Scored]

    def intact(self, folder: Path) -> bool:
        """See `FileRecord`."""
        return damage(folder / HELD_OUT) is None


@dataclass(frozen=True, kw_only=True)
class Diagnosed(FileRecord):
    """What `diagnose` leaves, with `diagnosis.md` and a figure beside it.

    Attributes:
        model: the folder of the reference, whose responses these are.
        diagnosis: `mnpo.findings.Diagnosis` as plain data (docs/concepts.md, (17)).
        cycles: a few prompts with their clearest cycle, texts shortened.
        dropped: reason -> how many prompts say nothing.
        models, oracles: what was drawn and asked.
    """

    FILE: ClassVar[str] = "diagnosis.json"

    model: str
    diagnosis: dict[str, Any]
    cycles: list[dict[str, Any]]
    dropped: dict[str, int]
    models: list[Drawn]
    oracles: list[Answered]


@dataclass(frozen=True, kw_only=True)
class Fits(Record):
    """How well win probabilities fit held-out comparisons; see `mnpo.calibration`.

    Attributes:
        pairs: how many.
        accuracy: how often the favoured response was preferred.
        log_loss: in nats.
        error: expected calibration error.
    """

    pairs: int
    accuracy: float
    log_loss: float
    error: float


@dataclass(frozen=True, kw_only=True)
class Phase(FileRecord):
    """One fit of an oracle.

    Attributes:
        objective: what was minimised.
        judgments: how many there were to train on, and held out.
        steps, loss, eval, log, seconds, resumed: as of `Fitted`.
        best_scale: at which held-out comparisons have the least log-loss, by annotator ("" for everybody); left
            out where there is none.
        fits: how well these are met at the scale 1 and at the best one, by annotator.
    """

    FILE: ClassVar[str] = "phase.json"

    objective: str
    judgments: dict[str, int]
    steps: int
    loss: float
    eval: dict[str, float]
    log: list[dict[str, Any]]
    seconds: float
    resumed: str | None
    best_scale: dict[str, float]
    fits: dict[str, dict[str, Fits]]


@dataclass(frozen=True, kw_only=True)
class FittedPart(Record):
    """The oracle of one annotator, or of all.

    Attributes:
        annotator: whose; None for everybody's.
        model: its folder.
        labels: how many judgments it was fitted and tested on.
        scale: what logits are divided by: P = σ(logit/scale).
        calibrated: on how many held-out pairs the scale was fitted; None where it was not.
        phases: the fits.
    """

    annotator: str | None
    model: str
    labels: int
    scale: float
    calibrated: int | None
    phases: list[Phase]


@dataclass(frozen=True, kw_only=True)
class FittedOracle(FileRecord):
    """What `fit-oracle` leaves.

    Attributes:
        kind: of the oracle.
        oracle: the folder that is given as `oracle`.
        rows: what became of the data's rows.
        parts: one for each annotator that is fitted apart.
        outputs: what a model's outputs are, where it has several.
        processes, distributed, seconds, resumed: as of `Fitted`.
    """

    FILE: ClassVar[str] = "fitted-oracle.json"

    kind: str
    oracle: str
    rows: dict[str, RowReport]
    parts: list[FittedPart]
    outputs: list[str]
    processes: int
    distributed: str
    seconds: float
    resumed: str | None

    def intact(self, folder: Path) -> bool:
        """See `FileRecord`."""
        return all(damage(model) is None for model in self.models(folder))

    def models(self, folder: Path) -> list[Path]:
        """Return the models' folders, wherever the output folder is now."""
        return [folder / Path(part.model).relative_to(self.oracle) for part in self.parts]


@dataclass(frozen=True, kw_only=True)
class Met(Record):
    """How judgments of one kind are met.

    Attributes:
        judgments: how many.
        accuracy: how often the favoured response was preferred, of a pool mean over its pairs; its interval counts
            prompts, since judgments of one prompt are no independent draws.
        best: how often the favourite of a pool is one of its best; None without pools.
    """

    judgments: int
    accuracy: Interval
    best: float | None


@dataclass(frozen=True, kw_only=True)
class Reliability(Record):
    """`mnpo.calibration.Calibration` at one scale; bins are (confidence, how often right, share of pairs)."""

    scale: float
    log_loss: float
    error: float
    bins: list[list[float]]


@dataclass(frozen=True, kw_only=True)
class Tested(Record):
    """One oracle on one set of judgments.

    Attributes:
        oracle, kind, data: which.
        met: how judgments are met.
        subsets, annotators: the same by subset and by who judged; an annotator's are put to the member of a
            population that has that name.
        as_is, rescaled: calibration at the oracle's own scale and at the one that fits best; None where none
            fits.
        sections: RewardBench's; empty elsewhere.
        ties: RewardBench 2's score of Ties; None elsewhere.
        order: position bias and how far both orders are from one: `mnpo.calibration.Order`, of an oracle that is
            asked in both.
        length: `mnpo.calibration.LengthBias`, in words; correlation is None for oracles without rewards.
        cycles: of sets of responses to one prompt: sets, cyclicity and its standard error, triples, noise (triples
            of one label a pair drawn from the transitive part), without_winner; None without sets.
    """

    oracle: str
    kind: str
    data: str
    met: Met
    subsets: dict[str, Met]
    annotators: dict[str, Met]
    as_is: Reliability
    rescaled: Reliability | None
    sections: dict[str, float]
    ties: float | None
    order: dict[str, float] | None
    length: dict[str, float | None]
    cycles: dict[str, float] | None


@dataclass(frozen=True, kw_only=True)
class OracleTested(FileRecord):
    """What `test-oracle` leaves.

    Attributes:
        rows: what became of the rows of each data set.
        agreement: of each data set, how often two annotators of the same pair agree, and of how many pairs of
            labels; None where no pair was judged twice.
        tests: every oracle on every data set.
        oracles: what was asked.
    """

    FILE: ClassVar[str] = "oracle-test.json"

    rows: dict[str, RowReport]
    agreement: dict[str, dict[str, float] | None]
    tests: list[Tested]
    oracles: list[Answered]


@dataclass(frozen=True, kw_only=True)
class Played(Record):
    """One player of a tournament.

    Attributes:
        name, kind, place: who it is; kind is "model", "endpoint" or "file".
        answered: prompts that it has responses to.
        drawn, reused: responses that were drawn or asked for, and found.
        seconds: wall clock.
        length: characters of a response to the common prompts, mean.
    """

    name: str
    kind: str
    place: str
    answered: int
    drawn: int
    reused: int
    seconds: float
    length: float


@dataclass(frozen=True, kw_only=True)
class TournamentHeld(FileRecord):
    """What `tournament` leaves.

    Attributes:
        prompts, asked: prompts that all players answered, and those that were asked.
        generations: responses of each player to a prompt.
        players: who played.
        against: the mixture that all are met with; None without one.
        tau, meet_at_once: of the further equilibria.
        results: oracle -> what `mnpo.meta_game.ranked` returns; a panel's members stand beside it. Players of whom
            several meet at once have `group_equilibrium` besides.
        agreement: of each two oracles, Kendall's tau-b of the players' win rates.
        oracles: what was asked.
    """

    FILE: ClassVar[str] = "tournament.json"

    prompts: int
    asked: int
    generations: int
    players: list[Played]
    against: dict[str, float] | None
    tau: float
    meet_at_once: int
    results: dict[str, dict[str, Any]]
    agreement: list[dict[str, Any]]
    oracles: list[Answered]


@dataclass(frozen=True, kw_only=True)
class Benchmarked(FileRecord):
    """What `benchmark` leaves.

    Attributes:
        protocol: "standard" or "as-published".
        players: who was tested.
        suites: benchmark -> its protocol in words, the judge, whose judge prompts, how many questions, and models:
            name -> statistics, with the counts of unparsed, refused and retried verdicts.
        tables: the paper's tables with these rows beside its own, as `mnpo.llm.benchmarks.paper.tables` returns.
    """

    FILE: ClassVar[str] = "benchmark.json"

    protocol: str
    players: list[dict[str, Any]]
    suites: dict[str, dict[str, Any]]
    tables: dict[str, dict[str, Any]]
