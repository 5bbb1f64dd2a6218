-- Write the facts of a batch's new rows to the outbox, in their order.
--
-- Takes    :written_at, and :facts, a JSON array of objects.
-- Locks    nothing that anybody waits for.
insert into outbox (occurrence_id, fact, written_at)
select
    given.fact ->> 'occurrence_id', given.fact,
    timestamptz 'epoch' + cast(:written_at as bigint) * interval '1 millisecond'
from json_array_elements(cast(cast(:facts as text) as json))
with ordinality as given (fact, position)
order by given.position
