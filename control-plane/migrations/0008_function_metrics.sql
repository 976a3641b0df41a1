CREATE TABLE "function_hours" (
	"hour" timestamp with time zone NOT NULL,
	"project_id" text NOT NULL,
	"function_id" uuid NOT NULL,
	"function_name" text NOT NULL,
	"invocations" integer NOT NULL,
	"function_errors" integer NOT NULL,
	"timeouts" integer NOT NULL,
	"outcome_unknown" integer NOT NULL,
	"not_started" integer NOT NULL,
	"throttles" integer NOT NULL,
	"cold" integer NOT NULL,
	"blank" integer NOT NULL,
	"warm" integer NOT NULL,
	"duration_ms" double precision NOT NULL,
	"cpu_ms" double precision NOT NULL,
	"memory_peak_bytes" bigint NOT NULL,
	"durations" jsonb NOT NULL,
	"cpus" jsonb NOT NULL,
	CONSTRAINT "function_hours_project_id_function_id_hour_pk" PRIMARY KEY("project_id","function_id","hour")
);
--> statement-breakpoint
CREATE TABLE "function_minutes" (
	"minute" timestamp with time zone NOT NULL,
	"project_id" text NOT NULL,
	"function_id" uuid NOT NULL,
	"function_name" text NOT NULL,
	"invocations" integer NOT NULL,
	"function_errors" integer NOT NULL,
	"timeouts" integer NOT NULL,
	"outcome_unknown" integer NOT NULL,
	"not_started" integer NOT NULL,
	"throttles" integer NOT NULL,
	"cold" integer NOT NULL,
	"blank" integer NOT NULL,
	"warm" integer NOT NULL,
	"duration_ms" double precision NOT NULL,
	"cpu_ms" double precision NOT NULL,
	"memory_peak_bytes" bigint NOT NULL,
	"durations" jsonb NOT NULL,
	"cpus" jsonb NOT NULL,
	CONSTRAINT "function_minutes_project_id_function_id_minute_pk" PRIMARY KEY("project_id","function_id","minute")
);
--> statement-breakpoint
CREATE TABLE "metric_progress" (
	"name" text PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"rolled_until" timestamp with time zone NOT NULL
);
--> statement-breakpoint
ALTER TABLE "function_hours" ADD CONSTRAINT "function_hours_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "function_minutes" ADD CONSTRAINT "function_minutes_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "metric_progress" ADD CONSTRAINT "metric_progress_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "function_hours_hour" ON "function_hours" USING btree ("hour");--> statement-breakpoint
CREATE INDEX "function_minutes_minute" ON "function_minutes" USING btree ("minute");--> statement-breakpoint
CREATE INDEX "executions_failed" ON "executions" USING btree ("project_id","id") WHERE outcome <> 'success';--> statement-breakpoint
-- Executions that are there already stay out: they all claim to have been recorded when that column was added.
INSERT INTO "metric_progress" VALUES ('executions', 'default', clock_timestamp());
