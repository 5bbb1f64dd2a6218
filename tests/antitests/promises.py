"""What the engine promises, in numbered sentences, and what it does not."""

PREFACE = """\
# What is promised, and what holds it

Each promise is one sentence. Below it stand the mechanisms that keep it: what each does, where it
is, the test that goes red without it, and its anti-test. `make antitests` takes every mechanism
out of a private copy of the sources, one after the other, runs the named test there, and fails
when one of them stays green. A test that nobody has seen red proves nothing.

The protocol as a whole is searched in every order of events ([the model](model/README.md)), tried
with random crashes (`make model-test`), and broken on real servers (`make faults`).

This page is written by `python -m tests.antitests --page` from `tests/antitests/`.
"""

PROMISES: dict[int, tuple[str, str]] = {
    1: (
        "No unit is sold twice.",
        "However many ask at once, at both doors, of any number of processes.",
    ),
    2: (
        "What was answered 200 ACCEPTED ends as an order.",
        (
            "Or as REJECTED because its payment was declined or a named operator ended it. "
            "Any other end is a loss, and counted as one. Locks taken in one order by all keep "
            "workers from ending each other's batches on the way."
        ),
    ),
    3: (
        "One purchase id is one purchase, with one unit taken and one row.",
        (
            "Asked again over HTTP, delivered again, at the other door, by two workers at once, "
            "after sold out or after close: it gets its old answer."
        ),
    ),
    4: (
        "No unit leaks.",
        (
            "What was taken is sold or for sale again, whoever died in between; nothing is "
            "released by a timeout, or before its REJECTED row stands."
        ),
    ),
    5: (
        "Sold out touches neither queue nor database, and leaves nothing behind.",
        "It is said while both are stopped.",
    ),
    6: (
        "The sale's terms hold for every purchase.",
        (
            "Quantity is all or nothing, the limit is a user's over the whole sale, and times are "
            "the gate's."
        ),
    ),
    7: (
        "A gate that lost its memory refuses to sell.",
        "Restarted, emptied, failed over, or demoted and back.",
    ),
    8: (
        ("A lost gate is rebuilt from the database, with no promise lost and no unit sold twice."),
        "While processes go on; by any number of rebuilders, which may die at every step.",
    ),
    9: (
        "The database has the last word about units, and a gate that disagrees is stopped.",
        "The sale is halted, somebody is told, and nobody is told of what is only in flight.",
    ),
    10: (
        "One bad message stops nobody, and is kept as it came.",
        "Undecodable, refused by the database, or deadly to the process that decodes it.",
    ),
    11: (
        "A dependency that is down costs no message.",
        "Nothing is set aside or counted for it, however long it takes.",
    ),
    12: (
        "What an operator does with a message is done once, and written down.",
        "By two operators at once, and against a worker that has it in hand.",
    ),
    13: (
        "Nobody is charged twice, and no unit is released while a charge is unknown.",
        "Replies may be lost, workers die or sleep, providers be away.",
    ),
    14: (
        "Every end is told, with the row or not at all.",
        "At least once, under an event id that is always the same.",
    ),
    15: (
        "No answer says more than is known.",
        (
            "What may have been taken is never told as not taken, what was promised is never 404, "
            "and an item that has a sale is never unknown."
        ),
    ),
    16: (
        "Admin routes are for whoever has the token.",
        "And no answer tells how much of a guess was right.",
    ),
    17: (
        "Nobody waits for long behind what is silent, and no crowd asks it.",
        (
            "A buyer hears within 300 ms when the gate is gone, and within a second when the "
            "broker is; one call at a time finds out that it is back."
        ),
    ),
    18: (
        "A process that is told to stop ends in good order and in time.",
        (
            "An API within 10 s, a worker within 25 s, whatever hangs; told twice, at once. What "
            "is under way is answered, and what is cut off is done by another."
        ),
    ),
    19: (
        "No client takes the sale from the others.",
        (
            "Who asks too often, too much or too slowly is refused or let go, and nobody speaks "
            "for another address than his own. Limits of rates are off unless they are set."
        ),
    ),
    20: (
        "What is configured so that a promise would not hold is named.",
        (
            "By `flashsale doctor`, with what mends it; and where a promise hangs on it, by a "
            "start that is refused."
        ),
    ),
    21: (
        "Several processes on one port are one engine to whoever asks.",
        (
            "Their metrics are one page that counts every answer once and never falls; one that "
            "dies keeps nobody waiting, and no other program shares their port in silence."
        ),
    ),
    22: (
        "What others build against does not break under them.",
        (
            "Within a major version: messages, their metadata and the HTTP API. A change that "
            "would break them fails the build ([contracts.md](contracts.md))."
        ),
    ),
    23: (
        "A traced purchase is one whole trace, and traces are in nobody's way.",
        (
            "Off, there is nothing of them. On, a collector that is away costs spans and a line, "
            "never a purchase or a stop's time."
        ),
    ),
}

RULES: dict[str, tuple[str, ...]] = {
    "journal": ("journal", "journal-in-memory"),
    "confirm before answer": ("confirm-before-answer", "only-q-and-s-answer-again"),
    "0.8 s rule": ("promise-time", "journaled-promise-time", "rebuilds-wait"),
    "duplicate check": ("duplicate-check", "duplicate-check-in-memory", "duplicate-before-state"),
    "row before release": ("row-before-release", "payment-row-before-release"),
    "gate follows row": ("gate-follows-row", "gate-follows-its-own-row"),
    "epoch in record": ("epoch-in-record", "promised-epoch-rule"),
    "epoch in message": ("epoch-in-message", "older-epoch-is-outside"),
    "function memory": ("function-memory", "epoch-in-key"),
    "barrier": ("barrier", "barrier-after-parking", "barrier-on-every-queue"),
    "lock order": (
        "lock-order-orders",
        "lock-order-sales",
        "lock-order-parked",
        "sales-locked-last",
    ),
    "lock before read": ("lock-before-read", "one-loader-per-epoch"),
    "load token, books compared": ("load-token", "books-compared"),
    "refusal burned by the worker": ("worker-burns-refused-id", "worker-burns-in-memory"),
    "O told apart from Q": ("outside-is-not-queued", "outside-lifts-nothing"),
    "contiguous watermark": (
        "contiguous-watermark",
        "one-delivery-a-partition",
        "given-back-comes-first",
        "no-commit-by-itself",
    ),
    "one active consumer": ("single-active-consumer", "killed-workers-messages-first"),
    "skip locked, lease": (
        "skip-locked-payments",
        "payment-lease",
        "skip-locked-parked",
        "parked-lease",
        "skip-locked-outbox",
    ),
}
"""The protocol's rules by the names that the design gives them, and their anti-tests."""

NOT_PROMISED = """\
## What is not promised

- **Losing the database.** PostgreSQL is the truth. A commit that it confirmed and forgot (no
  `synchronous_commit`, a lost volume, a restored copy) is lost with what it sold.
- **A broker that loses what it confirmed.** With one node, or replication that keeps fewer than two
  copies, its disk is a part of the promise. `flashsale doctor` says what is configured otherwise.
- **Redis without its log.** A gate that lost its memory sells nothing twice, but a purchase of
  *unknown outcome* (503) that was only in its journal is gone with it. Nobody was told ACCEPTED.
- **A cut-off primary that goes on for longer than its replicas allow.** The fence needs
  `min-replicas-to-write 1` and a small lag where there are replicas; `doctor` checks both.
- **Losing the Redis node under the policy `journaled`.** What is answered out of its journal and
  not yet on the bus is as durable as that node. The default, `confirmed`, does not depend on it.
- **What an operator overrides.** Who discards a letter ends its purchase; who sets
  `FLASHSALE_JOURNAL_LOSS=i-accept-loss` has accepted it; who changes rows or keys by hand is on
  his own.
- **Order among buyers.** Nobody is first: requests that arrive together are judged together.
- **An answer in time.** A buyer hears something within a second; while something is down, that is
  503, and the same id asked again resumes.
- **Exactly one event.** Events are told at least once; consumers drop repeats by the event id.
- **A payment provider that breaks its word.** One key must be one charge for 24 hours.
- **Processes whose clocks run at different speeds.** Instants may differ by hours: what is waited
  for is measured on one clock. A clock that runs a tenth too slow shortens the rebuild's wait.
- **The time that a comparison takes, to the last nanosecond.** The token is compared in constant
  time; networks and parsers around it are not constant.
- **On memory and SQLite** (`make run`): one process. When it dies, the file fills its gate.
"""
