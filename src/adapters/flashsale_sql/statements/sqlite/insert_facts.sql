-- Write the facts of a batch's new rows to the outbox, in their order.
--
-- Takes    :written_at, and :rows, a JSON array of [id, the fact's JSON as a text].
insert into outbox (occurrence_id, fact, written_at)
select value ->> 0, value ->> 1, :written_at
from json_each(:rows)
order by json_each.key
