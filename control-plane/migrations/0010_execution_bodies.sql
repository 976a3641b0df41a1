CREATE TABLE "execution_bodies" (
	"execution_id" uuid PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"input" "bytea",
	"output" "bytea",
	"kept_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "execution_bodies" ADD CONSTRAINT "execution_bodies_project_id_projects_project_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("project_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "execution_bodies_kept" ON "execution_bodies" USING btree ("kept_at");--> statement-breakpoint
CREATE INDEX "executions_failed_by_function" ON "executions" USING btree ("project_id","function_name","id") WHERE outcome <> 'success';--> statement-breakpoint
CREATE INDEX "functions_keeping_nothing" ON "functions" USING btree ("id") WHERE not keep_payloads;--> statement-breakpoint
-- Compressing a megabyte of JSON takes longer than everything else about it, for a day that it is kept.
ALTER TABLE "execution_bodies" ALTER COLUMN "input" SET STORAGE EXTERNAL, ALTER COLUMN "output" SET STORAGE EXTERNAL;
