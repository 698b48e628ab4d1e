"""The protocol of `serial_keys.py` keeps what it promises, and each of its rules is needed."""

from __future__ import annotations

import pytest

from tests.models import serial_keys
from tests.models.serial_keys import SCENARIOS, Model

VARIANTS = [
    variant
    for variant in vars(serial_keys).values()
    if isinstance(variant, type) and issubclass(variant, Model) and variant is not Model
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_interleaving_breaks_the_protocol(scenario: Model) -> None:
    assert scenario.search()[1] == set()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_protocol_with_one_rule_less_breaks(variant: type[Model]) -> None:
    assert any(scenario.of(variant).search()[1] for scenario in SCENARIOS)
