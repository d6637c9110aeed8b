"""The configuration of a run: sections of keys, each defined once, beside its checks.

A packaged preset or a YAML file gives the sections; `section.key=value`, or `key=value`, goes on top.
"""

from mnpo.llm.config.benchmark import PROTOCOLS, SUITES, Benchmark
from mnpo.llm.config.data import Data, Prompts
from mnpo.llm.config.evaluation import Evaluation
from mnpo.llm.config.fit import Fit
from mnpo.llm.config.folders import Folders
from mnpo.llm.config.judging import LABELS, PAIRINGS, Judging
from mnpo.llm.config.keys import Key, Section
from mnpo.llm.config.loop import ALONE, Loop
from mnpo.llm.config.model import CURRENT, REFERENCE, Models
from mnpo.llm.config.oracle_fit import ATTRIBUTES, ORACLE_KINDS, OracleFit
from mnpo.llm.config.oracle_test import OracleTest
from mnpo.llm.config.reading import is_configuration, load, presets
from mnpo.llm.config.sampling import Sampling
from mnpo.llm.config.tournament import Contest, Tournament
from mnpo.llm.config.training import Compute, Training
from mnpo.llm.config.update import TARGETS, Update
from mnpo.llm.config.whole import Config, Draft, resolve
from mnpo.llm.config.writing import to_yaml

__all__ = [
    "ALONE",
    "ATTRIBUTES",
    "CURRENT",
    "LABELS",
    "ORACLE_KINDS",
    "PAIRINGS",
    "PROTOCOLS",
    "REFERENCE",
    "SUITES",
    "TARGETS",
    "Benchmark",
    "Compute",
    "Config",
    "Contest",
    "Data",
    "Draft",
    "Evaluation",
    "Fit",
    "Folders",
    "Judging",
    "Key",
    "Loop",
    "Models",
    "OracleFit",
    "OracleTest",
    "Prompts",
    "Sampling",
    "Section",
    "Tournament",
    "Training",
    "Update",
    "is_configuration",
    "load",
    "presets",
    "resolve",
    "to_yaml",
]
