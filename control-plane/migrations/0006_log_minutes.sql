CREATE TABLE "log_minutes" (
	"minute" timestamp with time zone NOT NULL,
	"project_id" text NOT NULL,
	"bytes" bigint NOT NULL,
	"last_id" bigint NOT NULL,
	CONSTRAINT "log_minutes_minute_project_id_pk" PRIMARY KEY("minute","project_id")
);
--> statement-breakpoint
ALTER TABLE "log_minutes" ADD CONSTRAINT "log_minutes_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
-- Lines that are there already. Their times are their nodes' own: a minute never comes before one with older ids.
INSERT INTO "log_minutes" SELECT "minute", "project_id", sum(octet_length("text") + 280), max("id") FROM (SELECT date_trunc('minute', max("at") OVER (ORDER BY "id")) AS "minute", "project_id", "text", "id" FROM "log_lines") AS "lines" GROUP BY 1, 2;
