-- Insert a batch's orders, but for those that have a row already.
--
-- Takes    :recorded_at, and :rows, a JSON array of arrays in the order of the columns below.
-- Returns  the keys of the rows that this statement wrote.
insert into orders (
    sale_id, purchase_id, item_id, user_id, unit_price_minor, currency, quantity, source,
    event_id, door, requested_at, accepted_at, recorded_at, status, reason
)
select
    value ->> 0, value ->> 1, value ->> 2, value ->> 3,
    sales.unit_price_minor, sales.currency, value ->> 4, value ->> 5,
    value ->> 6, value ->> 7, value ->> 8, value ->> 9, :recorded_at,
    value ->> 10, value ->> 11
from json_each(:rows)
left join sales on sales.sale_id = value ->> 0
-- Without this, SQLite takes the conflict clause for a part of the join.
where true
order by json_each.key
on conflict (sale_id, purchase_id) do nothing
returning sale_id, purchase_id
