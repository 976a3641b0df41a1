CREATE TABLE "async_invocations" (
	"id" uuid PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"lane_id" uuid NOT NULL,
	"kind" text NOT NULL,
	"function_id" uuid NOT NULL,
	"function_name" text NOT NULL,
	"version_id" uuid,
	"trigger" text NOT NULL,
	"payload" "bytea" NOT NULL,
	"context" jsonb NOT NULL,
	"status" text DEFAULT 'queued' NOT NULL,
	"epoch" integer DEFAULT 0 NOT NULL,
	"attempts" smallint DEFAULT 0 NOT NULL,
	"losses" smallint DEFAULT 0 NOT NULL,
	"deferrals" smallint DEFAULT 0 NOT NULL,
	"not_before" timestamp with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"outcome" text,
	"error" jsonb,
	"receipt" jsonb,
	"reason" text,
	"owner" uuid,
	"lease_until" timestamp with time zone,
	"node_id" text,
	"boot_id" text,
	"cancel_requested_at" timestamp with time zone,
	"accepted_at" timestamp with time zone DEFAULT now() NOT NULL,
	"started_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "dead_letters" (
	"id" uuid PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"lane_id" uuid NOT NULL,
	"kind" text NOT NULL,
	"function_id" uuid NOT NULL,
	"function_name" text NOT NULL,
	"version_id" uuid,
	"trigger" text NOT NULL,
	"payload" "bytea" NOT NULL,
	"context" jsonb NOT NULL,
	"condition" text NOT NULL,
	"epoch" integer NOT NULL,
	"attempts" smallint NOT NULL,
	"losses" smallint NOT NULL,
	"outcome" text NOT NULL,
	"error" jsonb,
	"receipt" jsonb,
	"accepted_at" timestamp with time zone NOT NULL,
	"died_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "idempotency_keys" (
	"project_id" text NOT NULL,
	"scope" text NOT NULL,
	"key" text NOT NULL,
	"request_hash" "bytea" NOT NULL,
	"invocation_id" uuid NOT NULL,
	"status_code" smallint,
	"headers" jsonb,
	"body" "bytea",
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"runs_until" timestamp with time zone NOT NULL,
	CONSTRAINT "idempotency_keys_project_id_scope_key_pk" PRIMARY KEY("project_id","scope","key")
);
--> statement-breakpoint
CREATE TABLE "lanes" (
	"id" uuid PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"queued" integer NOT NULL,
	"queued_bytes" bigint NOT NULL,
	"next_due" timestamp with time zone,
	"virtual_time" double precision NOT NULL,
	"turned" smallint DEFAULT 0 NOT NULL
);
--> statement-breakpoint
DROP INDEX "log_lines_once";--> statement-breakpoint
ALTER TABLE "executions" ADD COLUMN "attempts" smallint DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE "executions" ADD COLUMN "accepted_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "executions" ADD COLUMN "recorded_at" timestamp with time zone DEFAULT now() NOT NULL;--> statement-breakpoint
ALTER TABLE "functions" ADD COLUMN "async_retries" smallint DEFAULT 2 NOT NULL;--> statement-breakpoint
ALTER TABLE "functions" ADD COLUMN "async_retry_delays_ms" jsonb DEFAULT '[60000,120000]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "functions" ADD COLUMN "async_max_age_ms" integer DEFAULT 21600000 NOT NULL;--> statement-breakpoint
ALTER TABLE "functions" ADD COLUMN "on_success" jsonb;--> statement-breakpoint
ALTER TABLE "functions" ADD COLUMN "on_failure" jsonb;--> statement-breakpoint
ALTER TABLE "functions" ADD COLUMN "keep_payloads" boolean DEFAULT true NOT NULL;--> statement-breakpoint
ALTER TABLE "log_lines" ADD COLUMN "epoch" integer DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE "async_invocations" ADD CONSTRAINT "async_invocations_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "dead_letters" ADD CONSTRAINT "dead_letters_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD CONSTRAINT "idempotency_keys_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "lanes" ADD CONSTRAINT "lanes_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "async_invocations_queued" ON "async_invocations" USING btree ("lane_id","not_before","id") WHERE status = 'queued';--> statement-breakpoint
CREATE INDEX "async_invocations_leased" ON "async_invocations" USING btree ("lease_until") WHERE lease_until is not null;--> statement-breakpoint
CREATE INDEX "async_invocations_project" ON "async_invocations" USING btree ("project_id","id");--> statement-breakpoint
CREATE INDEX "dead_letters_project" ON "dead_letters" USING btree ("project_id","id");--> statement-breakpoint
CREATE INDEX "dead_letters_function" ON "dead_letters" USING btree ("project_id","function_name","id");--> statement-breakpoint
CREATE INDEX "dead_letters_died" ON "dead_letters" USING btree ("died_at");--> statement-breakpoint
CREATE INDEX "idempotency_keys_created" ON "idempotency_keys" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "lanes_waiting" ON "lanes" USING btree ("virtual_time") WHERE next_due is not null;--> statement-breakpoint
CREATE INDEX "executions_recorded" ON "executions" USING btree ("recorded_at");--> statement-breakpoint
CREATE UNIQUE INDEX "log_lines_once" ON "log_lines" USING btree ("execution_id","epoch","sequence");