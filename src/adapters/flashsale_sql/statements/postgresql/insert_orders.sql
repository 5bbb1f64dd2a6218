-- Insert a batch's orders, but for those that have a row already.
--
-- Takes    :recorded_at, and one array a column, sorted by (sale, purchase id): every batch then
--          meets the same rows in the same order, so two of them wait and never deadlock.
-- Returns  by sale, the ids of the rows that this statement wrote: one row of thousands of ids
--          costs both sides a tenth of thousands of rows.
-- Locks    the new rows; waits for another batch that is writing the same key.
with written as (
insert into orders (
    sale_id, purchase_id, item_id, user_id, unit_price_minor, currency, quantity, source,
    event_id, door, requested_at, accepted_at, recorded_at, status, reason
)
select
    given.sale_id, given.purchase_id, given.item_id, given.user_id,
    sales.unit_price_minor, sales.currency, given.quantity, given.source,
    given.event_id, given.door,
    timestamptz 'epoch' + given.requested_at * interval '1 millisecond',
    timestamptz 'epoch' + given.accepted_at * interval '1 millisecond',
    timestamptz 'epoch' + cast(:recorded_at as bigint) * interval '1 millisecond',
    given.status, given.reason
from unnest(
    cast(:sale_id as text[]), cast(:purchase_id as text[]), cast(:item_id as text[]),
    cast(:user_id as text[]), cast(:quantity as integer[]), cast(:source as text[]),
    cast(:event_id as text[]), cast(:door as text[]), cast(:requested_at as bigint[]),
    cast(:accepted_at as bigint[]), cast(:status as text[]), cast(:reason as text[])
) with ordinality as given (
    sale_id, purchase_id, item_id, user_id, quantity, source,
    event_id, door, requested_at, accepted_at, status, reason, position
)
left join sales on sales.sale_id = given.sale_id
order by given.position
on conflict (sale_id, purchase_id) do nothing
returning sale_id, purchase_id
)
select sale_id, array_agg(purchase_id) from written group by sale_id
