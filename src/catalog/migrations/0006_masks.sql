-- What a share's pseudonyms are made with: 32 bytes that nobody is shown.

ALTER TABLE shares ADD COLUMN mask_key BLOB NOT NULL DEFAULT x'' CHECK (mask_key = x'' OR length(mask_key) = 32);
UPDATE shares SET mask_key = randomblob(32);
