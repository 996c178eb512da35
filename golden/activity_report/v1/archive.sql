-- Run on the empty database before the import: an id of its own would differ every time.
UPDATE archive SET database_id = '9a4d2e70-3b5c-4d18-a6f1-5e7b0c92d834';
