"""Runs jobs of the example pipelines: each script as it stands in the YAML, in the shell that the platform gives it.

What an action of somebody else's does (`uses:`) is done by a few lines here that say so; an unknown one fails.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from tests.cli.lab import PLUGIN
from tests.examples_ci.doubles import GitHub, zipped
from tests.support import ROOT

CI = ROOT / "examples" / "ci"
SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
ROLES = {f"LLMDEPLOY_{role.upper()}_ROLE": f"arn:aws:iam::123456789012:role/{role}" for role in ("plan", "apply")}
_INSTALLED: dict[str, str] = {}
Tree = dict[str, Any]


@dataclass
class Outcome:
    """How a job ended, what it printed, its outputs, and the summary that the platform shows."""

    result: Literal["success", "failure", "skipped"]
    log: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict[str, str])
    summary: str = ""


@dataclass
class Repository:
    """A git repository with a stack of the provider `things`; it stands for every runner's checkout.

    keeps: what a fresh checkout leaves there, ignored by git: state and world stand for the bucket and the cloud.
    """

    folder: Path
    keeps: tuple[str, ...] = (".llmdeploy", "world")

    def git(self, *arguments: str) -> str:
        """Run git; return what it printed."""
        identity = ("-c", "user.name=dev", "-c", "user.email=dev@example.com")
        done = subprocess.run(["git", *identity, *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        """Write tracked files (`stack_yaml` is stack.yaml), commit them, return the commit."""
        for name, text in files.items():
            (self.folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
        self.git("commit", "--quiet", "--all", "--allow-empty", "--message", "change")
        return self.git("rev-parse", "HEAD")

    def checkout(self, commit: str) -> None:
        """Check a commit out; leave nothing of an earlier job but what is kept."""
        self.git("checkout", "--quiet", "--force", commit)
        self.git("clean", "-ffdxq", *(f"--exclude={name}" for name in self.keeps))

    def install(self, script: str, environ: Mapping[str, str]) -> str:
        """Run the script that installs llmdeploy, once: it is there, and pip takes a while to say so. Return what it printed."""
        if script not in _INSTALLED:
            done = self.shell(script, environ)
            assert done.returncode == 0, done.stdout
            _INSTALLED[script] = done.stdout
        return _INSTALLED[script]

    def shell(self, script: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a script as a runner does: in bash, ended by the first failure, also in a pipe."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        base = {"PATH": path, "HOME": str(self.folder.parent), "LC_ALL": "C.UTF-8", "PYTHONPATH": str(PLUGIN)}
        # What is to be installed is there already: pip must say so by itself.
        base |= {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        return subprocess.run(
            [*SHELL, "-c", script],
            cwd=self.folder,
            env={**base, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )


# --- GitHub -----------------------------------------------------------------------------------------------------------------


def evaluate(expression: str, context: Tree) -> Any:
    """Return the value of an expression of the kinds that the workflows use. Raises KeyError for what is not defined."""
    expression = expression.strip()
    if " && " in expression:
        return all(evaluate(part, context) for part in expression.split(" && "))
    if equal := re.fullmatch(r"(.+?) == (.+)", expression):
        return evaluate(equal[1], context) == evaluate(equal[2], context)
    if joined := re.fullmatch(r"join\((.+), '(.*)'\)", expression):
        return joined[2].join(evaluate(joined[1], context))
    if literal := re.fullmatch(r"'(.*)'", expression):
        return literal[1]
    return _walk(context, expression.split("."))


def _walk(value: Any, path: Sequence[str]) -> Any:
    for index, name in enumerate(path):
        if name == "*":
            return [_walk(item, path[index + 1 :]) for item in value]
        value = value[name]
    return value


def filled(text: str, context: Tree) -> str:
    """Return a text with its `${{ }}` evaluated."""
    return re.sub(r"\$\{\{(.+?)\}\}", lambda found: str(evaluate(found[1], context)), str(text))


@dataclass
class GitHubRun:
    """One run of a workflow: its jobs share context and artefacts. assume: a role's ARN -> the variables of a job in it."""

    repository: Repository
    service: GitHub
    workflow: Tree
    github: Tree
    environ: Mapping[str, str]
    number: int
    assume: Callable[[str], Mapping[str, str]]
    needs: Tree = field(default_factory=dict[str, Any])

    def job(self, name: str) -> Outcome:
        """Run one job; later ones see its outputs."""
        job = self.workflow["jobs"][name]
        token = self.service.grant(job["permissions"])
        variables = {"LLMDEPLOY_WHEEL": "llmdeploy", **ROLES}
        context: Tree = {
            "github": {**self.github, "repository": self.service.repository, "token": token},
            "vars": {**variables, "AWS_REGION": "eu-central-1"},
            "needs": self.needs,
            "steps": {},
        }
        if "if" in job and not evaluate(job["if"], context):
            return Outcome("skipped")
        outcome = _Job(self, context).run(job)
        if "outputs" in job and outcome.result == "success":
            outcome.outputs = {key: filled(value, context) for key, value in job["outputs"].items()}
        self.needs[name] = {"outputs": outcome.outputs}
        return outcome


class _Job:
    """The steps of one job, in order, until one fails."""

    def __init__(self, run: GitHubRun, context: Tree) -> None:
        self._run, self._context, self._log = run, context, ""
        self._role: Mapping[str, str] = {}
        self._folder = run.repository.folder
        self._files = {name: run.repository.folder.parent / f"github-{name}" for name in ("output", "summary")}

    def run(self, job: Tree) -> Outcome:
        for path in self._files.values():
            path.write_text("")
        for step in job["steps"]:
            if not self._step(step):
                return Outcome("failure", self._log, summary=self._files["summary"].read_text())
        return Outcome("success", self._log, summary=self._files["summary"].read_text())

    def _step(self, step: Tree) -> bool:
        if "uses" in step:
            self._use(step["uses"].partition("@")[0], step.get("with", {}))
            return True
        assert "${{" not in step["run"], f"text of a context must come in by env, not into the script: {step}"
        if step["name"] == "Install":
            self._log += self._run.repository.install(step["run"], self._environ(step))
            return True
        self._files["output"].write_text("")
        done = self._run.repository.shell(step["run"], self._environ(step))
        self._log += done.stdout
        pairs = [line.partition("=") for line in self._files["output"].read_text().splitlines()]
        if "id" in step:
            self._context["steps"][step["id"]] = {"outputs": {name: value for name, _, value in pairs}}
        return done.returncode == 0

    def _environ(self, step: Tree) -> dict[str, str]:
        given = {**self._run.workflow.get("env", {}), **step.get("env", {})}
        environ = {name: filled(value, self._context) for name, value in given.items()}
        if "GH_TOKEN" in environ:
            # `gh` reads this variable for a service that is not github.com.
            environ["GH_ENTERPRISE_TOKEN"] = environ["GH_TOKEN"]
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_REPOSITORY": self._run.service.repository,
            "GITHUB_SHA": self._run.github["sha"],
            "GITHUB_OUTPUT": str(self._files["output"]),
            "GITHUB_STEP_SUMMARY": str(self._files["summary"]),
            **self._run.environ,
            **self._role,
            **environ,
        }

    def _use(self, action: str, given: Tree) -> None:
        artefacts = self._run.service.artefacts
        match action:
            case "actions/checkout":
                self._run.repository.checkout(self._run.github["sha"])
            case "actions/setup-python":
                pass  # Python is here
            case "aws-actions/configure-aws-credentials":
                self._role = self._run.assume(filled(given["role-to-assume"], self._context))
            case "actions/upload-artifact":
                artefacts[self._run.number, given["name"]] = zipped(self._folder, given["path"].split())
            case "actions/download-artifact":
                with zipfile.ZipFile(io.BytesIO(artefacts[self._run.number, given["name"]])) as archive:
                    archive.extractall(self._folder)
            case _:
                raise AssertionError(f"what does {action} do?")


def workflow_of(name: str) -> Tree:
    """Return a workflow of GitHub's."""
    return cast(Tree, yaml.safe_load((CI / "github" / name).read_text()))


# --- GitLab -----------------------------------------------------------------------------------------------------------------


def _merged(pipeline: Tree, job: Tree) -> Tree:
    """Return a job with what it extends: mappings are merged, everything else is taken over."""
    base: Tree = pipeline[job["extends"]] if "extends" in job else pipeline["default"]
    variables = {**pipeline["variables"], **base.get("variables", {}), **job.get("variables", {})}
    return {**pipeline["default"], **base, **job, "variables": variables}


@dataclass
class GitLabPipeline:
    """One pipeline of GitLab's: which jobs it has, and how they run."""

    repository: Repository
    environ: Mapping[str, str]
    artefacts: dict[str, bytes] = field(default_factory=dict[str, bytes])
    document: Tree = field(default_factory=lambda: cast(Tree, yaml.safe_load((CI / "gitlab" / ".gitlab-ci.yml").read_text())))

    @property
    def jobs(self) -> list[str]:
        """The names of the jobs whose rules hold. Bash reads GitLab's `==` and `&&` as GitLab does."""
        known = {"stages", "variables", "default"}
        names = [name for name in self.document if name not in known and not name.startswith(".")]
        return [name for name in names if any(self._holds(rule["if"]) for rule in self.document[name]["rules"])]

    def _holds(self, rule: str) -> bool:
        return self.repository.shell(f"[[ {rule} ]]", self.environ).returncode == 0

    def job(self, name: str) -> Outcome:
        """Run one job."""
        job = _merged(self.document, self.document[name])
        environ = {**self.environ, "CI_JOB_ID": str(os.getpid())}
        environ |= {token: "id-token" for token in job.get("id_tokens", {})}
        for key, value in job["variables"].items():
            environ[key] = re.sub(r"\$(\w+)", lambda found: environ[found[1]], value)
        install = self.document["default"]["before_script"]
        log = self.repository.install("\n".join(install), environ)
        before = [line for line in job["before_script"] if isinstance(line, str) and line not in install]
        self.repository.checkout(environ["CI_COMMIT_SHA"])
        for path, content in self.artefacts.items():
            (self.repository.folder / path).write_bytes(content)
        done = self.repository.shell("\n".join([*before, *job["script"]]), environ)
        after = self.repository.shell("\n".join(job.get("after_script", [])), environ)
        assert after.returncode == 0, after.stdout
        return Outcome("success" if done.returncode == 0 else "failure", log + done.stdout)
