"""The operator's guide tells of every setting, every event of the log and every figure."""

import re
from pathlib import Path

import pytest

from gateway import metrics
from gateway.log import EVENTS
from gateway.settings import Settings

GUIDE = (Path(__file__).resolve().parents[2] / "docs/operators-guide.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([\w.]+)`", GUIDE))


@pytest.mark.parametrize(
    "names",
    [
        {f"GATEPOST_{name.upper()}" for name in Settings.model_fields},
        set(EVENTS),
        {f"gatepost_{name}" for kind in (metrics.COUNTERS, metrics.GAUGES, metrics.HISTOGRAMS) for name in kind},
    ],
    ids=["settings", "events", "figures"],
)
def test_the_guide_names_all_of_them_and_no_others(names: set[str]) -> None:
    assert names - NAMED == set()
    families = {re.split(r"[._]", name)[0] for name in names}
    separator = "." if "." in next(iter(names)) else "_"
    alike = {name for name in NAMED if separator in name and re.split(r"[._]", name)[0] in families}
    assert alike - names - {"GATEPOST_CONFIG"} == set()
