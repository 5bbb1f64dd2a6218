"""How `http://` and `https://` are opened, as a payment gateway."""

from contextlib import AbstractAsyncContextManager

from flashsale_core.opening import OpenPayment, PaymentOptions
from flashsale_http_payment.gateway import HttpPaymentGateway, open_http_gateway


def open_gateway(
    url: str, options: PaymentOptions
) -> AbstractAsyncContextManager[HttpPaymentGateway]:
    """Open the gateway; it connects at the first charge."""
    return open_http_gateway(
        url, deadline_ms=options.deadline_ms, auth=options.auth, carried=options.carried
    )


_: OpenPayment = open_gateway
