-- Run on the empty database before the import: an id of its own would differ every time.
UPDATE archive SET database_id = '7c1e4a52-9b0d-4f6e-8a35-d2c9b1f07e64';
