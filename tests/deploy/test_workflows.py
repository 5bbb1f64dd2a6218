"""GitHub's workflows: their linter, their auditor, and what they name."""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml

from tests.deploy.files import ROOT, WORKFLOWS, run, tool
from tests.servers.shared import STARTERS

USES = re.compile(r"uses: (\S+)")


def test_actionlint_finds_nothing() -> None:
    """Syntax, expressions, types, and shellcheck where it is installed."""
    assert len(WORKFLOWS) == 2
    done = run(tool("actionlint"), *map(str, WORKFLOWS))
    assert done.returncode == 0, done.stdout


def test_actionlint_would_find_something(tmp_path: Path) -> None:
    """The check can fail."""
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("matrix.python", "matrix.pythons"))
    assert run(tool("actionlint"), str(broken)).returncode != 0


def audit(folder: Path) -> int:
    """Ask zizmor, without a network."""
    settings = str(ROOT / ".github" / "zizmor.yml")
    return run(tool("zizmor"), "--offline", "--config", settings, str(folder)).returncode


def test_zizmor_finds_nothing() -> None:
    """No injection, no stolen token, no permission too many."""
    assert audit(ROOT / ".github" / "workflows") == 0


def test_zizmor_would_find_something(tmp_path: Path) -> None:
    """The check can fail."""
    (tmp_path / "broken.yml").write_text(
        WORKFLOWS[0].read_text().replace("permissions: {}", "permissions: write-all")
    )
    assert audit(tmp_path) != 0


def test_actions_are_pinned_by_version() -> None:
    """A whole version, never a branch; or a file of this very commit."""
    for workflow in WORKFLOWS:
        for used in USES.findall(workflow.read_text()):
            if used.startswith("./"):
                assert ROOT / used in WORKFLOWS
                continue
            assert re.fullmatch(r"[\w./-]+@v\d+\.\d+\.\d+", used), used


def test_the_matrix_is_what_the_package_says_that_it_runs_on() -> None:
    """Every Python of the classifiers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    classified = [
        line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)
    ]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["jobs"]["pythons"]["strategy"]["matrix"]["python"] == classified


def test_servers_of_the_workflow_are_known_to_the_tests() -> None:
    """By the variable that each is attached by."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    job = workflow["jobs"]["pythons"]
    attached = {name for name in job["env"] if name.startswith("FLASHSALE_TEST_")}
    assert attached == {f"FLASHSALE_TEST_{kind.upper()}_URL" for kind in job["services"]}
    assert set(job["services"]) <= set(STARTERS)


def test_an_image_for_another_processor_is_built_under_an_emulator() -> None:
    """The Dockerfile runs programs of that processor: without one, "exec format error"."""
    for workflow in WORKFLOWS:
        for job in yaml.safe_load(workflow.read_text())["jobs"].values():
            steps = job.get("steps", ())
            used = [step.get("uses", "").partition("@")[0] for step in steps]
            for step in steps:
                if "arm64" in step.get("with", {}).get("platforms", ""):
                    built = used.index(step["uses"].partition("@")[0])
                    assert "docker/setup-qemu-action" in used[:built]


def test_the_image_is_published_under_the_version_that_the_manifests_name(tmp_path: Path) -> None:
    """In small letters, as a registry wants them, and without the tag's `v`."""
    job = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["image"]
    steps = {step["id"]: step for step in job["steps"] if "id" in step}
    told = tmp_path / "told"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    environment = {"REPOSITORY": "Some/Flashsale", "TAG": f"v{version}", "GITHUB_OUTPUT": str(told)}
    script = steps["name"]["run"]
    subprocess.run(["/bin/bash", "-euc", script], env=environment, timeout=20, check=True)
    [image] = yaml.safe_load((ROOT / "deploy/kubernetes/base/kustomization.yaml").read_text())[
        "images"
    ]
    assert told.read_text() == f"image=ghcr.io/some/flashsale\nversion={image['newTag']}\n"
    named = "${{ steps.name.outputs.image }}"
    assert steps["push"]["with"]["tags"] == named + ":${{ steps.name.outputs.version }}"
    assert job["steps"][-1]["with"]["subject-name"] == named


def test_a_release_is_checked_before_it_is_published_and_needs_no_secret() -> None:
    """PyPI trusts the workflow's identity; each artefact's provenance is signed with the same."""
    text = (ROOT / ".github/workflows/release.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]

    def uses(job: str) -> list[str]:
        return [step["uses"].partition("@")[0] for step in jobs[job]["steps"] if "uses" in step]

    assert set(re.findall(r"secrets\.(\w+)", text)) == {"GITHUB_TOKEN"}
    steps = [step.get("run", "") for step in jobs["build"]["steps"]]
    assert steps.index("make release-check") < steps.index(
        ".venv/bin/python -m build --no-isolation --outdir dist"
    )
    assert jobs["publish"]["needs"] == jobs["image"]["needs"] == "build"
    assert jobs["tests"]["uses"] == "./.github/workflows/ci.yml"
    assert jobs["build"]["needs"] == "tests"
    assert any("--is-ancestor" in step and "origin/main" in step for step in steps)
    assert jobs["build"]["steps"][0]["with"]["fetch-depth"] == 0
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert uses("publish") == ["actions/download-artifact", "pypa/gh-action-pypi-publish"]
    assert set(jobs["publish"]["steps"][-1]) == {"uses"}
    for job in ("build", "image"):
        assert "actions/attest-build-provenance" in uses(job)
        for needed in ("id-token", "attestations"):
            assert jobs[job]["permissions"][needed] == "write"
    assert jobs["image"]["permissions"]["packages"] == "write"
    assert set(jobs["notes"]["needs"]) == {"publish", "image"}
    assert jobs["notes"]["permissions"] == {"contents": "write"}


def test_the_newest_part_of_the_changelog_is_a_release_s_notes() -> None:
    """As the workflow cuts it out: this version's part, and no other."""
    job = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["notes"]
    [cut] = re.findall(r"^(awk .*) >notes\.md$", job["steps"][-1]["run"], re.MULTILINE)
    done = run("/bin/bash", "-euc", cut)
    assert done.returncode == 0, done.stderr
    changelog = (ROOT / "CHANGELOG.md").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    _, heading, rest = changelog.partition(f"\n## {version} (")
    assert heading
    assert done.stdout.strip() == rest.partition("\n")[2].partition("\n## ")[0].strip() != ""
