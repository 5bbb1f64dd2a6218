"""`flashsale topics`: the broker's topics or queues."""

from cyclopts import App

from flashsale.commands.configured import bus_operator, command_settings, nothing_to_do
from flashsale.commands.console import Json, say, write_json


def build() -> App:
    """Make the group of commands."""
    app = App(name="topics", help="Make Kafka's topics or RabbitMQ's exchange and queues.")
    app.command(ensure)
    return app


async def ensure(*, json: Json = False) -> None:
    """Make what is missing; what exists in another shape is reported and never changed.

    Example: `flashsale topics ensure`
    """
    settings = command_settings()
    operator = await bus_operator(settings)
    if operator is None:
        raise nothing_to_do("FLASHSALE_BUS_URL", settings.bus_url)
    made = list(await operator.ensure())
    if json:
        write_json({"made": made})
        return
    for name in made:
        say(f"made {name}")
    if not made:
        say("nothing to do: all is there, in the shape that it must have")
