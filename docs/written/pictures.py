"""The pictures of the pages, as data; docs/pictures/ holds them drawn."""

from docs.written.drawing import Lane, Message, Note, State, Way, sequence, states

STORE, QUEUE = "#fdeccd", "#e3f1e7"


def buying() -> str:
    """One purchase over HTTP, in the order of what happens."""
    lanes = [
        Lane("buyer", 95, "#fff"),
        Lane("API", 310),
        Lane("gate (Redis)", 530, STORE),
        Lane("broker", 730, QUEUE),
        Lane("worker", 930),
        Lane("database", 1150, "#f3e6e6"),
    ]
    steps: list[Message | Note] = [
        Message("buyer", "API", "POST /purchase/buy"),
        Message("API", "API", "read, check, make an id if none came"),
        Message("API", "gate (Redis)", "reserve, with whoever waits"),
        Message("gate (Redis)", "gate (Redis)", "one script: check, take, journal as R"),
        Message("gate (Redis)", "API", "taken"),
        Message("API", "broker", "purchases accepted, one message for all of the call"),
        Message("broker", "API", "confirmed"),
        Message("API", "buyer", "200 ACCEPTED", "good"),
        Message("API", "gate (Redis)", "mark Q, with the next call"),
        Note("the buyer has the promise; what follows may take its time"),
        Message("broker", "worker", "a batch"),
        Message("worker", "gate (Redis)", "reserve: it is held already"),
        Message("worker", "database", "ONE transaction: orders, stock, outbox"),
        Message("database", "worker", "the rows that stand"),
        Message("worker", "gate (Redis)", "follow the rows: S"),
        Message("worker", "broker", "acknowledge"),
        Message("worker", "broker", "the relay: OrderCreated from the outbox"),
        Note("a refusal ends after the script"),
        Message("gate (Redis)", "API", "sold out", "bad"),
        Message("API", "buyer", "429: no message, no database", "bad"),
    ]
    return sequence("One purchase over HTTP", lanes, steps)


def gate_states() -> str:
    """The states of a purchase in the gate, and what leads from one to another."""
    boxes = [
        State("no record", "nothing is held", 100, 180, "#fff"),
        State("R", "taken over HTTP", 400, 70),
        State("O", "taken from outside", 400, 290),
        State("Q", "known to be queued", 680, 180, QUEUE),
        State("S", "sold, for ever", 960, 70, STORE),
        State("X", "ended, the id is burned", 960, 290, "#f3e6e6"),
    ]
    ways = [
        Way("M175 165 L322 84", "reserve, HTTP", 215, 112),
        Way("M175 195 L322 276", "reserve, outside", 205, 255),
        Way("M475 84 L602 165", "mark queued,\nor the worker has it", 590, 106),
        Way("M475 276 L602 195", "on accepted,\nof this epoch", 590, 250),
        Way("M755 165 L882 84", "row CONFIRMED", 770, 112, "good"),
        Way("M755 195 L882 276", "row REJECTED", 772, 258, "bad"),
        Way("M475 60 H880", "row CONFIRMED", 680, 50, "good"),
        Way("M475 300 H880", "row REJECTED: the unit is back", 680, 322, "bad"),
        Way("M100 212 V390 H960 V326", "a worker's refusal: no unit was held", 530, 380, "bad"),
    ]
    told = (
        "A purchase is R when its unit was taken over HTTP, O when it was taken for a message from "
        "outside, Q when its message is known to be on the accepted channel, S when it is sold and "
        "X when it ended. R, O and Q hold units; S holds them for ever."
    )
    return states("States of a purchase in the gate", told, (1060, 415), boxes, ways)


def lost_gate() -> str:
    """A gate that lost its memory, and the way back."""
    lanes = [
        Lane("APIs", 110),
        Lane("gate (Redis)", 330, STORE),
        Lane("a worker", 570),
        Lane("broker", 800, QUEUE),
        Lane("database", 1040, "#f3e6e6"),
    ]
    steps: list[Message | Note] = [
        Note("Redis restarts, is emptied or fails over: what was armed stood in its memory alone"),
        Message("APIs", "gate (Redis)", "reserve, epoch 1"),
        Message("gate (Redis)", "APIs", "not armed: buyers hear 503", "bad"),
        Message("a worker", "gate (Redis)", "look: twice a second"),
        Message("a worker", "database", "raise the epoch: 2"),
        Message("a worker", "a worker", "wait until nobody can promise under epoch 1"),
        Message("a worker", "broker", "publish what the journal still names"),
        Message("a worker", "broker", "a barrier on every partition of accepted"),
        Message("broker", "a worker", "all promises, then the barriers"),
        Message("a worker", "database", "record the promises; barriers passed"),
        Message("database", "a worker", "the books: every promise is a row"),
        Message("a worker", "gate (Redis)", "load the books, compare, arm epoch 2", "good"),
        Message("APIs", "gate (Redis)", "reserve, epoch 2: it sells", "good"),
    ]
    return sequence("A gate that lost its memory", lanes, steps)
