"""GitLab's pipeline, run job by job with the real command line, against a double of GitLab's API."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.examples_ci.cloud import REGION, STATE, serving_cloud
from tests.examples_ci.doubles import GitLab, serving, zipped
from tests.examples_ci.runner import ROLES, GitLabPipeline, Outcome, Repository

pytestmark = pytest.mark.integration
MARKER = "<!-- llmdeploy plan: demo -->"


@dataclass
class Team:
    """A project on GitLab, and what people do there."""

    repository: Repository
    service: GitLab
    token: str
    environ: dict[str, str] = field(default_factory=dict[str, str])

    def pipeline(self, source: str, sha: str, **variables: str) -> GitLabPipeline:
        """Return a new pipeline."""
        known = {"CI_PROJECT_ID": "7", "CI_DEFAULT_BRANCH": "main", "CI_API_V4_URL": f"{self.service.address}/api/v4"}
        this = {"CI_PIPELINE_SOURCE": source, "CI_COMMIT_SHA": sha, "REVIEW_TOKEN": self.token}
        known |= {"LLMDEPLOY_WHEEL": "llmdeploy", **self.environ}
        return GitLabPipeline(self.repository, {**ROLES, **known, **this, **variables})

    def edit(self, **config: Any) -> str:
        """Commit a stack file with this configuration of the provider, on a branch from main; return the commit."""
        self.repository.git("checkout", "--quiet", "--force", "-B", "feature", "main")
        document = yaml.safe_load((self.repository.folder / "stack.yaml").read_text())
        document["provider"]["things"] |= config
        return self.repository.commit(stack_yaml=yaml.safe_dump(document, sort_keys=False))

    def plan(self, head: str, labels: str = "", iid: int = 4) -> Outcome:
        """Run the pipeline of a merge request."""
        source = {"CI_MERGE_REQUEST_IID": str(iid), "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "7", "CI_MERGE_REQUEST_LABELS": labels}
        pipeline = self.pipeline("merge_request_event", head, **source)
        assert pipeline.jobs == ["plan"]
        outcome = pipeline.job("plan")
        self.add_run(head, outcome.result, iid)
        return outcome

    def add_run(self, head: str, result: str, iid: int = 4) -> None:
        """Record how the pipeline of a merge request ended, with its artefacts."""
        number = len(self.service.pipelines) + 1
        self.service.pipelines.append({"id": number, "iid": iid, "sha": head})
        lint = {"id": 10 * number, "pipeline": number, "name": "lint", "status": "success"}
        status = "success" if result == "success" else "failed"
        self.service.jobs.extend(
            [lint, {**lint, "name": "style"}, {**lint, "id": 10 * number + 1, "name": "plan", "status": status}]
        )
        if result == "success":
            files = GitLabPipeline(self.repository, {}).document["plan"]["artifacts"]["paths"]
            self.service.archives[10 * number + 1] = zipped(self.repository.folder, files)

    def merge(self, head: str, labels: tuple[str, ...] = (), iid: int = 4, source: int = 7) -> str:
        """Merge a merge request; return the commit on main."""
        self.repository.git("checkout", "--quiet", "--force", "main")
        self.repository.git("merge", "--quiet", "--no-ff", "--no-edit", "--strategy-option", "theirs", head)
        sha = self.repository.git("rev-parse", "HEAD")
        request = {"iid": iid, "state": "merged", "sha": head, "merge_commit_sha": sha, "squash_commit_sha": None}
        projects = {"source_project_id": source, "target_project_id": 7}
        self.service.merge_requests.append({**request, **projects, "labels": list(labels)})
        return sha

    def apply(self, sha: str) -> tuple[Outcome, Outcome]:
        """Run the pipeline of main: `find`, then what a person starts."""
        pipeline = self.pipeline("push", sha, CI_COMMIT_BRANCH="main")
        assert pipeline.jobs == ["find", "apply"]
        found = pipeline.job("find")
        if found.result != "success":
            return found, Outcome("skipped")
        for path in pipeline.document["find"]["artifacts"]["paths"]:
            pipeline.artefacts[path] = (self.repository.folder / path).read_bytes()
        return found, pipeline.job("apply")

    def drift(self) -> Outcome:
        """Run the scheduled pipeline."""
        pipeline = self.pipeline("schedule", self.repository.git("rev-parse", "main"), CI_COMMIT_BRANCH="main")
        assert pipeline.jobs == ["drift"]
        return pipeline.job("drift")

    def world(self) -> dict[str, str]:
        """Return what exists."""
        return {path.name: path.read_text() for path in sorted((self.repository.folder / "world").glob("*"))}


@pytest.fixture
def team(repository: Repository) -> Generator[Team]:
    service = GitLab()
    with serving(service):
        yield Team(repository, service, service.grant({"api": "write"}))


def applied(team: Team, **config: Any) -> None:
    """Bring a change through the whole pipeline."""
    head = team.edit(**config)
    assert (planned := team.plan(head)).result == "success", planned.log
    found, done = team.apply(team.merge(head))
    assert (found.result, done.result) == ("success", "success"), found.log + done.log


def test_the_reviewed_plan_is_applied_after_the_merge(team: Team) -> None:
    head = team.edit(text="first")
    assert (planned := team.plan(head)).result == "success", planned.log
    assert team.world() == {}, "a plan changes nothing"
    found, done = team.apply(team.merge(head))
    assert (found.result, done.result) == ("success", "success"), found.log + done.log
    assert "+ thing.one" in found.log, "who applies sees the plan"
    assert team.world() == {"one": "first", "two": "first"}
    again = team.apply(team.repository.git("rev-parse", "main"))[1]
    assert again.result == "failure"
    assert "stack.plan is stale: something was applied since" in again.log


def test_the_note_is_kept_up_to_date(team: Team) -> None:
    other = [{"id": n, "iid": 4, "author": {"id": 66}, "body": f"{MARKER}\nnothing to see"} for n in range(3)]
    team.service.notes.extend([dict(one) for one in other])
    assert (planned := team.plan(team.edit(text="first"))).result == "success", planned.log
    assert team.plan(team.edit(text="second")).result == "success"
    assert team.service.notes[:3] == other, "somebody else's note with the marker is not ours"
    (ours,) = [one for one in team.service.notes if one["author"]["id"] == 1]
    assert ours["body"].startswith(MARKER)
    assert "second" in ours["body"]


def test_a_plan_against_the_policy_is_shown_and_never_applied(team: Team) -> None:
    applied(team, text="first")
    head = team.edit(names=["one"])
    assert (planned := team.plan(head)).result == "failure"
    assert "thing.two: holds data and would be deleted" in planned.log
    assert team.service.notes[-1]["body"].startswith(MARKER), "the reviewer sees why"
    sha = team.merge(head)
    found, _ = team.apply(sha)
    assert "did not succeed: nothing was applied" in found.log

    assert team.plan(head, labels="later,allow-data-loss").result == "success"
    assert team.apply(sha)[0].result == "failure", "the label was taken away again"
    team.service.merge_requests[-1]["labels"] = ["later", "allow-data-loss"]
    found, done = team.apply(sha)
    assert done.result == "success", found.log + done.log
    assert set(team.world()) == {"one"}


def test_nothing_is_applied_that_nobody_reviewed(team: Team) -> None:
    head = team.edit(text="first")
    found, done = team.apply(head)
    assert (found.result, done.result) == ("failure", "skipped")
    assert "came without a merge request, so nobody reviewed a plan: nothing was applied" in found.log
    sha = team.merge(head, source=66)
    assert "came from a fork" in team.apply(sha)[0].log
    team.service.merge_requests[-1]["source_project_id"] = 7
    assert "did not succeed" in team.apply(sha)[0].log
    team.service.merge_requests[-1]["state"] = "closed"
    assert "came without a merge request" in team.apply(sha)[0].log


def test_only_the_last_plan_of_the_merged_commit_counts(team: Team) -> None:
    older, newer = team.edit(text="older"), team.edit(text="newer")
    assert team.plan(older).result == "success"
    sha = team.merge(newer)
    assert "did not succeed" in team.apply(sha)[0].log
    assert team.plan(newer).result == "success"
    team.add_run(newer, "failure")
    assert "did not succeed" in team.apply(sha)[0].log


def test_which_pipeline_has_which_jobs(team: Team) -> None:
    sha = team.repository.git("rev-parse", "main")
    fork = {"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "66", "CI_MERGE_REQUEST_IID": "4"}
    assert team.pipeline("merge_request_event", sha, **fork).jobs == []
    assert team.pipeline("push", sha, CI_COMMIT_BRANCH="feature").jobs == []
    assert team.pipeline("schedule", sha, CI_COMMIT_BRANCH="feature").jobs == []
    assert team.pipeline("push", sha, CI_COMMIT_BRANCH="main").jobs == ["find", "apply"]


def test_drift_opens_one_issue_keeps_it_up_to_date_and_closes_it(team: Team) -> None:
    applied(team, text="first")
    strangers = [{"iid": n, "state": "opened", "author": {"id": 66}, "description": None} for n in (1, 2)]
    team.service.issues.extend(strangers)
    assert (calm := team.drift()).result == "success", calm.log
    assert len(team.service.issues) == 2

    (team.repository.folder / "world" / "one").write_text("edited by hand")
    assert (drifted := team.drift()).result == "success", drifted.log
    (team.repository.folder / "world" / "two").write_text("edited as well")
    assert team.drift().result == "success"
    assert len(team.service.issues) == 3
    ours = team.service.issues[2]
    assert (ours["title"], ours["state"]) == ("Drift: stack.yaml", "opened")
    assert "two: somebody wrote into it" in ours["description"]

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


def test_a_token_that_may_not_says_so_and_does_not_show_itself(team: Team) -> None:
    team.token = team.service.grant({"api": "read"})
    failed = team.plan(team.edit(text="first"))
    assert failed.result == "failure"
    assert "403" in failed.log
    assert "may REVIEW_TOKEN do this?" in failed.log
    assert team.token not in failed.log
    assert "Traceback" not in failed.log


def test_the_jobs_own_token_is_in_a_private_file_only_while_it_runs(team: Team, tmp_path: Path) -> None:
    pipeline = team.pipeline("schedule", team.repository.git("rev-parse", "main"), CI_COMMIT_BRANCH="main")
    pipeline.document["drift"]["script"] = [
        'test "$(stat -c %a "$AWS_WEB_IDENTITY_TOKEN_FILE")" = 600',
        f'cp "$AWS_WEB_IDENTITY_TOKEN_FILE" {tmp_path}/copy',
        f'printf %s "$AWS_WEB_IDENTITY_TOKEN_FILE $AWS_ROLE_ARN" > {tmp_path}/names',
    ]
    assert (done := pipeline.job("drift")).result == "success", done.log
    path, role = (tmp_path / "names").read_text().split()
    assert (tmp_path / "copy").read_text() == "id-token"
    assert role == ROLES["LLMDEPLOY_PLAN_ROLE"]
    assert not Path(path).exists()


def test_each_job_becomes_its_role_with_the_jobs_own_token(team: Team) -> None:
    """The token goes to the token service, the state to the bucket; the environment has no key, and no runner keeps anything."""
    with serving_cloud(hold_to_rights=False) as cloud:
        team.environ |= {"AWS_ENDPOINT_URL": cloud.address, "AWS_REGION": REGION}
        team.repository.keeps = ("world",)
        stack = yaml.safe_load((team.repository.folder / "stack.yaml").read_text())
        team.repository.commit(stack_yaml=yaml.safe_dump({**stack, "state": STATE}, sort_keys=False))
        applied(team, text="first")
        applied(team, text="second")
        assert team.world() == {"one": "second", "two": "second"}
        assert (calm := team.drift()).result == "success", calm.log
        assert team.service.issues == []
