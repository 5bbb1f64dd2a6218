"""For whoever runs it: alive, ready, metrics, and the table of problem types."""

from typing import Any

from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from msgspec import UNSET

from flashsale.http.answers import (
    DependencyReport,
    Liveness,
    ProblemType,
    ProblemTypes,
    ReadinessReport,
)
from flashsale.http.guards import parts_of
from flashsale.http.openapi import described
from flashsale.http.problems import KINDS

Req = Request[Any, Any, Any]


def _operation(
    operation_id: str, summary: str, description: str, answer: ResponseSpec
) -> dict[str, Any]:
    return described(
        operation_id=operation_id,
        summary=summary,
        description=description,
        tag="operation",
        answer=answer,
    )


def _answer(kind: Any, description: str, media_type: str = "application/json") -> ResponseSpec:
    return ResponseSpec(
        data_container=kind,
        generate_examples=False,
        description=description,
        media_type=media_type,
    )


_ALIVE = _operation("alive", "Alive", "This process runs.", _answer(Liveness, "It does."))
_READY = _operation(
    "ready",
    "Ready",
    "May this process be given work? It needs gate and bus; a slow database takes no door away.",
    _answer(ReadinessReport, "It may."),
)
_READY["responses"][503] = _answer(ReadinessReport, "It may not; `dependencies` says why.")
_METRICS = _operation(
    "metrics", "Metrics", "For Prometheus.", _answer(str, "The metrics.", "text/plain")
)
_PROBLEMS = _operation(
    "problemTypes", "Problem types", "All types of problems.", _answer(ProblemTypes, "The table.")
)


@get("/healthz", **_ALIVE)
async def alive() -> Liveness:
    """Say that this process runs."""
    return Liveness()


@get("/readyz", **_READY)
async def ready(request: Req) -> Response[ReadinessReport]:
    """Say whether this process may be given work."""
    readiness = await parts_of(request).readiness.check()
    report = ReadinessReport(
        ready=readiness.ready,
        dependencies=[
            DependencyReport(name=one.name, ok=one.ok, last_error=one.last_error)
            for one in readiness.dependencies
        ],
        faults=readiness.faults if readiness.faults is not None else UNSET,
        stopping=readiness.is_stopping or UNSET,
    )
    return Response(report, status_code=200 if readiness.ready else 503)


@get("/metrics", **_METRICS)
async def metrics(request: Req) -> Response[bytes]:
    """Write the metrics as Prometheus reads them."""
    text, media_type = parts_of(request).metrics_text()
    # The framework adds the charset to every text by itself.
    return Response(text, media_type=media_type.removesuffix("; charset=utf-8"))


@get("/problems", **_PROBLEMS)
async def problem_types() -> ProblemTypes:
    """List all types of problems."""
    return ProblemTypes(
        problems=[
            ProblemType(type=kind.type, status=kind.status, title=kind.title, meaning=kind.meaning)
            for kind in KINDS
        ]
    )


OPERATION_ROUTES = (alive, ready, metrics, problem_types)
