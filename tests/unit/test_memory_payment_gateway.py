"""The memory gateway keeps the contract of every payment gateway."""

import pytest

from flashsale_core.ports import PaymentGateway
from flashsale_core.testing.payment_gateway import PaymentGatewayContract, Treatment
from flashsale_memory import payment_gateway
from flashsale_memory.payment_gateway import MemoryPaymentGateway


class TestMemoryPaymentGateway(PaymentGatewayContract):
    """The contract, in one process."""

    @pytest.fixture
    def gateway(self) -> PaymentGateway:
        """Make a gateway that knows nobody."""
        return MemoryPaymentGateway()


def test_the_treatments_of_memory_are_the_contract_s() -> None:
    """A word that means nothing would be charged."""
    words = ("DECLINED", "SLOW", "LOST", "BROKEN")
    assert {word: getattr(payment_gateway, word) for word in words} == {
        one.name: one.value for one in Treatment
    }
