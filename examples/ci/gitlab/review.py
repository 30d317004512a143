#!/usr/bin/env python3
"""What the pipeline asks of GitLab: the note on a merge request, the reviewed plan after the merge, the issue about drift.

    python review.py note plan.md           keep one note of the merge request up to date
    python review.py fetch FOLDER           get the plan that was reviewed for the merged commit CI_COMMIT_SHA, or fail
    python review.py drift drift.md CODE    CODE of `plan --detailed-exitcode`: 2 keeps one issue up to date, 0 closes it

It needs Python alone, and REVIEW_TOKEN: a project access token with the scope `api`; the job's own token may do none of this.
"""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

PLAN_JOB = "plan"


PROJECT = f"projects/{os.environ.get('CI_PROJECT_ID')}"


def call(method: str, path: str, **values: str) -> tuple[bytes, str]:
    """Return the answer to one call, and the number of the next page ("" on the last)."""
    url = f"{os.environ['CI_API_V4_URL']}/{path}"
    data = urlencode(values).encode() if method != "GET" else None
    request = Request(url if data else f"{url}?{urlencode(values)}", data, method=method)  # noqa: S310 - GitLab's own address
    # Not sent on to where a download is redirected to.
    request.add_unredirected_header("PRIVATE-TOKEN", os.environ["REVIEW_TOKEN"])
    try:
        with urlopen(request, timeout=60) as answer:  # noqa: S310 - GitLab's own address
            return answer.read(), answer.headers.get("x-next-page") or ""
    except HTTPError as error:
        sys.exit(f"{method} {url}: {error.code} {error.reason}; may REVIEW_TOKEN do this?")
    except URLError as error:
        sys.exit(f"{method} {url}: {error.reason}")


def listed(path: str, **query: str) -> Iterator[dict[str, Any]]:
    """Yield every item of a list, over all its pages."""
    page = "1"
    while page:
        body, page = call("GET", path, **query, per_page="100", page=page)
        yield from json.loads(body)


def mine(path: str, field: str, text: str, **query: str) -> dict[str, Any] | None:
    """Return the token's own item of a list whose field begins with the marker, the first line, of `text`."""
    me = json.loads(call("GET", "user")[0])["id"]
    marker = text.partition("\n")[0]
    return next(
        (one for one in listed(path, **query) if one["author"]["id"] == me and (one[field] or "").startswith(marker)), None
    )


def note(text: str) -> None:
    """Write the note, or over the one that is there."""
    notes = f"{PROJECT}/merge_requests/{os.environ['CI_MERGE_REQUEST_IID']}/notes"
    old = mine(notes, "body", text)
    call("PUT" if old else "POST", f"{notes}/{old['id']}" if old else notes, body=text)


def fetch(folder: Path) -> None:
    """Get the artefacts of the plan job of the merged merge request; leave its labels beside them."""
    sha = os.environ["CI_COMMIT_SHA"]
    for one in listed(f"{PROJECT}/repository/commits/{sha}/merge_requests"):
        if one["state"] == "merged" and sha in (one["merge_commit_sha"], one["squash_commit_sha"], one["sha"]):
            break
    else:
        refuse(f"{sha} came without a merge request, so nobody reviewed a plan")
    name = f"merge request {one['iid']}"
    if one["source_project_id"] != one["target_project_id"]:
        refuse(f"{name} came from a fork, which gets no plan")
    pipelines = [run for run in listed(f"{PROJECT}/merge_requests/{one['iid']}/pipelines") if run["sha"] == one["sha"]]
    last = max(pipelines, key=lambda run: run["id"], default=None)
    jobs = listed(f"{PROJECT}/pipelines/{last['id']}/jobs") if last else ()
    plan = next((job for job in jobs if job["name"] == PLAN_JOB and job["status"] == "success"), None)
    if plan is None:
        refuse(f"the last plan of {name}, commit {one['sha']}, did not succeed")
    archive, _ = call("GET", f"{PROJECT}/jobs/{plan['id']}/artifacts")
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        files.extractall(folder)
    (folder / "labels").write_text(",".join(one["labels"]), encoding="utf-8")


def refuse(reason: str) -> NoReturn:
    """Say why nothing is applied, and end."""
    sys.exit(f"{reason}: nothing was applied. Open a merge request (an empty commit will do).")


def drift(text: str, code: int) -> None:
    """Open, update or close the one issue about drift. Passes on the exit code of a plan that failed."""
    if code not in (0, 2):
        sys.exit(code)
    issues = f"{PROJECT}/issues"
    old = mine(issues, "description", text, state="opened")
    if code == 2 and old:
        call("PUT", f"{issues}/{old['iid']}", description=text)
    elif code == 2:
        call("POST", issues, title=f"Drift: {os.environ['STACK']}", description=text)
    elif old:
        call("PUT", f"{issues}/{old['iid']}", state_event="close")


def main(verb: str, path: Path, *more: str) -> None:
    """Do what the command line asks."""
    if verb == "note":
        note(path.read_text(encoding="utf-8"))
    elif verb == "fetch":
        fetch(path)
    elif verb == "drift":
        drift(path.read_text(encoding="utf-8"), int(*more))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
