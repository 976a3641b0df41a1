CREATE TABLE "log_minutes" (
	"minute" timestamp with time zone NOT NULL,
	"project_id" text NOT NULL,
	"lines" bigint NOT NULL,
	"bytes" bigint NOT NULL,
	"last_id" bigint NOT NULL,
	CONSTRAINT "log_minutes_minute_project_id_pk" PRIMARY KEY("minute","project_id")
);
--> statement-breakpoint
ALTER TABLE "log_minutes" ADD CONSTRAINT "log_minutes_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
INSERT INTO "log_minutes" SELECT date_trunc('minute', "at"), "project_id", count(*), sum(octet_length("text") + 250), max("id") FROM "log_lines" GROUP BY 1, 2;
