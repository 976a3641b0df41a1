-- The project that owns everything until projects can be made.
INSERT INTO "projects" ("project_id") VALUES ('default') ON CONFLICT DO NOTHING;
