"""The mechanisms, each module one part of the way. Add to the module that fits."""

from tests.antitests.antitest import AntiTest
from tests.antitests.mechanisms import (
    aftercare,
    brokers,
    doors,
    gate,
    journaled,
    lives,
    messages,
    money,
    rebuild,
    rows,
)

ANTITESTS: tuple[AntiTest, ...] = (
    *doors.ANTITESTS,
    *journaled.ANTITESTS,
    *brokers.ANTITESTS,
    *gate.ANTITESTS,
    *rows.ANTITESTS,
    *lives.ANTITESTS,
    *rebuild.ANTITESTS,
    *aftercare.ANTITESTS,
    *messages.ANTITESTS,
    *money.ANTITESTS,
)
