-- name: steps_done
SELECT obj_description(to_regclass(quote_ident(current_schema()) || '.embedq_schema_version'), 'pg_class') AS said

-- name: note_steps
COMMENT ON TABLE embedq_schema_version IS {note}
