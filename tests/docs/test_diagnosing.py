"""The guide on `Runner.diagnose` tells of every code."""

import re

from tests.docs.pages import ROOT

PACKAGE = ROOT / "python" / "tasker"


def test_each_code_has_a_section_in_the_guide() -> None:
    guide = (ROOT / "docs" / "how-to" / "diagnosing.md").read_text("utf-8")
    sections = re.findall(r"^### `(\w+)`$", guide, re.MULTILINE)
    rules = (PACKAGE / "_findings.py").read_text("utf-8")
    assert sections == re.findall(r'^ +code="(\w+)",$', rules, re.MULTILINE)
    finding = (PACKAGE / "_finding.py").read_text("utf-8")
    assert all(f"`{code}`" in finding for code in sections)
