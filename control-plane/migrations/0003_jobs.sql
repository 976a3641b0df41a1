CREATE TABLE "jobs" (
	"id" uuid PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"status" text DEFAULT 'queued' NOT NULL,
	"runtime" text NOT NULL,
	"memory_mb" integer NOT NULL,
	"timeout_ms" integer NOT NULL,
	"init_timeout_ms" integer NOT NULL,
	"retries" smallint NOT NULL,
	"code" text NOT NULL,
	"args" text,
	"args_bytes" integer NOT NULL,
	"attempts" smallint DEFAULT 0 NOT NULL,
	"execution_ids" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"not_before" timestamp with time zone DEFAULT now() NOT NULL,
	"reason" text,
	"cancel_requested_at" timestamp with time zone,
	"node_id" text,
	"boot_id" text,
	"outcome" text,
	"error" jsonb,
	"result" text,
	"result_bytes" integer,
	"receipt" jsonb,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"started_at" timestamp with time zone,
	"finished_at" timestamp with time zone
);
--> statement-breakpoint
ALTER TABLE "jobs" ADD CONSTRAINT "jobs_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "jobs_project" ON "jobs" USING btree ("project_id","id");--> statement-breakpoint
CREATE INDEX "jobs_project_status" ON "jobs" USING btree ("project_id","status","id");--> statement-breakpoint
CREATE INDEX "jobs_unfinished" ON "jobs" USING btree ("project_id","id") WHERE finished_at is null;--> statement-breakpoint
CREATE INDEX "jobs_finished" ON "jobs" USING btree ("finished_at") WHERE finished_at is not null;