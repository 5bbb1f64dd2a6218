"""What others build against: schemas, metadata of messages, the HTTP API."""

from tests.antitests.antitest import AntiTest, Patch

COMPATIBILITY = "src/adapters/flashsale_avro/compatibility.py:"
SCHEMAS = "tests/unit/test_schema_compatibility.py::"
REFUSED = f"{SCHEMAS}test_each_kind_of_breaking_change_is_refused_with_its_place"
OPENAPI = "tests/contracts/openapi_changes.py:"
BROKEN = "tests/unit/test_openapi_changes.py::"
REFUSED_HTTP = f"{BROKEN}test_a_breaking_change_fails_the_build_and_names_its_place"

ANTITESTS = (
    AntiTest(
        name="old-writers-are-known",
        promise=22,
        mechanism="what an earlier release wrote is read without a registry",
        where="src/adapters/flashsale_avro/known_schemas.py:KnownSchemas.__init__",
        patches=(
            Patch(
                "                self._verdicts[header] = admit(text)\n", "                pass\n"
            ),
        ),
        test=f"{SCHEMAS}test_what_an_earlier_release_wrote_is_read_without_a_registry",
    ),
    AntiTest(
        name="old-readers-are-asked",
        promise=22,
        mechanism="a schema is refused that an earlier release could not read",
        where=f"{COMPATIBILITY}_compared",
        patches=(Patch(", Direction.FORWARD: (theirs, ours)}", "}"),),
        test=REFUSED,
    ),
    AntiTest(
        name="old-messages-are-asked",
        promise=22,
        mechanism="a schema is refused that could not read what an earlier release wrote",
        where=f"{COMPATIBILITY}_compared",
        patches=(Patch("Direction.BACKWARD: (ours, theirs), ", ""),),
        test=REFUSED,
    ),
    AntiTest(
        name="times-keep-their-unit",
        promise=22,
        mechanism="a time whose unit changes is refused, which Avro's own rules do not see",
        where=f"{COMPATIBILITY}_unseen",
        patches=(Patch("if kinds and before and kinds != before:", "if False:"),),
        test=REFUSED,
    ),
    AntiTest(
        name="symbols-stay",
        promise=22,
        mechanism="a symbol that goes is refused, also where the enum has a default",
        where=f"{COMPATIBILITY}_unseen",
        patches=(Patch("            if odd:\n", "            if False:\n"),),
        test=REFUSED,
    ),
    AntiTest(
        name="names-are-whole",
        promise=22,
        mechanism="a record that changes its namespace is refused",
        where=f"{COMPATIBILITY}_misnamed",
        patches=(Patch("    if name != record:\n", "    if False:\n"),),
        test=REFUSED,
    ),
    AntiTest(
        name="attributes-as-bound",
        promise=22,
        mechanism="CloudEvents' attributes have the names of the broker's binding",
        where="src/adapters/flashsale_rabbitmq/wire.py:_bound",
        patches=(
            Patch(
                "    return ATTRIBUTE_HEADERS + name.removeprefix(ATTRIBUTE_PREFIX)\n",
                "    return name\n",
            ),
        ),
        test="tests/unit/test_cloudevents.py::"
        "test_a_follow_up_event_is_a_cloud_event_on_both_brokers",
        reddens_by="CloudEventValidationError",
    ),
    AntiTest(
        name="answers-are-judged-the-other-way",
        promise=22,
        mechanism="an answer may say less than before and never more",
        where=f"{OPENAPI}_Pair.answer",
        patches=(
            Patch(
                "_Part(self.new, self.old, is_answer=True).of(new, old, place)",
                "_Part(self.old, self.new, is_answer=True).of(old, new, place)",
            ),
        ),
        test=REFUSED_HTTP,
    ),
    AntiTest(
        name="unknown-keywords-are-errors",
        promise=22,
        mechanism="what the comparison of HTTP documents does not know is never passed over",
        where=f"{OPENAPI}_resolved",
        patches=(Patch("    if unknown:\n", "    if False:\n"),),
        test=f"{BROKEN}test_a_keyword_that_nobody_judges_is_never_passed_over",
    ),
)
