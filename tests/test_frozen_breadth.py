"""Frozen maps sum to the logit in all 80 of torchvision's classifiers and in each family of timm.

The stored table, evidence/frozen_breadth.json, is checked in each run, and a dozen networks of different kinds are
measured anew; `pytest -m long tests/test_frozen_breadth.py` measures the rest (half an hour).
"""

import pytest
import timm
from torchvision import models

from evidence import frozen_breadth
from evidence.frozen_breadth import TOLERANCE, family, is_exact, names, sums

FAST = """
resnet18 squeezenet1_1 shufflenet_v2_x0_5 timm/starnet_s050 timm/test_byobnet timm/test_coatnet timm/test_convnext
timm/test_efficientnet timm/test_efficientnet_evos timm/test_efficientnet_gn timm/test_mambaout timm/test_maxvit
timm/test_nfnet timm/test_vit timm/test_vit_relpos
"""
REFUSED = {"timm/sequencer2d_s": "cannot hold lstm"}
"""What the error says for networks whose map is exact at the usual layer, but not at the first convolution."""


@pytest.fixture(scope="module")
def table():
    return frozen_breadth.read()


def cases():
    return [pytest.param(name, marks=[] if name in FAST.split() else pytest.mark.long) for name in names()]


@pytest.mark.parametrize("name", cases())
def test_the_sum_is_the_logit(name, table):
    row, stored = frozen_breadth.run(name), table["networks"][name]
    check(name, row)
    slow = row["named"] or stored["named"]  # it depends on the machine whether the layer is found in time
    assert slow or row["layer"] == stored["layer"]


def check(name, row):
    assert "error" not in row, name
    if name in REFUSED:
        usual, first = sums(row | {"first": {}}), sums(row["first"])
        assert is_exact(row | {"first": {}}) and len(usual) == 2
        assert all(REFUSED[name] in m["refused"] for m in first) and len(first) == 2
    assert is_exact(row) == row["exact"] == (name not in REFUSED), (name, sums(row))


def test_the_table_covers_torchvision_and_each_family_of_timm(table):
    assert list(table["networks"]) == names()
    assert names()[:80] == models.list_models(module=models)
    of_timm = [name for name in names() if name.startswith("timm/")]
    assert len(of_timm) == len(set(of_timm)) >= 100
    assert {family(name) for name in of_timm} == set(timm.list_modules())
    assert all(row["family"] == family(name) for name, row in table["networks"].items())


def test_what_the_table_calls_exact_is_exact(table):
    assert table["tolerance"] == TOLERANCE
    for name, row in table["networks"].items():
        check(name, row)
        assert all(abs(m["logit"]) > 0.1 for m in sums(row) if "logit" in m), f"{name}: the logit vanishes"


def test_a_miss_is_noticed(table):
    row = table["networks"]["resnet18"]
    assert is_exact(row)
    for place in (row, row["first"]):
        for kind, tolerance in TOLERANCE.items():
            exact = place[kind]
            place[kind] = exact | {"miss_of_summed": 2 * tolerance}
            assert not is_exact(row)
            place[kind] = exact
