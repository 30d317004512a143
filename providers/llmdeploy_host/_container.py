"""How an engine on GPUs or in a container is held on its machine, as a plan tells it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from llmdeploy.sdk import ProcessSpec, Tree

HEAD: Final = "{head}"
"""Token of a process that reaches the first machine of its replica: only the parts of a replica on several machines do."""

_SHARED_MEMORY: Final = "16g"
"""For what the processes of one engine exchange. A limit, not a reservation; the engine's documentation names no figure."""

_MOST_PROCESSES: Final = 4096


def spans_machines(process: ProcessSpec) -> bool:
    """Tell whether the process is part of a replica that runs on several machines."""
    return any(HEAD in text for text in (*process.argv, *process.env.values()))


def details(values: Mapping[str, Tree]) -> tuple[str, ...]:
    """Return sentences with the options of the container; none for a process on the CPU outside one. `values` may be unknown."""
    gpus = ",".join(str(index) for index in values.get("gpu_indices") or ())
    if values.get("image") is None:
        return (f"uses GPU {gpus} of the machine and no other (CUDA_VISIBLE_DEVICES={gpus})",) if gpus else ()
    return tuple(_held(gpus, spans_machines(ProcessSpec.model_validate(values["process"]))))


def _held(gpus: str, several: bool) -> Iterator[str]:
    yield (
        f"runs in a container: read-only, without capabilities, at most {_MOST_PROCESSES} processes (--read-only --cap-drop ALL "
        f"--security-opt no-new-privileges --pids-limit {_MOST_PROCESSES})"
    )
    yield "as the stack's own user, in the image's group 0 (--user UID:0)"
    if gpus:
        yield f"with GPU {gpus} of the machine and no other (--gpus device={gpus})"
    yield f"its processes exchange data in memory of their own, not the machine's (--shm-size {_SHARED_MEMORY})"
    if several:
        yield "in the machine's network, to reach the other machines of its replica (--network host)"
    else:
        yield "without a network: clients come through its socket (--network none)"
    yield "the model is mounted read-only; it can write its cache, its home, its temporary folder and its socket's, nothing else"
