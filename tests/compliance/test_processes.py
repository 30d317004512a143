"""What engines say of their processes."""

from __future__ import annotations

from llmdeploy.compliance.processes import keeps_content, leaks, reports
from llmdeploy.serving import engine
from llmdeploy.traits import EngineProcess

LOUD = EngineProcess(engine="vllm", argv=("--enable-log-requests", "--kv-offloading-size", "4"), env={"DO_NOT_TRACK": "0"})


def test_an_engine_says_the_same_as_when_it_is_asked_itself() -> None:
    for process in (LOUD, LOUD.model_copy(update={"argv": ()}), LOUD.model_copy(update={"env": {"VLLM_TRACE_FUNCTION": "1"}})):
        asked, given = engine(process.engine), (process.argv, process.env)
        assert (leaks(process), keeps_content(process), reports(process)) == (
            tuple(asked.leaks(*given)),
            tuple(asked.keeps_content(*given)),
            tuple(asked.reports(*given)),
        )
    assert leaks(LOUD) != leaks(LOUD.model_copy(update={"argv": ()}))


def test_replicas_with_the_same_process_are_read_once() -> None:
    assert leaks(LOUD) is leaks(LOUD.model_copy())
