"""What the composition root decides by the settings, where a provider alone cannot."""

import random
from collections.abc import Callable
from typing import Any

from flashsale.entry_points import AdapterMissing
from flashsale.paying import Paying
from flashsale.settings import Settings
from flashsale.settings_rules import load_rules
from flashsale.supervision import Step
from flashsale_core.payment import Cashier, PaymentWaits
from flashsale_core.validation import PurchaseRule, needs_token


def http_door_of(**parts: Any) -> Any:
    """Build the HTTP application; its web stack is an extra that a worker does not need."""
    try:
        from flashsale.http_door import http_door  # noqa: PLC0415 - see above
    except ImportError as exc:
        needs = f"the HTTP API needs {exc.name}, which is not installed"
        raise AdapterMissing(f"{needs}: pip install 'flashsale[http]'") from exc
    return http_door(**parts)


def has_gateway_in(settings: Settings) -> bool:
    """Say whether what is sold must be paid for."""
    return settings.payment_url is not None


def rules_of(settings: Settings) -> tuple[PurchaseRule, ...]:
    """Ask the user's own rules first; what must be paid for needs a token."""
    own = load_rules(settings)
    return (*own, needs_token) if has_gateway_in(settings) else own


def cashier_of(settings: Settings, **ports: Any) -> Cashier:
    """Build the use case of payment with the settings' waits."""
    waits = PaymentWaits(
        deadline_ms=settings.payment_deadline_ms,
        lease_ms=settings.payment_lease_ms,
        retry_initial_ms=settings.payment_retry_initial_ms,
        retry_max_ms=settings.payment_retry_max_ms,
    )
    return Cashier(**ports, waits=waits, chance=random.random)


def with_payments(
    steps: dict[str, Step], settings: Settings, paying: Callable[[], Paying]
) -> dict[str, Step]:
    """Keep a loop for payments where there is a gateway."""
    return {**steps, "payments": paying().step} if has_gateway_in(settings) else steps
