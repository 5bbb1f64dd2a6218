"""The pictures of the pages, as data; docs/pictures/ holds them drawn."""

from docs.written.drawing import Lane, Message, Note, State, Way, sequence, states

STORE, QUEUE = "#fdeccd", "#e3f1e7"


def buying() -> str:
    """Draw one purchase over HTTP, in the order of what happens."""
    lanes = [
        Lane("buyer", 95, "#fff"),
        Lane("API", 310),
        Lane("gate (Redis)", 530, STORE),
        Lane("broker", 730, QUEUE),
        Lane("worker", 930),
        Lane("database", 1220, "#f3e6e6"),
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
        Message("worker", "broker", "relay: OrderCreated"),
        Note("a refusal ends after the script: no message, no database"),
        Message("gate (Redis)", "API", "sold out", "bad"),
        Message("API", "buyer", "429", "bad"),
    ]
    return sequence("One purchase over HTTP", lanes, steps)


def gate_states() -> str:
    """Draw the states of a purchase in the gate, and the ways between them."""
    boxes = [
        State("no record", "nothing is held", 100, 180, "#fff"),
        State("R", "taken over HTTP", 400, 90),
        State("O", "taken from outside", 400, 270),
        State("Q", "known to be queued", 650, 180, QUEUE),
        State("S", "sold, for ever", 960, 70, STORE),
        State("X", "ended, the id is burned", 960, 290, "#f3e6e6"),
    ]
    ways = [
        Way("M175 165 L322 104", "reserve, HTTP", 215, 122),
        Way("M175 195 L322 256", "reserve, outside", 205, 252),
        Way("M475 104 L572 160", "mark queued, or\nthe worker has it", 592, 112),
        Way("M475 256 L572 200", "on accepted,\nof this epoch", 592, 240),
        Way("M740 130 L882 84", "row CONFIRMED", 800, 92, "good"),
        Way("M740 230 L882 276", "row REJECTED:\nthe unit is back", 796, 272, "bad"),
        Way("M100 212 V390 H960 V326", "a worker's refusal: no unit was held", 530, 380, "bad"),
    ]
    group = ("each of these holds the unit", 310, 40, 430, 285)
    told = (
        "A purchase is R when its unit was taken over HTTP, O when it was taken for a message from "
        "outside, Q when its message is known to be on the accepted channel, S when it is sold and "
        "X when it ended. R, O and Q hold units; S holds them for ever."
    )
    return states("States of a purchase in the gate", told, (1060, 415), boxes, ways, group)


def lost_gate() -> str:
    """Draw how a gate that lost its memory comes back."""
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
        Message("a worker", "broker", "what the journal still names"),
        Message("a worker", "broker", "a barrier on every partition"),
        Message("broker", "a worker", "all promises, then the barriers"),
        Message("a worker", "database", "record the promises; barriers passed"),
        Message("database", "a worker", "the books: every promise is a row"),
        Message("a worker", "gate (Redis)", "load the books, compare, arm epoch 2", "good"),
        Message("APIs", "gate (Redis)", "reserve, epoch 2: it sells", "good"),
    ]
    return sequence("A gate that lost its memory", lanes, steps)
