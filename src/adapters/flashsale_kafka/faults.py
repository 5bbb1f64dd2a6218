"""The one place where the driver's exceptions become the engine's."""

import ssl

from aiokafka import errors as kafka

from flashsale_core.errors import Corrupt, FlashsaleError, Unavailable, Why

DRIVER_ERRORS: tuple[type[Exception], ...] = (
    kafka.KafkaError,
    kafka.ConsumerStoppedError,
    kafka.IllegalOperation,
    OSError,
    TimeoutError,
)
"""Whatever aiokafka raises when the brokers, the line or its own state fail."""
DETAIL_CHARS_MAX = 300
"""A broker's text is for a log line, not for a page."""

LOGIN = (
    kafka.AuthenticationFailedError,
    kafka.SaslAuthenticationFailed,
    kafka.IllegalSaslStateError,
    kafka.DelegationTokenAuthDisabled,
    kafka.DelegationTokenAuthorizationFailed,
    kafka.DelegationTokenExpired,
    kafka.DelegationTokenNotFound,
    kafka.DelegationTokenOwnerMismatch,
    kafka.DelegationTokenRequestNotAllowed,
    kafka.InvalidPrincipalType,
)
MECHANISM = (
    kafka.UnsupportedSaslMechanismError,
    kafka.AuthenticationMethodNotSupported,
    kafka.SecurityDisabled,
)
RIGHTS = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
    kafka.PolicyViolationError,
)
TOPOLOGY = (
    kafka.UnknownTopicOrPartitionError,
    kafka.InvalidTopicError,
    kafka.InvalidPartitionsError,
    kafka.InvalidReplicationFactorError,
    kafka.InvalidReplicationAssignmentError,
    kafka.InvalidConfigurationError,
    kafka.TopicAlreadyExistsError,
)
AWAY = (
    kafka.KafkaConnectionError,
    kafka.KafkaUnavailableError,
    kafka.KafkaTimeoutError,
    kafka.NoBrokersAvailable,
    kafka.NodeNotReadyError,
    kafka.RequestTimedOutError,
    kafka.BrokerNotAvailableError,
    kafka.ReplicaNotAvailableError,
    kafka.LeaderNotAvailableError,
    kafka.NotLeaderForPartitionError,
    kafka.NotControllerError,
    kafka.NotEnoughReplicasError,
    kafka.NotEnoughReplicasAfterAppendError,
    kafka.GroupCoordinatorNotAvailableError,
    kafka.GroupLoadInProgressError,
    kafka.NotCoordinatorForGroupError,
    kafka.KafkaStorageError,
    kafka.LogDirNotFound,
    kafka.ListenerNotFound,
    kafka.MetadataEmptyBrokerList,
    kafka.StaleMetadata,
    kafka.StaleControllerEpochError,
    kafka.StaleLeaderEpochCodeError,
    kafka.ReassignmentInProgress,
    kafka.TooManyInFlightRequests,
    kafka.QuotaViolationError,
    kafka.Cancelled,
    kafka.CorrelationIdError,
    kafka.KafkaProtocolError,
)
SPENT = (
    kafka.OutOfOrderSequenceNumber,
    kafka.UnknownProducerId,
    kafka.InvalidProducerEpoch,
    kafka.InvalidProducerIdMapping,
    kafka.ProducerFenced,
    kafka.ProducerClosed,
    kafka.TransactionCoordinatorFenced,
)
"""A producer's life has ended: aiokafka has no epoch bump, so only a new producer goes on."""
TOO_LARGE = (
    kafka.MessageSizeTooLargeError,
    kafka.RecordListTooLargeError,
    kafka.RecordTooLargeError,
)
LOST = (
    kafka.CommitFailedError,
    kafka.IllegalGenerationError,
    kafka.UnknownMemberIdError,
    kafka.RebalanceInProgressError,
    kafka.IllegalStateError,
    kafka.ConsumerStoppedError,
)
"""Said of partitions that this process no longer owns."""
CODEC = (kafka.UnsupportedCodecError,)
UNEXPECTED = (
    kafka.KafkaError,
    kafka.BrokerResponseError,
    kafka.NoError,
    kafka.UnknownError,
    kafka.ConcurrentTransactions,
    kafka.CorruptRecordException,
    kafka.DuplicateSequenceNumber,
    kafka.FetchSessionIdNotFound,
    kafka.GroupIdNotFound,
    kafka.IllegalArgumentError,
    kafka.IllegalOperation,
    kafka.IncompatibleBrokerVersion,
    kafka.InconsistentGroupProtocolError,
    kafka.InvalidCommitOffsetSizeError,
    kafka.InvalidFetchRequestError,
    kafka.InvalidFetchSessionEpoch,
    kafka.InvalidGroupIdError,
    kafka.InvalidRequestError,
    kafka.InvalidRequiredAcksError,
    kafka.InvalidSessionTimeoutError,
    kafka.InvalidTimestampError,
    kafka.InvalidTransactionTimeout,
    kafka.InvalidTxnState,
    kafka.KafkaConfigurationError,
    kafka.MemberIdRequired,
    kafka.NoOffsetForPartitionError,
    kafka.NonEmptyGroup,
    kafka.OffsetMetadataTooLargeError,
    kafka.OffsetOutOfRangeError,
    kafka.OperationNotAttempted,
    kafka.UnrecognizedBrokerVersion,
    kafka.UnsupportedForMessageFormatError,
    kafka.UnsupportedVersionError,
)
"""A fault of this adapter or of an unfamiliar broker: said with its name, tried again later."""

MEANINGS: dict[type[Exception], str] = {
    **dict.fromkeys(
        LOGIN,
        "the broker refused the login; check FLASHSALE_KAFKA_USERNAME and FLASHSALE_KAFKA_PASSWORD",
    ),
    **dict.fromkeys(
        MECHANISM,
        "the broker does not offer this login mechanism; check FLASHSALE_KAFKA_SASL_MECHANISM",
    ),
    **dict.fromkeys(RIGHTS, "the broker's user lacks a right, or a policy forbids it"),
    **dict.fromkeys(
        TOPOLOGY, "a topic is missing or wrong; `flashsale topics ensure` creates and compares"
    ),
    **dict.fromkeys(AWAY, "no broker answers for it (FLASHSALE_BUS_URL)"),
    **dict.fromkeys(SPENT, "the producer's life ended; the next publish begins another"),
    **dict.fromkeys(TOO_LARGE, "the message is larger than the topic takes"),
    **dict.fromkeys(LOST, "the partition is another worker's by now"),
    **dict.fromkeys(CODEC, "a compression library is missing; install flashsale[kafka]"),
    **dict.fromkeys(UNEXPECTED, "the broker answered something unexpected"),
}
NEEDS_A_PERSON = (*LOGIN, *MECHANISM, *RIGHTS, ssl.SSLError)
"""Waiting does not mend these."""


def translated(
    exc: BaseException, doing: str, *, may_have_happened: bool = False
) -> FlashsaleError:
    """Say what an error of the driver means; `doing` opens the text."""
    detail = f"{doing}: {_meaning(exc)}"
    if isinstance(exc, TOO_LARGE):
        return Corrupt("too-large", detail)
    return Unavailable(Why.BUS_AWAY, detail, may_have_happened=may_have_happened)


def _meaning(exc: BaseException) -> str:
    text = " ".join(str(exc).split())[:DETAIL_CHARS_MAX]
    said = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    match exc:
        case ssl.SSLCertVerificationError():
            return f"the broker's certificate is not trusted; check FLASHSALE_KAFKA_CA ({said})"
        case ssl.SSLError():
            return f"no TLS on that port; check FLASHSALE_KAFKA_SECURITY_PROTOCOL ({said})"
        case OSError():
            return f"{MEANINGS[kafka.KafkaConnectionError]} ({said})"
        case _:
            meaning = MEANINGS.get(type(exc), MEANINGS[kafka.KafkaError])  # type: ignore[arg-type]
            return f"{meaning} ({said})"
