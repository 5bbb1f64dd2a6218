"""Puts the HTTP door together; imported only where the web stack is wanted."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import attrs

from flashsale.http import ASGIApp, Dependency, HttpParts, http_app
from flashsale.http import Readiness as DoorReadiness
from flashsale.http.addresses import Addresses
from flashsale.readiness import Readiness
from flashsale.settings import Settings
from flashsale_core.discarding import Discarder
from flashsale_core.ending import Ender
from flashsale_core.inquiry import Inquiry
from flashsale_core.letter_desk import LetterDesk
from flashsale_core.ports import Clock, Observer
from flashsale_core.purchase import PurchaseDesk
from flashsale_core.selling import SaleDesk


@attrs.frozen
class LastLook:
    """Answers with what the process's own loop saw last: a crowd of questions asks nobody."""

    readiness: Readiness

    async def check(self) -> DoorReadiness:
        """Show the last look, as the door writes it."""
        report = self.readiness.report
        return DoorReadiness(
            ready=report.is_ready,
            dependencies=tuple(
                Dependency(name=one.name, ok=one.is_up, last_error=one.error)
                for one in report.dependencies
            ),
            faults=report.faults,
            is_stopping=report.is_stopping,
        )


def http_door(
    *,
    purchase_desk: PurchaseDesk,
    sale_desk: SaleDesk,
    inquiry: Inquiry,
    letter_desk: LetterDesk,
    discarder: Discarder,
    ender: Ender,
    clock: Clock,
    readiness: Readiness,
    metrics_text: Callable[[], tuple[bytes, str]],
    observer: Observer,
    settings: Settings,
    traces: Any = None,
) -> ASGIApp:
    """Build the application from the use cases and what the settings say of the door.

    `traces` is what the process is traced by, where it is.
    """
    token = settings.admin_token
    proxies = tuple(ip_network(network) for network in settings.trusted_proxies)
    return http_app(
        HttpParts(
            purchase_desk=purchase_desk,
            sale_desk=sale_desk,
            inquiry=inquiry,
            letter_desk=letter_desk,
            discarder=discarder,
            ender=ender,
            clock=clock,
            readiness=LastLook(readiness),
            metrics_text=metrics_text,
            observer=observer,
            admin_token=token.get_secret_value() if token is not None else None,
            cors_origins=settings.cors_origins,
            lookup_deadline_ms=settings.lookup_deadline_ms,
            address_of=Addresses(proxies) if settings.rate_per_address else None,
            traces=traces.requests if traces is not None else None,
        )
    )
