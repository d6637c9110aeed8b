"""The stages' names and what they are for: all that a command line needs before it does anything."""

from __future__ import annotations

#: name -> a line for people, and more.
ABOUT = {
    "diagnose": """Say what a game, and more players, could gain on the reference's samples: before training.

    Samples and answers are kept: training finds them.""",
    "sample": """Sample responses to prompts: the first stage of an iteration.

    They are kept by content: what was drawn already is not drawn again.""",
    "annotate": """Let oracles judge what `sample` drew, and make preference pairs of their answers.

    Answers are kept: no question is asked twice.""",
    "score": """Compute the log-probabilities of preference pairs under every anchor.

    They are kept by content in output_dir: what is known already is not computed again.""",
    "fit": """Train a policy on preference pairs: one iteration, by an update rule or another objective.

    Scores first what is not scored. The same command again continues where it stopped.""",
    "evaluate": """Compare a policy with others on held-out prompts, under every oracle.

    Tested is what `fit` left in output_dir, or eval_model.""",
    "fit-oracle": """Fit an oracle of one's own to judgments: a reward, pairwise or embedding model.

    It judges where its folder is given, oracle=FOLDER. The same command again continues where it stopped.""",
}
