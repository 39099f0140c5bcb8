-- Of the attempts of a run, those that were not its fault; and how often it was there when a worker died that several
-- runs shared.
ALTER TABLE run ADD COLUMN uncounted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN shared_losses INTEGER NOT NULL DEFAULT 0;
