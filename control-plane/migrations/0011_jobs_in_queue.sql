DROP INDEX "jobs_project_status";--> statement-breakpoint
ALTER TABLE "lanes" ADD COLUMN "jobs" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE INDEX "jobs_finished_by_status" ON "jobs" USING btree ("project_id","status","id") WHERE finished_at is not null;--> statement-breakpoint
-- Jobs that have not ended move into the queue. Their lanes have ids of their own, which nothing else has: what is handed in
-- from now on waits in others.
INSERT INTO "async_invocations" (
	"id", "project_id", "lane_id", "kind", "function_id", "function_name", "trigger", "payload", "context", "status", "epoch",
	"attempts", "not_before", "expires_at", "outcome", "error", "receipt", "reason", "cancel_requested_at", "accepted_at"
)
SELECT
	"id", "project_id", md5("project_id" || '/' || "runtime" || '/' || "memory_mb")::uuid, 'job',
	md5("project_id" || '/' || "runtime" || '/' || "memory_mb")::uuid, 'job', 'job', convert_to(coalesce("args", '{}'), 'UTF8'), '{}',
	'queued', 0, "attempts", "not_before", "created_at" + interval '6 hours', "outcome", "error", "receipt", "reason",
	"cancel_requested_at", "created_at"
FROM "jobs" WHERE "finished_at" IS NULL AND "status" = 'queued';
--> statement-breakpoint
INSERT INTO "lanes" ("id", "project_id", "queued", "queued_bytes", "next_due", "virtual_time", "jobs")
SELECT "lane_id", "project_id", count(*), sum(octet_length("payload")), min("not_before"),
	coalesce((SELECT min("virtual_time") FROM "lanes" WHERE "next_due" IS NOT NULL), 0), true
FROM "async_invocations" WHERE "kind" = 'job' AND "status" = 'queued' GROUP BY "lane_id", "project_id";
--> statement-breakpoint
-- Those that run do so under ids of their attempts, which the queue does not know: their agents would say that they have no
-- such job, and it would run twice at once. So they are on a node that nobody is, and run again, as after a loss, when their
-- budgets have passed. Their results are not waited for.
INSERT INTO "async_invocations" (
	"id", "project_id", "lane_id", "kind", "function_id", "function_name", "trigger", "payload", "context", "status", "epoch",
	"attempts", "expires_at", "outcome", "error", "receipt", "lease_until", "node_id", "boot_id", "cancel_requested_at",
	"accepted_at", "started_at"
)
SELECT
	"id", "project_id", md5("project_id" || '/' || "runtime" || '/' || "memory_mb")::uuid, 'job',
	md5("project_id" || '/' || "runtime" || '/' || "memory_mb")::uuid, 'job', 'job', convert_to(coalesce("args", '{}'), 'UTF8'), '{}',
	'running', 1, greatest("attempts" - 1, 0), greatest(now(), "created_at") + interval '6 hours', "outcome", "error", "receipt", now(),
	'of the release before', '', "cancel_requested_at", "created_at", coalesce("started_at", now())
FROM "jobs" WHERE "finished_at" IS NULL AND "status" = 'running';
--> statement-breakpoint
-- Long arguments are in the queue alone.
UPDATE "jobs" SET "args" = NULL WHERE "finished_at" IS NULL AND "args_bytes" > 65536;
