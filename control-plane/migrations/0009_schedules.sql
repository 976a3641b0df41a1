CREATE TABLE "schedule_ticks" (
	"schedule_id" uuid NOT NULL,
	"id" bigint GENERATED ALWAYS AS IDENTITY (sequence name "schedule_ticks_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"project_id" text NOT NULL,
	"trigger" text NOT NULL,
	"tick_at" timestamp with time zone NOT NULL,
	"outcome" text NOT NULL,
	"invocation_id" uuid,
	"count" integer DEFAULT 1 NOT NULL,
	"until" timestamp with time zone,
	"recorded_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "schedule_ticks_schedule_id_id_pk" PRIMARY KEY("schedule_id","id")
);
--> statement-breakpoint
CREATE TABLE "schedules" (
	"id" uuid PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"name" text NOT NULL,
	"function_id" uuid NOT NULL,
	"function_name" text NOT NULL,
	"expression" text NOT NULL,
	"time_zone" text NOT NULL,
	"anchor_at" timestamp with time zone NOT NULL,
	"payload" "bytea",
	"enabled" boolean NOT NULL,
	"overlap" text NOT NULL,
	"catch_up_ms" integer NOT NULL,
	"jitter_ms" integer NOT NULL,
	"next_tick_at" timestamp with time zone,
	"waiting_tick_at" timestamp with time zone,
	"revision" integer DEFAULT 0 NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "schedule_ticks" ADD CONSTRAINT "schedule_ticks_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "schedules" ADD CONSTRAINT "schedules_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "schedules" ADD CONSTRAINT "schedules_function_exists" FOREIGN KEY ("function_id") REFERENCES "public"."functions"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "schedule_ticks_recorded" ON "schedule_ticks" USING btree ("recorded_at");--> statement-breakpoint
CREATE UNIQUE INDEX "schedules_project_name" ON "schedules" USING btree ("project_id","name");--> statement-breakpoint
CREATE INDEX "schedules_function" ON "schedules" USING btree ("function_id");--> statement-breakpoint
CREATE INDEX "schedules_due" ON "schedules" USING btree ("next_tick_at") WHERE enabled;--> statement-breakpoint
CREATE INDEX "schedules_waiting" ON "schedules" USING btree ("id") WHERE enabled and waiting_tick_at is not null;--> statement-breakpoint
CREATE INDEX "async_invocations_schedule" ON "async_invocations" USING btree ((context ->> 'scheduleId')) WHERE trigger = 'schedule';