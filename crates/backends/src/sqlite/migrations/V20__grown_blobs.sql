-- A value that grew from an earlier one is kept as what it adds: `head` bytes of `data`, then `copied` bytes of the value
-- of version `base` from `base_from` on, then the rest of `data`. `nth` counts the values since the one that is whole.
-- `packed` says that `data` is compressed.
ALTER TABLE blob ADD COLUMN base TEXT;
ALTER TABLE blob ADD COLUMN base_from INTEGER NOT NULL DEFAULT 0;
ALTER TABLE blob ADD COLUMN head INTEGER NOT NULL DEFAULT 0;
ALTER TABLE blob ADD COLUMN copied INTEGER NOT NULL DEFAULT 0;
ALTER TABLE blob ADD COLUMN nth INTEGER NOT NULL DEFAULT 0;
ALTER TABLE blob ADD COLUMN packed INTEGER NOT NULL DEFAULT 0;
