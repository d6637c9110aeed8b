"""A new kind of oracle in JSON is one registration: the reader and its errors find it."""

import json

import pytest

from mnpo import Pairwise
from mnpo.sim.json_oracles import ORACLE_KINDS, OracleKind
from mnpo.sim.readers import read_game


@pytest.fixture
def toy(monkeypatch):
    kind = OracleKind(
        "coin",
        "bias",
        "how much the first wins",
        lambda bias, players: Pairwise([[0.5, bias], [1 - bias, 0.5]]),
    )
    monkeypatch.setitem(ORACLE_KINDS, "coin", kind)


def read(tmp_path, content):
    path = tmp_path / "g.json"
    path.write_text(json.dumps(content))
    return read_game(path)


def test_a_registered_kind_is_read(tmp_path, toy):
    spec = read(tmp_path, {"oracle": "coin", "bias": 0.7, "players": 3})
    assert spec.game().players == 3
    assert spec.oracle.matrix[0, 0, 1] == 0.7
    both = read(tmp_path, {"oracle": "heterogeneous", "oracles": 2 * [{"oracle": "coin", "bias": 0.6}]})
    assert both.oracle.players == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"oracle": "cion", "bias": 0.7}, "did you mean 'coin'"),
        ({"oracle": "coin"}, "oracle coin needs the key 'bias'"),
        ({"oracle": "coin", "bais": 0.7}, "unknown key 'bais' of oracle coin; did you mean 'bias'"),
        (
            {"oracle": "heterogeneous", "oracles": [{"oracle": "coin", "bias": 0.7, "tau": 1}]},
            "oracle 0: unknown key 'tau'",
        ),
    ],
)
def test_errors_name_its_key(tmp_path, toy, content, words):
    with pytest.raises(ValueError, match=words):
        read(tmp_path, content)


def test_every_kind_says_what_it_holds():
    assert all(kind.holds and kind.key for kind in ORACLE_KINDS.values())
    assert list(ORACLE_KINDS) == ["pairwise", "plackett-luce", "population", "tensor", "heterogeneous"]
