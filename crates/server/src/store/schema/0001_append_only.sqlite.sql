-- What was written stays. `INSERT OR REPLACE` deletes without firing delete triggers, so each
-- table also says in which order rows come: a row can't take the place of another.

CREATE TRIGGER revocations_in_order BEFORE INSERT ON revocations
WHEN NEW.epoch <> (SELECT COALESCE(MAX(epoch), 0) + 1 FROM revocations)
BEGIN SELECT RAISE(ABORT, 'revocations: epochs follow one another'); END;
CREATE TRIGGER revocations_no_update BEFORE UPDATE ON revocations
BEGIN SELECT RAISE(ABORT, 'revocations: append only'); END;
CREATE TRIGGER revocations_no_delete BEFORE DELETE ON revocations
BEGIN SELECT RAISE(ABORT, 'revocations: append only'); END;

CREATE TRIGGER revisions_in_order BEFORE INSERT ON revisions
WHEN NEW.serial <> (SELECT COALESCE(MAX(serial), 0) + 1 FROM revisions)
  OR NEW.predecessor IS NOT (SELECT revision FROM revisions ORDER BY serial DESC LIMIT 1)
BEGIN SELECT RAISE(ABORT, 'revisions: each follows the one before'); END;
CREATE TRIGGER revisions_no_update BEFORE UPDATE ON revisions
BEGIN SELECT RAISE(ABORT, 'revisions: append only'); END;
CREATE TRIGGER revisions_no_delete BEFORE DELETE ON revisions
BEGIN SELECT RAISE(ABORT, 'revisions: append only'); END;

CREATE TRIGGER high_water_no_delete BEFORE DELETE ON high_water
BEGIN SELECT RAISE(ABORT, 'high_water: never falls'); END;
CREATE TRIGGER high_water_no_fall BEFORE UPDATE ON high_water
WHEN NEW.value < OLD.value OR NEW.name <> OLD.name
BEGIN SELECT RAISE(ABORT, 'high_water: never falls'); END;
