"""What may be wrong with a schema registry, and what mends each."""

from flashsale_avro.registration import Registration, check_schemas
from flashsale_avro.schema_registry import AUTH_SETTING, URL_SETTING, RegistryConfig
from flashsale_core.errors import Unavailable
from flashsale_core.operating import Finding, wrong

REGISTER = "flashsale schema register"


async def diagnose_registry(config: RegistryConfig) -> list[Finding]:
    """Look at everything, change nothing; without an answer there is one finding only."""
    try:
        standings = await check_schemas(config)
    except Unavailable as away:
        return [_away(away)]
    reached = Finding(name="registry reachable", said=config.url)
    missing = [one for one in standings if one.schema_id is None]
    if not missing:
        return [reached, Finding(name="registry schemas", said=f"{len(standings)} registered")]
    return [reached, *(_missing(one) for one in missing)]


def _missing(one: Registration) -> Finding:
    if one.is_compatible:
        return wrong("registry schemas", f"{one.subject} is not registered", REGISTER)
    problem = f"{one.subject} is not compatible with what the subject holds"
    fix = f"delete the subject {one.subject} in the registry, if it is not yours, then {REGISTER}"
    return wrong("registry schemas", problem, fix)


def _away(away: Unavailable) -> Finding:
    if AUTH_SETTING in away.detail:
        return wrong("registry login", away.detail, f"set {AUTH_SETTING} to user:password")
    return wrong("registry reachable", away.detail, f"start the registry, or correct {URL_SETTING}")
