"""The mechanisms, each module one part of the way. Add to the module that fits."""

from tests.antitests.antitest import AntiTest
from tests.antitests.mechanisms import (
    aftercare,
    brokers,
    clients,
    clustered,
    doors,
    ending,
    gate,
    journaled,
    lives,
    looking,
    messages,
    money,
    rebuild,
    rows,
    several,
    short_way,
    silence,
    tracing,
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
    *silence.ANTITESTS,
    *ending.ANTITESTS,
    *several.ANTITESTS,
    *clients.ANTITESTS,
    *short_way.ANTITESTS,
    *looking.ANTITESTS,
    *clustered.ANTITESTS,
    *tracing.ANTITESTS,
)
