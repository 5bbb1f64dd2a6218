"""The payment gateway over HTTP: one POST that charges under a key, one GET that looks it up."""

from flashsale_http_payment.gateway import HttpPaymentGateway, open_http_gateway

__all__ = ["HttpPaymentGateway", "open_http_gateway"]
