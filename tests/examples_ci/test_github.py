"""GitHub's workflows, run script by script with the real command line and the real `gh`, against a double of GitHub's API."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.examples_ci.cloud import STATE, Cloud, serving_cloud
from tests.examples_ci.doubles import GITHUB_BOT, GitHub, make_certificate, serving, zipped
from tests.examples_ci.runner import ROLES, GitHubRun, Outcome, Repository, workflow_of
from tests.support import require_tool

pytestmark = pytest.mark.integration
MARKER = "<!-- llmdeploy plan: demo -->"


@dataclass
class Team:
    """A repository on GitHub, and what people do there."""

    repository: Repository
    service: GitHub
    environ: dict[str, str]
    cloud: Cloud | None = None

    def run(self, workflow: str, event: dict[str, Any], sha: str) -> GitHubRun:
        """Return a new run of a workflow."""
        github = {"event": event, "sha": sha, "ref": "refs/heads/main"}
        self.service.runs.append({"id": (number := 22_000_000_000 + len(self.service.runs)), "event": "pull_request"})
        return GitHubRun(self.repository, self.service, workflow_of(workflow), github, self.environ, number, self.assume)

    def assume(self, arn: str) -> Mapping[str, str]:
        """Return what a job in a role gets: nothing where the provider and the state need no cloud."""
        assert arn in ROLES.values()
        return self.cloud.assume(arn) if self.cloud else {}

    def edit(self, **config: Any) -> str:
        """Commit a stack file with this configuration of the provider, on a branch from main; return the commit."""
        self.repository.git("checkout", "--quiet", "--force", "-B", "feature", "main")
        document = yaml.safe_load((self.repository.folder / "stack.yaml").read_text())
        document["provider"]["things"] |= config
        return self.repository.commit(stack_yaml=yaml.safe_dump(document, sort_keys=False))

    def plan(self, head: str, labels: Sequence[str] = (), number: int = 1, repository: str = GitHub.repository) -> Outcome:
        """Run the workflow of a pull request."""
        merged = any(one["head"]["sha"] == head for one in self.service.pulls)
        pull = {"number": number, "labels": [{"name": name} for name in labels], "state": "closed" if merged else "open"}
        run = self.run("plan.yml", {"pull_request": {**pull, "head": {"sha": head, "repo": {"full_name": repository}}}}, head)
        outcome = run.job("plan")
        conclusion = {"head_sha": head, "head_repository": {"full_name": repository}, "conclusion": outcome.result}
        self.service.runs[-1] |= conclusion
        return outcome

    def merge(self, head: str, labels: Sequence[str] = (), number: int = 1, repository: str = GitHub.repository) -> str:
        """Merge a pull request; return the commit on main."""
        self.repository.git("checkout", "--quiet", "--force", "main")
        self.repository.git("merge", "--quiet", "--no-ff", "--no-edit", "--strategy-option", "theirs", head)
        sha = self.repository.git("rev-parse", "HEAD")
        pull = {"number": number, "labels": [{"name": name} for name in labels], "merged_at": "2026-01-02T03:04:05Z"}
        repo = {"full_name": repository}
        self.service.pulls.append({**pull, "merge_commit_sha": sha, "head": {"sha": head, "repo": repo}})
        return sha

    def apply(self, sha: str) -> tuple[Outcome, Outcome]:
        """Run the workflow of a push to main."""
        run = self.run("apply.yml", {}, sha)
        found = run.job("find")
        return found, run.job("apply") if found.result == "success" else Outcome("skipped")

    def drift(self) -> Outcome:
        """Run the nightly workflow."""
        return self.run("drift.yml", {}, self.repository.git("rev-parse", "main")).job("drift")

    def world(self) -> dict[str, str]:
        """Return what exists."""
        return {path.name: path.read_text() for path in sorted((self.repository.folder / "world").glob("*"))}


@pytest.fixture
def team(repository: Repository, tmp_path: Path) -> Generator[Team]:
    require_tool("gh")
    certificate = make_certificate(tmp_path)
    service = GitHub()
    with serving(service, certificate):
        host = service.address.removeprefix("https://")
        environ = {"GH_HOST": host, "SSL_CERT_FILE": str(certificate[0]), "GH_CONFIG_DIR": str(tmp_path / "gh")}
        yield Team(repository, service, environ)


def applied(team: Team, **config: Any) -> None:
    """Bring a change through the whole pipeline."""
    head = team.edit(**config)
    assert (planned := team.plan(head)).result == "success", planned.log
    found, done = team.apply(team.merge(head))
    assert (found.result, done.result) == ("success", "success"), found.log + done.log


def test_the_reviewed_plan_is_applied_after_the_merge(team: Team) -> None:
    head = team.edit(text="first")
    planned = team.plan(head)
    assert planned.result == "success", planned.log
    assert "thing.one" in planned.summary
    assert team.world() == {}, "a plan changes nothing"

    found, done = team.apply(team.merge(head))
    assert (found.result, done.result) == ("success", "success"), found.log + done.log
    assert found.summary == planned.summary, "who approves sees what the reviewer saw"
    assert team.world() == {"one": "first", "two": "first"}


def test_the_comment_is_kept_up_to_date(team: Team) -> None:
    other = [{"id": n, "issue": 1, "user": {"login": "eve"}, "body": f"{MARKER}\nnothing to see"} for n in range(3)]
    team.service.comments.extend([dict(one) for one in other])
    assert (planned := team.plan(team.edit(text="first"))).result == "success", planned.log
    assert team.plan(team.edit(text="second")).result == "success"
    assert team.service.comments[:3] == other, "somebody else's comment with the marker is not ours"
    (ours,) = [one for one in team.service.comments if one["user"]["login"] == GITHUB_BOT]
    assert ours["body"].startswith(MARKER)
    assert "second" in ours["body"]
    assert "first" not in ours["body"]


def test_a_plan_against_the_policy_is_shown_and_never_applied(team: Team) -> None:
    applied(team, text="first")
    head = team.edit(names=["one"])
    assert (planned := team.plan(head)).result == "failure"
    assert "thing.two: holds data and would be deleted" in planned.log
    assert team.service.comments[-1]["body"].startswith(MARKER), "the reviewer sees why"

    found, done = team.apply(team.merge(head))
    assert (found.result, done.result) == ("failure", "skipped")
    assert "did not succeed: nothing was applied" in found.log
    assert set(team.world()) == {"one", "two"}


def test_a_label_lets_data_go_and_counts_when_it_is_merged(team: Team) -> None:
    applied(team, text="first")
    head = team.edit(names=["one"])
    assert team.plan(head, ["allow-data-loss"]).result == "success"
    found, _ = team.apply(team.merge(head))
    assert found.result == "failure", "the label was taken away again"
    assert set(team.world()) == {"one", "two"}
    team.service.pulls[-1]["labels"] = [{"name": "later"}, {"name": "allow-data-loss"}]
    assert team.plan(head, ["later", "allow-data-loss"]).result == "skipped", "what was reviewed stays what is applied"
    found, done = team.apply(team.repository.git("rev-parse", "main"))
    assert done.result == "success", found.log + done.log
    assert set(team.world()) == {"one"}


def test_a_stale_plan_is_refused_with_its_sentence(team: Team) -> None:
    first = team.edit(text="first")
    assert team.plan(first).result == "success"
    second = team.edit(note="second")
    assert team.plan(second, number=2).result == "success"
    assert team.apply(team.merge(first))[1].result == "success"

    found, done = team.apply(team.merge(second, number=2))
    assert (found.result, done.result) == ("success", "failure")
    assert "stack.plan is stale: something was applied since" in done.log
    assert "plan --out" in done.log
    assert team.world() == {"one": "first", "two": "first"}


def test_a_plan_is_bound_to_the_stack_file_and_to_the_state(team: Team) -> None:
    head = team.edit(text="first")
    assert team.plan(head).result == "success"
    merged = team.merge(head)
    team.repository.commit(stack_yaml=(team.repository.folder / "stack.yaml").read_text() + "# later\n")
    team.service.pulls[-1]["merge_commit_sha"] = edited = team.repository.git("rev-parse", "HEAD")
    _, done = team.apply(edited)
    assert "stack.yaml changed since" in done.log
    assert team.world() == {}

    team.service.pulls[-1]["merge_commit_sha"] = merged
    assert team.apply(merged)[1].result == "success"
    again = team.apply(merged)[1]
    assert again.result == "failure"
    assert "something was applied since" in again.log


def test_nothing_is_applied_that_nobody_reviewed(team: Team) -> None:
    pushed = team.edit(text="first")
    team.repository.git("checkout", "--quiet", "--force", "main")
    team.repository.git("merge", "--quiet", "--ff-only", pushed)
    found, done = team.apply(pushed)
    assert (found.result, done.result) == ("failure", "skipped")
    assert "came without a pull request, so nobody reviewed a plan: nothing was applied" in found.log


def test_only_the_last_plan_of_the_merged_commit_counts(team: Team) -> None:
    older, newer = team.edit(text="older"), team.edit(text="newer")
    assert team.plan(older).result == "success"
    found, _ = team.apply(sha := team.merge(newer))
    assert "did not succeed" in found.log
    assert older not in found.log
    team.service.pulls.clear()
    assert team.plan(newer).result == "success"
    team.service.pulls.append({"number": 1, "labels": [], "merged_at": "2026-01-02T03:04:05Z", "merge_commit_sha": sha})
    team.service.pulls[0]["head"] = {"sha": newer, "repo": {"full_name": GitHub.repository}}
    team.service.runs.append({**team.service.runs[-1], "id": 23_000_000_000, "conclusion": "failure"})
    assert "did not succeed" in team.apply(sha)[0].log
    team.service.runs[-1] |= {"id": 24_000_000_000, "conclusion": None}
    assert "did not succeed" in team.apply(sha)[0].log, "one that still runs"


def test_a_fork_gets_no_plan_and_nothing_of_it_is_applied(team: Team) -> None:
    head = team.edit(text="first")
    assert team.plan(head, repository="eve/chat").result == "skipped"
    # A fork's own workflow may upload what it likes.
    stranger = team.service.runs[-1]
    stranger["conclusion"] = "success"
    (team.repository.folder / "stack.plan").write_text("{}")
    team.service.artefacts[stranger["id"], "plan"] = zipped(team.repository.folder, ["stack.plan"])
    found, _ = team.apply(team.merge(head, repository="eve/chat"))
    assert "came from a fork" in found.log
    team.service.pulls[-1]["head"]["repo"]["full_name"] = GitHub.repository
    found, _ = team.apply(team.repository.git("rev-parse", "main"))
    assert "did not succeed" in found.log, "a run of a fork with the same commit"


def test_an_artefact_that_is_no_plan_is_refused(team: Team) -> None:
    head = team.edit(text="first")
    assert team.plan(head).result == "success"
    run = team.service.runs[-1]["id"]
    plan = json.loads((team.repository.folder / "stack.plan").read_text())
    plan["plan"]["stack"] = "other"
    (team.repository.folder / "stack.plan").write_text(json.dumps(plan))
    team.service.artefacts[run, "plan"] = zipped(team.repository.folder, ["stack.plan"])
    found, _ = team.apply(team.merge(head))
    assert found.result == "failure"
    assert "was changed after it was written" in found.log


def test_a_merge_that_changes_nothing_asks_nobody(team: Team) -> None:
    applied(team, text="first")
    head = team.repository.commit()
    assert team.plan(head).result == "success"
    assert team.service.comments[-1]["body"].startswith(MARKER)
    found, done = team.apply(team.merge(head))
    assert (found.result, done.result) == ("success", "skipped"), found.log
    assert found.outputs["changes"] == "false"


def test_text_of_strangers_is_never_run(team: Team) -> None:
    evil = "$(touch pwned); `touch pwned` '\" ${{ github.token }}"
    head = team.edit(text="first")
    assert (planned := team.plan(head, [evil, "x y"])).result == "success", planned.log
    found, done = team.apply(team.merge(head, [evil, "x y"]))
    assert (found.result, done.result) == ("success", "success"), found.log + done.log
    assert not (team.repository.folder / "pwned").exists()


def test_drift_opens_one_issue_keeps_it_up_to_date_and_closes_it(team: Team) -> None:
    applied(team, text="first")
    team.service.issues.extend({"number": n, "state": "open", "user": {"login": "eve"}, "body": None} for n in (1, 2))
    assert (calm := team.drift()).result == "success", calm.log
    assert len(team.service.issues) == 2

    thing = team.repository.folder / "world" / "one"
    thing.write_text("edited by hand")
    assert (drifted := team.drift()).result == "success", drifted.log
    assert "somebody wrote into it" in drifted.summary
    ours = team.service.issues[2]
    assert (ours["title"], ours["state"]) == ("Drift: stack.yaml", "open")
    assert ours["body"].startswith(MARKER)
    (team.repository.folder / "world" / "two").write_text("edited as well")
    assert team.drift().result == "success"
    assert len(team.service.issues) == 3
    assert "two: somebody wrote into it" in ours["body"]

    for name in ("one", "two"):
        (team.repository.folder / "world" / name).write_text("first")
    assert (calm := team.drift()).result == "success", calm.log
    assert ours["state"] == "closed"


def test_a_look_that_fails_is_no_drift(team: Team) -> None:
    applied(team, text="first")
    team.repository.git("checkout", "--quiet", "--force", "main")
    team.repository.commit(stack_yaml="version: 1\nnmae: demo\n")
    failed = team.drift()
    assert failed.result == "failure"
    assert "nmae" in failed.log
    assert team.service.issues == []


@pytest.fixture
def cloud_team(team: Team) -> Generator[Team]:
    """Return a team whose state lies in a bucket, whose runners keep nothing, and whose jobs have the rights of their role."""
    with serving_cloud() as team.cloud:
        team.repository.keeps = ("world",)
        stack = yaml.safe_load((team.repository.folder / "stack.yaml").read_text())
        team.repository.commit(stack_yaml=yaml.safe_dump({**stack, "state": STATE}, sort_keys=False))
        yield team


def test_each_job_has_the_rights_it_needs_on_the_bucket(cloud_team: Team) -> None:
    team = cloud_team
    applied(team, text="first")
    applied(team, text="second")
    assert team.world() == {"one": "second", "two": "second"}
    (team.repository.folder / "world" / "one").write_text("edited by hand")
    assert (drifted := team.drift()).result == "success", drifted.log
    assert team.service.issues[0]["state"] == "open"


def test_the_role_that_plans_can_apply_nothing(cloud_team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team = cloud_team
    head = team.edit(text="first")
    assert team.plan(head).result == "success"
    monkeypatch.setitem(ROLES, "LLMDEPLOY_APPLY_ROLE", ROLES["LLMDEPLOY_PLAN_ROLE"])
    _, done = team.apply(team.merge(head))
    assert done.result == "failure"
    assert "access is denied" in done.log
    assert team.world() == {}
