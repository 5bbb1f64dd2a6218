"""What every PaymentGateway must do. Subclass the contract and give it a `gateway` fixture.

The provider behind it charges every token but those that begin with a word of `Treatment`.
"""

from enum import StrEnum

import pytest

from flashsale_core.charges import Charge, Charged, Declined, InProgress, NeverHeard
from flashsale_core.errors import Corrupt, Unavailable, Why
from flashsale_core.model import PurchaseId, SaleId
from flashsale_core.occurrence import payment_key
from flashsale_core.ports import PaymentGateway

SALE = SaleId("shoe.1")


class Treatment(StrEnum):
    """How the provider treats a token that begins so."""

    DECLINED = "declined"
    SLOW = "slow"
    """In progress at first, and charged when it was looked up often enough."""
    LOST = "lost"
    """Charged, and the reply dropped."""
    BROKEN = "broken"
    """Refused as a question; nobody is charged."""


def charge(purchase: str, token: str | None = "tok", *, amount: int = 4_990) -> Charge:  # noqa: S107 - opaque
    """Make a charge."""
    purchase_id = PurchaseId(purchase)
    return Charge(
        key=payment_key(SALE, purchase_id),
        sale_id=SALE,
        purchase_id=purchase_id,
        amount_minor=amount,
        currency="CHF",
        payment_token=token,
    )


class PaymentGatewayContract:
    """One charge a key, however often it is asked."""

    async def test_a_charge_is_made_and_known(self, gateway: PaymentGateway) -> None:
        """A look-up says the same as the charge did."""
        made = await gateway.charge(charge("p1"))
        assert isinstance(made, Charged)
        assert made.reference
        assert await gateway.look_up(charge("p1").key) == made

    async def test_the_same_key_again_is_the_same_charge(self, gateway: PaymentGateway) -> None:
        """Never a second one."""
        first = await gateway.charge(charge("p1"))
        assert await gateway.charge(charge("p1")) == first
        assert await gateway.charge(charge("p2")) != first

    async def test_a_declined_charge_says_why_and_stays_declined(
        self, gateway: PaymentGateway
    ) -> None:
        """The reason is the provider's code."""
        asked = charge("p1", Treatment.DECLINED)
        first = await gateway.charge(asked)
        assert isinstance(first, Declined)
        assert first.reason
        assert await gateway.look_up(asked.key) == first
        assert await gateway.charge(asked) == first

    async def test_a_key_that_was_never_asked_is_not_known(self, gateway: PaymentGateway) -> None:
        """That is an answer, and not an error."""
        assert await gateway.look_up(charge("nobody").key) == NeverHeard()

    async def test_a_look_up_charges_nothing(self, gateway: PaymentGateway) -> None:
        """However often it is asked."""
        for _ in range(3):
            assert await gateway.look_up(charge("p1").key) == NeverHeard()

    async def test_a_charge_in_progress_ends_later(self, gateway: PaymentGateway) -> None:
        """Asked again it is in progress still, or charged; never unheard of."""
        asked = charge("p1", Treatment.SLOW)
        assert await gateway.charge(asked) == InProgress()
        for _ in range(10):
            known = await gateway.look_up(asked.key)
            assert isinstance(known, InProgress | Charged)
            if isinstance(known, Charged):
                return
        pytest.fail("it never ended")

    async def test_a_lost_reply_is_an_unknown_outcome_that_can_be_looked_up(
        self, gateway: PaymentGateway
    ) -> None:
        """The charge was made: whoever asks again hears of it."""
        asked = charge("p1", Treatment.LOST)
        with pytest.raises(Unavailable) as lost:
            await gateway.charge(asked)
        assert lost.value.why is Why.PAYMENT_AWAY
        assert lost.value.may_have_happened
        known = await gateway.look_up(asked.key)
        assert isinstance(known, Charged)
        assert await gateway.charge(asked) == known

    async def test_a_question_that_is_refused_is_no_decline(self, gateway: PaymentGateway) -> None:
        """A person must look: the buyer may have nothing to do with it."""
        with pytest.raises(Corrupt):
            await gateway.charge(charge("p1", Treatment.BROKEN))
        assert await gateway.look_up(charge("p1").key) == NeverHeard()

    @pytest.mark.parametrize("treatment", [Treatment.LOST, Treatment.BROKEN])
    async def test_no_error_tells_the_token(
        self, gateway: PaymentGateway, treatment: Treatment
    ) -> None:
        """It is the buyer's."""
        token = f"{treatment}-4111111111111111"
        with pytest.raises((Unavailable, Corrupt)) as told:
            await gateway.charge(charge("p1", token))
        assert token not in f"{told.value!r} {told.value}"
        assert told.value.__cause__ is None
