-- Which certificate a gateway has now, and which it had before: only with these it gets the next.

ALTER TABLE gateways ADD COLUMN leaf TEXT;
ALTER TABLE gateways ADD COLUMN previous TEXT;
UPDATE gateways SET leaf = (
    SELECT c.leaf FROM certificates c
    WHERE c.spiffe_id LIKE '%/countersign/gateway/' || gateways.name
    ORDER BY c.not_after DESC LIMIT 1
);
