-- Read the rows that stand for purchases.
--
-- Takes    :rows, a JSON array of [sale, purchase id].
-- Returns  (sale, purchase id, status, reason) of each that has a row.
select orders.sale_id, orders.purchase_id, orders.status, orders.reason
from json_each(:rows)
join orders on orders.sale_id = value ->> 0 and orders.purchase_id = value ->> 1
