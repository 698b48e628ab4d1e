"""Nothing is published that was not tested, and what the workflows and locks fetch is pinned."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
INDEX = "https://pypi.org/simple"


def text_of(name: str) -> str:
    return (ROOT / ".github" / "workflows" / name).read_text("utf-8")


def jobs_of(name: str) -> dict[str, str]:
    """Returns the text of each job of a workflow."""
    _, jobs = re.split(r"(?m)^jobs:$", text_of(name))
    parts = re.split(r"(?m)^  ([\w-]+):$", jobs)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def needs_of(job: str) -> set[str]:
    found = re.search(r"(?m)^    needs: \[(.*)\]$", job)
    assert found
    return set(found[1].split(", "))


def test_a_release_waits_for_the_checks_of_its_own_commit_and_for_every_other_job() -> None:
    jobs = jobs_of("release.yml")
    assert "uses: $/.github/workflows/ci.yml\n" in jobs["checks"]
    assert "\n  workflow_call:\n" in text_of("ci.yml")
    # All others wait for the version.
    assert needs_of(jobs["publish"]) == set(jobs) - {"publish", "publish-site", "version"}
    assert all(
        "    needs: version\n" in jobs[name] for name in ("checks", "sdist", "linux", "native")
    )


def test_the_site_that_is_published_is_the_one_that_was_checked() -> None:
    docs = jobs_of("ci.yml")["docs"]
    assert docs.index("- run: make docs\n") < docs.index("- uses: actions/upload-pages-artifact@")
    settings = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]
    assert f"\n          path: {settings['site_dir']}\n" in docs
    published = jobs_of("release.yml")["publish-site"]
    assert needs_of(published) == {"publish"}
    assert f"\n      url: {settings['site_url']}\n" in published
    assert "- uses: actions/deploy-pages@" in published


def test_the_one_check_of_a_commit_waits_for_every_other_job() -> None:
    jobs = jobs_of("ci.yml")
    assert needs_of(jobs["all-green"]) == set(jobs) - {"all-green"}


def test_only_the_jobs_that_publish_may_write_and_they_build_nothing() -> None:
    jobs = jobs_of("release.yml")
    assert [name for name, job in jobs.items() if ": write" in job] == ["publish", "publish-site"]
    assert "attestations: true" in jobs["publish"]
    assert "run:" not in jobs["publish"] + jobs["publish-site"]
    assert [file.name for file in WORKFLOWS if ": write" in file.read_text("utf-8")] == [
        "release.yml"
    ]


@pytest.mark.parametrize("workflow", [file.name for file in WORKFLOWS])
def test_actions_are_named_by_commit_and_permissions_given_by_job(workflow: str) -> None:
    used = re.findall(r"uses: (\S+)(.*)", text_of(workflow))
    assert used
    for name, comment in used:
        own = name.startswith("$/")  # of this repository, at this commit
        assert own or re.fullmatch(r"\S+@[0-9a-f]{40}", name), name
        assert own or re.fullmatch(r" # v\d+\.\d+\.\d+", comment), name
    assert "\npermissions: {}\n" in text_of(workflow)


def test_the_locked_versions_come_from_the_public_index() -> None:
    lock = (ROOT / "uv.lock").read_text("utf-8")
    assert set(re.findall(r'registry = "([^"]*)"', lock)) == {INDEX}
    hosts = set(re.findall(r'url = "(https?://[^/"]*)', lock))
    assert hosts == {"https://files.pythonhosted.org"}


def test_everything_that_is_locked_has_a_hash() -> None:
    lock = (ROOT / "uv.lock").read_text("utf-8")
    files = [line for line in lock.splitlines() if "url = " in line]
    assert len(files) > 100
    assert [line for line in files if 'hash = "sha256:' not in line] == []


def test_the_publisher_is_described_as_the_workflow_is() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = dict(re.findall(r"(?m)^ +\| ([\w ]+?) \| `([^`]+)` \|$", page))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    publish = jobs_of("release.yml")["publish"]
    assert rows == {
        "PyPI project name": project["name"],
        "Owner": project["urls"]["Repository"].split("/")[-2],
        "Repository name": project["urls"]["Repository"].split("/")[-1],
        "Workflow name": "release.yml",
        "Environment name": "".join(re.findall(r"environment:\n      name: (\w+)", publish)),
    }
