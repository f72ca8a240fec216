CREATE TRIGGER zt_audit_in_order BEFORE INSERT ON zt_audit
WHEN NEW.leaf_index <> (SELECT COALESCE(MAX(leaf_index) + 1, 0) FROM zt_audit)
BEGIN SELECT RAISE(ABORT, 'zt_audit: leaves follow one another'); END;
CREATE TRIGGER zt_audit_no_update BEFORE UPDATE ON zt_audit
BEGIN SELECT RAISE(ABORT, 'zt_audit: append only'); END;
CREATE TRIGGER zt_audit_no_delete BEFORE DELETE ON zt_audit
BEGIN SELECT RAISE(ABORT, 'zt_audit: append only'); END;
