-- Write the facts of a batch's new rows to the outbox, in their order.
--
-- Takes    :written_at, and arrays of the facts' ids and of their JSON.
-- Locks    nothing that anybody waits for.
insert into outbox (occurrence_id, fact, written_at)
select
    given.occurrence_id, cast(given.fact as json),
    timestamptz 'epoch' + cast(:written_at as bigint) * interval '1 millisecond'
from unnest(cast(:occurrence_id as text[]), cast(:fact as text[]))
with ordinality as given (occurrence_id, fact, position)
order by given.position
