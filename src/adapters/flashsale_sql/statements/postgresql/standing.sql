-- Read the rows that stand for purchases.
--
-- Takes    arrays of sale ids and purchase ids, pair by pair.
-- Returns  (sale, purchase id, status, reason) of each that has a row.
select orders.sale_id, orders.purchase_id, orders.status, orders.reason
from unnest(cast(:sale_id as text[]), cast(:purchase_id as text[]))
    as given (sale_id, purchase_id)
join orders using (sale_id, purchase_id)
