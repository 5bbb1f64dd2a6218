-- Write the facts of a batch's new rows to the outbox, in their order.
--
-- Takes    :written_at, and :facts, a JSON array of objects.
insert into outbox (occurrence_id, fact, written_at)
select value ->> 'occurrence_id', value, :written_at
from json_each(:facts)
order by json_each.key
